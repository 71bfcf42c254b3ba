"""Stage 3. Measure an encoder on voices and sentences that it was not trained on.

    python training/evaluate_encoder.py outputs/cv/fold* --corpus outputs/bark_artefacts --json outputs/cv.json
    python training/evaluate_encoder.py --corpus outputs/bark_artefacts
    python training/evaluate_encoder.py outputs/cv/fold* outputs/base/fold* --weights --corpus outputs/bark_artefacts
    python training/evaluate_encoder.py builtin --human ../shared/data/human/librispeech_251_speakers \\
        --conditions ../shared/data/noise_and_rirs --corpus outputs/bark_artefacts

The first form scores every run on its held-out fold, which training.json beside the weights names, and pools the
folds. Measure an encoder that held out nothing with --unseen, on a corpus that it was not trained on. --codec decodes
clips that have codes but no audio. Runs with several seeds are pooled, too, and the accuracy of each seed is printed.
If the corpus contains Suno's presets, the command also prints a table by language, next to the community's quantizer
on the same clips. The second form prints only the figures of that quantizer. The third form measures ensembles: the
runs of each fold, together with encoders that held out nothing (--unseen). It chooses their weights on one half of the
voices and measures on the other half, also with the stored tokens of the community's quantizer added. The fourth form
needs no true tokens. It measures how far the tokens of human speech are from Bark's own, and how many of them stay the
same with noise, a room, a change of level and resampling.

With --output, all forms write summary.json, trials.parquet (a row per clip and kind of input, or per recording and
change), report.html and model_card_rows.md. The first and the third form also store the score of every clip there
(trials-*.jsonl). They continue after a kill, and several processes share the clips:

    accelerate launch --num_processes 2 training/evaluate_encoder.py ... --output FOLDER                (two GPUs)
    ACCELERATE_USE_CPU=1 torchrun --nproc_per_node 2 training/evaluate_encoder.py ... --output FOLDER   (two CPU cores)

benchmark_encoders.py compares several encoders.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState

from ..audio import list_audio_files
from ..bark.loading import load_codec
from ..corpus.rows import Clip, load_corpus
from ..evaluation.encoder import (
    held_out_blocks,
    held_out_report,
    load_encoder,
    report_lines,
    run_line,
    score_journal,
    score_runs,
    with_truth,
)
from ..evaluation.ensemble import fold_ensembles, score_members, weights_blocks, weights_report, weights_rows
from ..evaluation.presets import best_lag, preset_blocks, preset_report, preset_table
from ..evaluation.report import how_made, required_packages, write_results
from ..evaluation.report_page import Table
from ..evaluation.robustness import human_blocks, human_changes, human_report
from ..files import write_json
from ..publishing import markdown_table
from .console import errors_as_one_sentence
from .processes import only_run_in
from .route import SCORES, after_evaluation, say_next, script


@errors_as_one_sentence
def main(arguments: Sequence[str] | None = None) -> None:
    args = argument_parser().parse_args(arguments)
    if args.output:
        required_packages()
    state = PartialState(cpu=not torch.cuda.is_available())
    if state.num_processes > 1 and (args.human or not args.output):
        raise SystemExit("Several processes need --output to share the clips; --human needs a single process.")
    if args.human and not args.encoders:
        raise SystemExit("--human needs an encoder that reads the recordings, such as builtin.")
    if args.weights and (args.human or not args.encoders):
        raise SystemExit("--weights needs encoders, and no --human.")
    measure = of_human_speech if args.human else of_held_out_clips if args.encoders else of_community
    measure = of_several_as_one if args.weights else measure
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)  # fails before the measurement
    with only_run_in(args.output, state) if args.output else contextlib.nullcontext():
        measure_and_write(measure, args, arguments)


def measure_and_write(measure: Callable, args: argparse.Namespace, arguments: Sequence[str] | None) -> None:
    """Measure in one of the four forms; the main process writes the results and prints the next command."""
    report, trials, blocks = measure(load_corpus(args.corpus), args)
    if not PartialState().is_main_process:
        return
    seeds = {"trainings": report.get("seeds", "unknown"), "bootstraps and noises": 0}
    made = how_made("-m hf_bark_semantic.cli.evaluate_encoder", arguments, seeds=seeds)
    if args.json:
        write_json(args.json, {"made": made, **report})
    if args.output:
        summary = {name: value for name, value in report.items() if name != "clips"}
        title = "Semantic tokens of " + ("human speech" if args.human else "held-out Bark clips")
        cards = blocks[: 1 + ("presets" in report)]
        write_results(args.output, title, made=made, summary=summary, trials=trials, blocks=blocks, cards=cards)
        print(args.output / "report.html")
    if measure is of_held_out_clips:
        if args.json:
            command = after_evaluation(args.encoders, report["folds"], args.corpus, args.json)
        else:
            command = script("evaluate_encoder", *(arguments or sys.argv[1:]), "--json", SCORES)
        if command is not None:
            say_next(*command)


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoders", nargs="*", help="folders, Hub ids, or names such as builtin and community:en")
    parser.add_argument(
        "--corpus", required=True, help="labelled corpus; for --human, the source of Bark's frequencies"
    )
    parser.add_argument("--weights", action="store_true", help="measure the encoders as an ensemble; choose weights")
    parser.add_argument("--known-codebooks", type=int, default=8, help="codebooks that the encoder reads (default: 8)")
    parser.add_argument("--codec", help="decodes codes without audio: facebook/encodec_24khz, a Bark or a folder")
    parser.add_argument("--unseen", action="store_true", help="the encoders were not trained on any of the clips")
    parser.add_argument("--input-level-db", type=float, help="normalize waveforms to this level first, see the config")
    parser.add_argument("--human", type=Path, help="folder of recordings without known tokens")
    parser.add_argument("--conditions", type=Path, help="folder with noise/ and RIRs/, for --human")
    parser.add_argument("--limit", type=int, help="number of recordings of --human to use")
    parser.add_argument("--seconds", type=float, default=10, help="part of each recording of --human (default: 10)")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--output", type=Path, help="folder for the figures, a row per clip, and a report with sounds")
    return parser


def of_held_out_clips(clips: Sequence[Clip], args: argparse.Namespace) -> tuple[dict, list[dict], list]:
    """Figures, rows and blocks of each run on its held-out fold, in the main process only."""
    runs, agreements = [], []
    settings, reading = reading_of(args)
    with score_journal(args.output, clips, **settings) as journal:
        for of_run, agreement in score_runs(args.encoders, clips, journal, **reading, unseen=args.unseen):
            runs += of_run
            agreements += [] if agreement is None else [agreement]
            print(run_line(of_run))
    if not PartialState().is_main_process:
        return {}, [], []
    report = {"runs": args.encoders, "input_level_db": args.input_level_db, **held_out_report(runs, agreements)}
    report["num_folds"] = len({clip.fold for clip in clips if clip.in_folds and clip.fold >= 0})
    print(*report_lines(report), sep="\n")
    blocks = held_out_blocks(report, runs, clips)
    if presets := preset_report((run.score for run in runs), clips):
        report["presets"] = presets
        blocks[1:1] = preset_blocks(presets)
        print_table(preset_table(presets))
    return report, [run.as_row() for run in runs], blocks


def reading_of(args: argparse.Namespace) -> tuple[dict, dict]:
    """The settings that scores depend on; and the options of the encoders."""
    reading = {"known_codebooks": args.known_codebooks, "input_level_db": args.input_level_db}
    codec = None if args.codec is None else load_codec(args.codec).to(PartialState().device)
    decoding = {} if codec is None else {"codec": args.codec}
    return {"corpus": args.corpus, **reading, **decoding}, {**reading, "codec": codec}


def of_several_as_one(clips: Sequence[Clip], args: argparse.Namespace) -> tuple[dict, list[dict], list]:
    """Figures, rows and blocks of the ensemble of each fold, in the main process only."""
    settings, reading = reading_of(args)
    lag = best_lag(clips)
    ensembles = fold_ensembles(args.encoders, clips, unseen=args.unseen)
    with score_journal(args.output, clips, weights=True, **settings) as journal:
        scored = score_members(ensembles, journal, lag=lag, **reading)
    if not PartialState().is_main_process:
        return {}, [], []
    report = weights_report(scored, [places for places, _ in ensembles], lag=lag)
    blocks = weights_blocks(report)
    for table in blocks:
        print_table(table)
    report |= {"runs": args.encoders, "input_level_db": args.input_level_db}
    return report, weights_rows(scored, report), blocks


def of_community(clips: Sequence[Clip], args: argparse.Namespace) -> tuple[dict, list[dict], list]:
    """Figures and blocks of the community's quantizer, without other encoders."""
    presets = preset_report([], clips)
    if presets is None:
        raise SystemExit(f"{args.corpus} has no tokens of the community's quantizer, so name an encoder to measure.")
    print_table(preset_table(presets))
    return {"presets": presets}, [], preset_blocks(presets)


def print_table(table: Table) -> None:
    print(f"\n{markdown_table(table.columns, table.rows)}\n\n{table.note}")


def of_human_speech(clips: Sequence[Clip], args: argparse.Namespace) -> tuple[dict, list[dict], list]:
    """Figures, rows and blocks of recordings without known tokens."""
    report, trials = human_report(
        load_encoder(args.encoders[0], args.input_level_db),
        list_audio_files([args.human])[: args.limit],
        reference=np.concatenate([clip.semantic_tokens for clip in with_truth(clips)]),
        changes=human_changes(args.conditions),
        seconds=args.seconds,
    )
    print(json.dumps(report, indent=1))
    return report, trials, human_blocks(report, trials)


if __name__ == "__main__":
    main()
