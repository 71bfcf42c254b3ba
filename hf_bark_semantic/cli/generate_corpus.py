"""Stage 1. Generate a corpus of labelled speech with a Bark: texts x voices x temperatures, filtered, resumable.

    accelerate launch -m hf_bark_semantic.cli.generate_corpus --texts sentences/en*.txt --voices presets \\
        --bark suno/bark-small --output outputs/corpus --dry-run
    accelerate launch -m hf_bark_semantic.cli.generate_corpus (the same, without --dry-run)
    accelerate launch --num_processes 8 -m hf_bark_semantic.cli.generate_corpus (the same) \\
        --push-to-hub me/bark-corpus --license cc0-1.0
    ACCELERATE_USE_CPU=1 torchrun --nproc_per_node 2 -m hf_bark_semantic.cli.generate_corpus (the same)    (on CPUs)

    after: outputs/corpus/   data/train-*.parquet  shards/*.json  corpus.json  README.md (the dataset card)

A killed command continues when it is started again, with any number of processes. All processes, on all machines, must
see the same output folder; nothing in it is locked. Independent commands, such as the tasks of a Slurm array, share a
corpus with --part 1/16 to --part 16/16. Each generates its part, then the shards that are still missing, and ends when
the corpus is complete. So the part of a lost command is generated, too.

A higher --rows extends a finished corpus. --folds gives every row a fold to hold out; such a corpus cannot be
extended. fold_corpus does the same later, for any corpus. `train_encoder.py` and `datasets.load_dataset` read the
folder. Texts are a .txt file, a table, whose columns are printed, or a dataset's folder or Hub id. Voices are names of
the Bark's presets, "presets" for all of them, .npz prompts, folders of them, or "none".
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import AutoConfig, BarkProcessor

from ..bark.configs import SUNO_TEMPERATURES
from ..bark.loading import load_bark, load_bark_processor, load_codec, load_configs
from ..bark.synthesis import synthesize
from ..corpus.card import corpus_card, corpus_summary
from ..corpus.columns import COLUMNS_HELP, parse_columns
from ..corpus.cost import Speed, describe_cost, measured_speed, recorded_speed
from ..corpus.filters import Filters
from ..corpus.generation import WHOLE, Part, Recipe, Speak, generate_corpus, model_revision
from ..corpus.plan import CorpusPlan
from ..corpus.shards import open_corpus
from ..corpus.texts import fits_bark, load_sentences, speakable_sentences
from ..corpus.voices import load_voices
from ..evaluation.judges import TRANSCRIBERS, load_speaker_embedder, load_transcriber
from ..evaluation.utterances import SpeakerSimilarity, WordErrorRate
from ..files import write_text
from ..packaged import NANO, bark_folder, card_template
from ..trainers.folds import choose_folds, folds_in_words
from ..voices.cloning import decode_codes
from .console import errors_as_one_sentence
from .processes import start_processes
from .publish import publish_and_print
from .route import first_training, folding, say_next


@errors_as_one_sentence
def main(arguments=None):
    args = parse_arguments(arguments)
    template = card_template("corpus")  # raises an error before the generation if it is missing
    accelerator = start_processes()
    place = str(bark_folder(args.bark))
    processor = load_bark_processor(place, revision=args.revision)
    plan = make_plan(args, place, processor, accelerator.print)
    folds = None if args.folds is None else make_folds(plan, args.folds, accelerator.print)
    load_speaker = partial(make_speaker, args, processor, accelerator.device)
    if args.dry_run:
        if accelerator.is_main_process:
            print(dry_run(args, plan, load_speaker, accelerator))
        return
    recipe = make_recipe(args, place, accelerator.device, folds)
    if accelerator.is_main_process:
        open_corpus(args.output, {"plan": plan.description(), "recipe": recipe.description()})
    accelerator.wait_for_everyone()  # the last synchronization; later, a lost process blocks no other
    part = part_of_process(args.part, accelerator)
    log = print if accelerator.is_main_process else None
    generate_corpus(args.output, plan, recipe, load_speaker=load_speaker, part=part, log=log)
    if accelerator.is_main_process:
        finish(args, template, recipe)


def finish(args, template: Path, recipe: Recipe) -> None:
    """Write the card, print a summary, publish the corpus if requested, and print the next command."""
    texts = [Path(text).name for text in args.texts]
    write_text(args.output / "README.md", corpus_card(args.output, template, texts=texts, license_id=args.license))
    print(corpus_summary(args.output))
    if args.push_to_hub:
        # Damaged shards that were replaced are still in set_aside/.
        publish_and_print(args.output, args.push_to_hub, private=args.private, leave_others=True)
    say_next(*(folding(args.output) if recipe.folds is None else first_training(args.output, recipe.model)))


def parse_arguments(arguments=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", nargs="+", required=True, help="files, folders or Hub ids")
    parser.add_argument("--columns", metavar="text=..,language=..", help=COLUMNS_HELP)
    parser.add_argument("--language", help="language of all texts without a column or file name for it")
    parser.add_argument(
        "--voices", nargs="+", default=["presets"],
        help="presets of the Bark, .npz prompts, folders of them, 'presets' for all, or 'none' (default: presets)",
    )  # fmt: skip
    parser.add_argument("--any-language", action="store_true", help="voices speak texts of other languages, too")
    parser.add_argument("--bark", default=NANO, help="Hub id, folder or nano (default: nano)")
    parser.add_argument("--revision", help="revision of the Hub id")
    parser.add_argument(
        "--dtype", default="float32", choices=["float32", "bfloat16", "float16"],
        help="precision of the computation (default: float32)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, help="folder of the corpus")
    parser.add_argument("--rows", type=int, help="rows before filters (default: every text once)")
    parser.add_argument(
        "--part", type=part_of_many, default=WHOLE, metavar="N/M", help="part of the shards, generated first"
    )
    parser.add_argument(
        "--folds", type=int, help="divide the rows into this number of folds, which share no voice or text"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the plan and of every row (default: 0)")
    for stage in SUNO_TEMPERATURES:
        parser.add_argument(
            f"--{stage}-temperatures", type=float, nargs="+", help="values to draw from (default: the Bark's)"
        )
    parser.add_argument("--sound-share", type=float, default=0.0, help="share of texts with an added [laughs], ♪, ...")
    parser.add_argument("--rows-per-shard", type=int, default=64, help="planned rows of each file (default: 64)")
    parser.add_argument("--batch-size", type=int, default=8, help="rows computed at once (default: 8)")
    parser.add_argument("--audio", action="store_true", help="store the audio as well: 30 times the space")
    parser.add_argument(
        "--filters",
        nargs="+",
        default=[],
        metavar="NAME=LIMIT",
        help=f"'off', or limits of {', '.join(Filters.names())}",
    )
    parser.add_argument("--keep-rejected", action="store_true", help="keep all rows, and name what they fail")
    parser.add_argument("--asr", metavar="MODEL", help="check the words: whisper-tiny.en, or a Hub id or folder")
    parser.add_argument(
        "--speaker-check", nargs="?", const="resemblyzer", metavar="MODEL",
        help="check the voice (MODEL by default: resemblyzer)",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print the plan, hours and bytes, and generate nothing")
    parser.add_argument(
        "--real-time-factor", type=float,
        help="seconds of computation per second of speech, for --dry-run (default: recorded or measured)",
    )  # fmt: skip
    parser.add_argument("--push-to-hub", metavar="ID", help="publish the finished corpus; needs --license")
    parser.add_argument("--private", action="store_true", help="publish it for you alone")
    parser.add_argument("--license", help="for the card, such as cc0-1.0: the texts' licence")
    args = parser.parse_args(arguments)
    if args.push_to_hub and not args.license:  # `publish` would refuse it only after the generation
        parser.error("--push-to-hub needs the texts' licence for the card: --license, such as --license cc0-1.0.")
    if args.push_to_hub and args.part.count > 1:
        parser.error("--push-to-hub cannot be combined with --part. Run the same command without --part to publish.")
    return args


def part_of_many(text: str) -> Part:
    """A type for options: `3/16` is the third of sixteen parts."""
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a part. Write 1/16 for the first of sixteen, 16/16 for the last."
        )
    return Part(int(number) - 1, int(count))


def part_of_process(part: Part, accelerator: Accelerator) -> Part:
    """The part of one process; the processes of a command divide the command's part."""
    processes = accelerator.num_processes
    return Part(part.number * processes + accelerator.process_index, part.count * processes)


def make_plan(args, place: str, processor: BarkProcessor, log=print) -> CorpusPlan:
    """The plan of texts, voices and temperatures; the Bark's weights are not loaded."""
    configs = load_configs(place, revision=args.revision)
    block_size = AutoConfig.from_pretrained(place, revision=args.revision).semantic_config.block_size
    fits = fits_bark(processor.tokenizer, configs, block_size, with_sounds=args.sound_share > 0)
    columns = parse_columns(args.columns)
    found = [
        sentence
        for source in args.texts
        for sentence in load_sentences(source, columns=columns, language=args.language, log=log)
    ]
    sentences = speakable_sentences(found, fits)
    log(f"{len(found):,} texts; {len(sentences):,} without duplicates, with long ones split")
    if not sentences:
        raise ValueError(
            "No text is short enough for one generation of this Bark, even in pieces. Is it in a language of Bark?"
        )
    return CorpusPlan(
        sentences=sentences,
        voices=load_voices(args.voices, processor, configs.vocabularies, log=log),
        num_rows=len(sentences) if args.rows is None else args.rows,
        seed=args.seed,
        **{
            f"{stage}_temperatures": tuple(getattr(args, f"{stage}_temperatures") or [own])
            for stage, own in configs.temperatures.items()
        },
        sound_share=args.sound_share,
        match_languages=not args.any_language,
        rows_per_shard=args.rows_per_shard,
    )


def make_folds(plan: CorpusPlan, num_folds: int, log=print) -> list[int | None]:
    """The fold of every row of a plan, before filters."""
    rows = [plan.row(index) for index in range(plan.num_rows)]
    voices, texts = [row.voice for row in rows], [row.text for row in rows]
    folds = choose_folds(voices, texts, num_folds)
    for line in folds_in_words(folds, voices, texts):
        log(line)
    return folds


def make_recipe(args, place: str, device: torch.device, folds: Sequence[int | None] | None) -> Recipe:
    """The recipe: the Bark, the judges and the filters."""
    model, revision = model_revision(place, args.revision)
    judges: dict[str, Any] = {}
    if args.asr in TRANSCRIBERS:
        judges["word_error_rate"] = WordErrorRate(load_transcriber(args.asr), args.asr, languages=("en",))
    elif args.asr:
        judges["word_error_rate"] = WordErrorRate(load_transcriber(args.asr, device=str(device)), args.asr)
    if args.speaker_check:
        embed = load_speaker_embedder(args.speaker_check, device=str(device))
        codes_to_waveform = partial(decode_codes, codec=load_codec(args.bark, revision=args.revision))
        judges["speaker_similarity"] = SpeakerSimilarity(embed, codes_to_waveform, args.speaker_check)
    return Recipe(
        model=model,
        revision=revision,
        dtype=args.dtype,
        filters=Filters.parse(args.filters),
        judges=judges,
        keep_rejected=args.keep_rejected,
        with_audio=args.audio,
        folds=folds,
    )


def make_speaker(args, processor: BarkProcessor, device: torch.device) -> Speak:
    bark, _ = load_bark(args.bark, dtype=getattr(torch, args.dtype), revision=args.revision)
    return partial(synthesize, bark.to(device), tokenizer=processor.tokenizer, batch_size=args.batch_size)


def dry_run(args, plan: CorpusPlan, load_speaker, accelerator: Accelerator) -> str:
    """The size and cost of a run, by a speed that is given, recorded or measured."""
    device = "CPU" if accelerator.device.type == "cpu" else "GPU"
    if args.real_time_factor is not None:
        speed = Speed(args.real_time_factor, "given")
    else:
        speed = recorded_speed(args.output) or measured_speed(plan, load_speaker(), args.batch_size, device)
    options = {"with_audio": args.audio, "device": device}
    options["num_processes"] = args.part.count * accelerator.num_processes
    return describe_cost(args.output, plan, speed, **options)


if __name__ == "__main__":
    main()
