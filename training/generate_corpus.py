"""Bark speaks a corpus: texts x voices x temperatures to labelled speech, filtered, in resumable shards.

    accelerate launch training/generate_corpus.py --texts ../shared/data/sentences/en*.txt --voices presets \\
        --bark suno/bark-small --output outputs/corpus --dry-run
    accelerate launch training/generate_corpus.py (the same, without --dry-run)
    accelerate launch --num_processes 8 training/generate_corpus.py (the same) --push-to-hub me/bark-corpus \\
        --license cc0-1.0
    ACCELERATE_USE_CPU=1 torchrun --nproc_per_node 2 training/generate_corpus.py (the same)    (two processes on CPUs)

    after: outputs/corpus/   data/train-*.parquet  shards/*.json  corpus.json  README.md (the dataset card)

Killed anywhere, it goes on when the same command is started again, with any number of processes; all of them, on all
machines, must see the same output folder. A higher --rows makes a finished corpus longer. `train_encoder.py` and
`datasets.load_dataset` read the folder. Texts are .txt, .csv, .tsv (Common Voice), .jsonl, or a dataset's folder or
Hub id; voices are names of the Bark's presets, "presets" for all of them, .npz prompts, folders of them, or "none".
"""

import argparse
import json
import os
import shutil
import time
from collections import Counter
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.utils import gather_object
from filelock import FileLock, Timeout
from huggingface_hub import hf_hub_download
from tqdm import tqdm
from transformers import AutoConfig, GenerationConfig

from hf_bark_semantic.bark.configs import SUNO_TEMPERATURES, bark_generation_configs
from hf_bark_semantic.bark.loading import load_bark, load_bark_processor, load_codec
from hf_bark_semantic.bark.synthesis import synthesize
from hf_bark_semantic.bark.voice_prompt import VoicePrompt, VoicePromptError
from hf_bark_semantic.cli.publish import publish_or_exit
from hf_bark_semantic.corpus.filters import Filters
from hf_bark_semantic.corpus.formats import decode_codes
from hf_bark_semantic.corpus.generation import Recipe, digest_of_files, generate_shard
from hf_bark_semantic.corpus.plan import NO_VOICE, CorpusPlan
from hf_bark_semantic.corpus.shards import (
    finished_shards,
    open_corpus,
    shard_records,
    summarize_records,
    write_shard,
)
from hf_bark_semantic.corpus.texts import fits_bark, load_sentences, speakable_sentences
from hf_bark_semantic.evaluation.judges import TRANSCRIBERS, load_speaker_embedder, load_transcriber
from hf_bark_semantic.evaluation.utterances import SpeakerSimilarity, WordErrorRate
from hf_bark_semantic.packaged import NANO, bark_folder
from hf_bark_semantic.voices.splitting import estimate_duration_s

TEMPLATE = Path(__file__).parents[1] / "model_cards" / "corpus.md"
CODES_BYTES_PER_HOUR = 3.2e6  # tests/corpus/test_corpus_scale.py: 3.25 of random ids, 3.08 of real ones
AUDIO_BYTES_PER_HOUR = 91e6  # the FLAC files of 30 real Bark clips, 24 kHz, 16 bit
BAR = "{percentage:3.0f}% |{bar}| {n:,.0f} of {total:,.0f} s of speech, {elapsed} so far, {remaining} left"
SIZE_CATEGORIES = [(10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")]


def main(arguments=None):
    args = parse_arguments(arguments)
    accelerator = Accelerator(kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(days=30))])
    if int(os.environ.get("WORLD_SIZE", 1)) != accelerator.num_processes:
        raise SystemExit(
            f"{os.environ['WORLD_SIZE']} processes were started, but accelerate knows of {accelerator.num_processes}. "
            "On CPUs, start them with ACCELERATE_USE_CPU=1 torchrun --nproc_per_node N."
        )
    place = str(bark_folder(args.bark))
    plan, processor = make_plan(args, place, accelerator.print)
    if args.dry_run:
        if accelerator.is_main_process:
            print(dry_run(args, plan, processor, accelerator))
        return
    recipe = make_recipe(args, place, accelerator)
    lock = FileLock(args.output / ".lock")
    if accelerator.is_main_process:
        args.output.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)  # held until this process ends, however it ends
        except Timeout:
            raise SystemExit(f"Another run is at work in {args.output}. Wait for it, or end it.") from None
        open_corpus(args.output, {"plan": plan.description(), "recipe": recipe.description()})
    accelerator.wait_for_everyone()
    generate(args, plan, recipe, processor, accelerator)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (args.output / "README.md").write_text(render_card(args), encoding="utf-8")
        print(report(args.output))
        if args.push_to_hub:
            # Damaged shards that were replaced are still in set_aside/.
            publish_or_exit(args.output, args.push_to_hub, private=args.private, leave_others=True)
        lock.release()


def parse_arguments(arguments=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", nargs="+", required=True, help="files, folders or Hub ids")
    parser.add_argument("--column", help="of the text, where it is neither text nor sentence")
    parser.add_argument("--language", help="of all texts, where neither a column nor a file's name tells")
    parser.add_argument("--voices", nargs="+", default=["presets"], help="presets, .npz, folders, 'presets', 'none'")
    parser.add_argument("--any-language", action="store_true", help="voices speak texts of other languages, too")
    parser.add_argument("--bark", default=NANO, help="folder, Hub id, or nano")
    parser.add_argument("--revision", help="of the Hub id")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rows", type=int, help="before filters; by default, every text once")
    parser.add_argument("--seed", type=int, default=0)
    for stage in SUNO_TEMPERATURES:
        parser.add_argument(
            f"--{stage}-temperatures", type=float, nargs="+", help="to draw from; by default, the Bark's own"
        )
    parser.add_argument("--sound-share", type=float, default=0.0, help="of texts that get a [laughs], ♪, ...")
    parser.add_argument("--rows-per-shard", type=int, default=64, help="what a crash can cost each process")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--audio", action="store_true", help="store the sound as well: 30 times the space")
    parser.add_argument(
        "--filters",
        nargs="+",
        default=[],
        metavar="NAME=LIMIT",
        help=f"'off', or limits of {', '.join(Filters.names())}",
    )
    parser.add_argument("--keep-rejected", action="store_true", help="keep all rows; failed_filters tells")
    parser.add_argument("--asr", metavar="MODEL", help="check the words: whisper-tiny.en, or any model's folder or id")
    parser.add_argument("--speaker-check", nargs="?", const="resemblyzer", metavar="MODEL", help="check the voice")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, hours and bytes, and make nothing")
    parser.add_argument("--real-time-factor", type=float, help="seconds of computing for a second of speech")
    parser.add_argument("--push-to-hub", metavar="ID", help="publish the finished corpus; needs --license")
    parser.add_argument("--private", action="store_true", help="publish it for yourself")
    parser.add_argument("--license", help="for the card, such as cc0-1.0: the texts' licence")
    args = parser.parse_args(arguments)
    if args.push_to_hub and not args.license:  # `publish` says so too, when everything is made
        parser.error("--push-to-hub needs the texts' licence for the card: --license, such as --license cc0-1.0.")
    return args


def make_plan(args, place: str, log=print) -> tuple[CorpusPlan, object]:
    """The plan, and Bark's processor; the model itself is not loaded."""
    processor = load_bark_processor(place, revision=args.revision)
    generation_config = GenerationConfig.from_pretrained(place, revision=args.revision)
    block_size = AutoConfig.from_pretrained(place, revision=args.revision).semantic_config.block_size
    fits = fits_bark(processor.tokenizer, generation_config, block_size, with_sounds=args.sound_share > 0)
    found = [s for source in args.texts for s in load_sentences(source, column=args.column, language=args.language)]
    sentences = speakable_sentences(found, fits)
    log(f"{len(found):,} texts; {len(sentences):,} without repetitions, long ones in pieces")
    if not sentences:
        raise ValueError("No text fits into what this Bark says at once, not even in pieces. Is it Bark's language?")
    configs = bark_generation_configs(generation_config)
    sizes = configs.vocabularies
    plan = CorpusPlan(
        sentences=sentences,
        voices=load_voices(args.voices, processor, sizes, log),
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
    return plan, processor


def load_voices(names: list[str], processor, sizes: dict, log=print) -> dict[str, VoicePrompt | None]:
    """Voices by name. Of "presets", those that break Bark's rules are left out and named."""
    presets, voices = processor.available_voice_presets, {}
    for name in names:
        path = Path(name)
        if name == NO_VOICE:
            found = {NO_VOICE: None}
        elif name == "presets" or name in presets:
            found = {}
            for preset in presets if name == "presets" else [name]:
                arrays = processor(".", voice_preset=preset, return_tensors="np")["history_prompt"]
                try:
                    found[preset] = VoicePrompt.load(dict(arrays), **sizes)
                except VoicePromptError as error:
                    if name != "presets":
                        raise
                    log(f"The preset {preset} is left out: {error}")
        elif path.is_dir():
            files = sorted(path.rglob("*.npz"))
            found = {
                file.relative_to(path).with_suffix("").as_posix(): VoicePrompt.load(file, **sizes) for file in files
            }
        elif path.suffix.lower() == ".npz":
            found = {path.stem: VoicePrompt.load(path, **sizes)}
        else:
            raise ValueError(f"There is no voice {name!r}: name a preset ({len(presets)} here), an .npz or a folder.")
        if not found or found.keys() & voices.keys():
            raise ValueError(
                f"--voices {name}: no voice, or one of a name that is there already. Rename or leave out."
            )
        voices.update(found)
    return voices


def make_recipe(args, place: str, accelerator: Accelerator) -> Recipe:
    if Path(place).is_dir():
        model, revision = Path(place).resolve().name, digest_of_files(Path(place).glob("*.safetensors"))
    else:
        model = place  # whose files are in a folder named by the commit: .../snapshots/<commit>/config.json
        revision = Path(hf_hub_download(place, "config.json", revision=args.revision)).parent.name
    judges, device = {}, "cpu" if accelerator.device.type == "cpu" else str(accelerator.device)
    if args.asr in TRANSCRIBERS:
        judges["word_error_rate"] = WordErrorRate(load_transcriber(args.asr), args.asr, languages=("en",))
    elif args.asr:
        judges["word_error_rate"] = WordErrorRate(load_transcriber(args.asr, device=device), args.asr)
    if args.speaker_check:
        embed = load_speaker_embedder(args.speaker_check, device=device)
        speak_codes = partial(decode_codes, codec=load_codec(args.bark, revision=args.revision))
        judges["speaker_similarity"] = SpeakerSimilarity(embed, speak_codes, args.speaker_check)
    return Recipe(
        model=model,
        revision=revision,
        dtype=args.dtype,
        filters=parse_filters(args.filters),
        judges=judges,
        keep_rejected=args.keep_rejected,
        with_audio=args.audio,
    )


def parse_filters(assignments: list[str]) -> Filters:
    if assignments == ["off"]:
        return Filters.off()
    values = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if name not in Filters.names() or not equals:
            raise ValueError(
                f"--filters {assignment!r}: it must be 'off' alone, or NAME=LIMIT or NAME=off with NAME one of "
                f"{', '.join(Filters.names())}."
            )
        switched_off = False if name == "finished" else None
        values[name] = switched_off if value == "off" else name == "finished" or float(value)
    return Filters(**values)


def generate(args, plan: CorpusPlan, recipe: Recipe, processor, accelerator: Accelerator) -> None:
    """Make what is missing. Each process looks through a part of the shards, then makes a part of the missing ones."""
    process, num_processes = accelerator.process_index, accelerator.num_processes
    finished = gather_object(
        finished_shards(args.output, plan.planned_rows(range(process, plan.num_shards, num_processes)))
    )
    missing = sorted(set(range(plan.num_shards)) - set(finished))
    accelerator.print(f"{len(finished)} of {plan.num_shards} shards are there; {num_processes} at work on the others.")
    mine = missing[process::num_processes]
    if not mine:
        return
    speak = load_speaker(args, processor, accelerator.device)
    # The first process has the most shards, so its end is the end. Sentences count by their estimated duration.
    total = sum(estimate_duration_s(row.text) for shard in mine for row in plan.rows_of(shard))
    with tqdm(total=total, smoothing=0, bar_format=BAR, disable=not accelerator.is_main_process) as bar:
        for shard in mine:
            rows, record = generate_shard(
                plan, shard, recipe, speak, on_row=lambda row: bar.update(estimate_duration_s(row.text))
            )
            write_shard(args.output, shard, rows, record, recipe.features)


def load_speaker(args, processor, device):
    bark, _ = load_bark(args.bark, dtype=getattr(torch, args.dtype), revision=args.revision)
    return partial(synthesize, bark.to(device), tokenizer=processor.tokenizer, batch_size=args.batch_size)


def dry_run(args, plan: CorpusPlan, processor, accelerator: Accelerator) -> str:
    """What a run would do and cost. What an earlier run has measured is used, or some rows are spoken."""
    made = summarize_records(shard_records(args.output))
    languages, speech_s = Counter(), 0.0
    for row in map(plan.row, range(plan.num_rows)):
        speech_s += estimate_duration_s(row.text)
        languages[row.language or "unknown"] += 1
    if args.real_time_factor is not None:
        factor, origin = args.real_time_factor, "given"
    elif made["spoken_s"]:
        factor, origin = made["compute_s"] / made["spoken_s"], "of the shards that are there"
    else:
        factor, origin = measure_real_time_factor(args, plan, processor, accelerator.device)
    hours, made_hours = speech_s / 3600, sum(made["speech_s"].values()) / 3600
    bytes_per_hour = CODES_BYTES_PER_HOUR + AUDIO_BYTES_PER_HOUR * args.audio
    if made_hours:
        bytes_per_hour = made["bytes"] / made_hours
    existing = next(folder for folder in [args.output, *args.output.resolve().parents] if folder.exists())
    device_hours = hours * factor
    device = "CPU" if accelerator.device.type == "cpu" else "GPU"
    rejected = f"; {made['rejected_rows'] / made['planned_rows']:.1%} failed so far" if made["planned_rows"] else ""
    return "\n".join(
        [
            f"rows        {plan.num_rows:,} before filters{rejected}",
            f"shards      {plan.num_shards:,} of {plan.rows_per_shard} rows; {made['planned_rows']:,} rows are there",
            f"texts       {len(plan.sentences):,}: {', '.join(f'{k} {v:,}' for k, v in sorted(languages.items()))}",
            f"voices      {len(plan.voices):,}",
            f"speech      about {hours:.2f} hours, estimated from the texts",
            f"computing   about {device_hours:.2f} {device} hours: {factor:.2f} s for a second of speech, {origin}",
            f"time        about {device_hours / accelerator.num_processes:.2f} hours on {accelerator.num_processes} "
            f"process{'es' * (accelerator.num_processes > 1)}",
            f"disk        about {hours * bytes_per_hour / 1e6:,.1f} MB {'with' if args.audio else 'without'} sound; "
            f"{shutil.disk_usage(existing).free / 1e6:,.0f} MB are free",
        ]
    )


def measure_real_time_factor(args, plan: CorpusPlan, processor, device) -> tuple[float, str]:
    speak = load_speaker(args, processor, device)
    rows = [plan.row(index) for index in range(min(plan.num_rows, args.batch_size))]
    start = time.monotonic()
    results = list(speak([row.request(plan.voices[row.voice]) for row in rows]))
    spoken_s = sum(len(result.waveform) / result.sampling_rate for result in results)
    if not spoken_s:
        raise ValueError("Bark said nothing in the first rows, so its speed is unknown. Give --real-time-factor.")
    return (time.monotonic() - start) / spoken_s, f"measured on {len(rows)} rows, on a {device.type.upper()}"


def render_card(args) -> str:
    """The dataset card, all numbers of which come from the shards' records and from corpus.json."""
    description = json.loads((args.output / "corpus.json").read_text(encoding="utf-8"))
    plan, recipe = description["plan"], description["recipe"]
    total = summarize_records(shard_records(args.output))
    rows, speech_s = total["rows"], total["speech_s"]
    size = next((name for limit, name in SIZE_CATEGORIES if rows < limit), "n>1M")
    unmeasured = {"word_error_rate", "speaker_similarity"} - recipe["judges"].keys()
    limits = {
        name: limit
        for name, limit in recipe["filters"].items()
        if limit not in (None, False) and name.partition("_")[2] not in unmeasured
    }
    refusals = [("empty", "Bark said something", total["rejected"]["empty"])]
    refusals += [(name, limit, total["rejected"][name]) for name, limit in limits.items()]
    temperatures = [f"{stage} {plan[stage + '_temperatures']}" for stage in ("semantic", "coarse", "fine")]
    values = {
        "license": f"license: {args.license}\n" if args.license else "",
        "languages": ", ".join(sorted(speech_s.keys() - {"unknown"})),
        "size_category": size,
        "name": args.output.resolve().name,
        "rows": f"{rows:,}",
        "hours": f"{sum(speech_s.values()) / 3600:.2f}",
        "tokens": f"{total['tokens']:,}",
        "megabytes": f"{total['bytes'] / 1e6:,.1f}",
        "model": f"{recipe['model']} (revision `{recipe['revision'][:12]}`, {recipe['dtype']})",
        "texts": f"{plan['sentences']['count']:,} texts of {', '.join(Path(text).name for text in args.texts)}",
        "sounds": f"{plan['sound_share']:.0%}",
        "voices": f"{len(total['voices']):,}",
        "temperatures": "; ".join(temperatures),
        "seed": str(plan["seed"]),
        "audio": "FLAC, 24 kHz" if recipe["with_audio"] else "not stored; Bark's codec decodes it from `audio_codes`",
        "language_table": table(["language", "hours"], [(k, f"{v / 3600:.2f}") for k, v in sorted(speech_s.items())]),
        "planned": f"{total['planned_rows']:,}",
        "rejected": f"{total['rejected_rows']:,}",
        "kept": "they are kept and marked" if recipe["keep_rejected"] else "they are left out",
        "filter_table": table(["filter", "limit", "rows that failed it"], refusals),
        "judges": ", ".join(f"{name} by {model}" for name, model in recipe["judges"].items()) or "none was used",
        "compute_hours": f"{total['compute_s'] / 3600:.2f}",
    }
    card = TEMPLATE.read_text(encoding="utf-8")
    for name, value in values.items():
        card = card.replace("{" + name + "}", value)
    return card


def table(header: list[str], rows: list[tuple]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def report(folder: Path) -> str:
    total = summarize_records(shard_records(folder))
    hours = sum(total["speech_s"].values()) / 3600
    reasons = ", ".join(f"{name} {count:,}" for name, count in total["rejected"].most_common()) or "none"
    return (
        f"{folder}: {total['rows']:,} rows, {hours:.2f} hours, {total['bytes'] / 1e6:,.1f} MB. "
        f"{total['rejected_rows']:,} of {total['planned_rows']:,} failed a filter ({reasons})."
    )


if __name__ == "__main__":
    main()
