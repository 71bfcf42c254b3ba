"""Measure accuracy by amount of training data: one config, trained on growing parts of its corpus.

Every training is scored on the same held-out fold:

    python training/studies/learning_curve.py training/configs/nano.yaml --fold 19 --hours 0.25 0.5 1 2 \\
        --seeds 0 1 --extrapolate 10 100 1000 --output outputs/curve

The parts are nested: clips are ordered by the digest of their ids, or with `--by voice` of their voices, so a larger
part contains the smaller ones. All runs have the same number of steps. `curve.json` in the output folder has all
figures; existing ones are not computed again, and a killed run continues from its checkpoint.

    curve/ curve.json                     for each part and seed: hours, clips, voices, the table of scores
           0.25h-seed0/ 0.5h-seed0/ ...   the encoders

Extrapolation fits top-1 accuracy as ceiling - scale * hours ** -exponent, by least squares. Few points hardly
determine the ceiling, so there are two results: with the best ceiling, and with a ceiling of 100 %. The truth is
likely to lie in between. Intervals are by bootstrap over voices.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from hf_bark_semantic import BarkSemanticEncoderModel
from hf_bark_semantic.configuration_bark_semantic import SEMANTIC_RATE_HZ
from hf_bark_semantic.corpus.rows import Clip, split_fold
from hf_bark_semantic.evaluation.tokens import ClipScore, score_clips, summarize
from hf_bark_semantic.files import write_json
from hf_bark_semantic.trainers.encoder import MAY_CHANGE, train_or_resume
from hf_bark_semantic.trainers.encoder_config import EncoderTrainingConfig, read_encoder_config
from hf_bark_semantic.trainers.settings import remember_settings
from hf_bark_semantic.trainers.splits import corpus_fingerprint, digest, open_training_corpus, training_clips


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="of train_encoder.py")
    parser.add_argument("--fold", type=int, required=True, help="held-out fold to score on")
    parser.add_argument("--hours", type=float, nargs="+", required=True, help="hours of each part")
    parser.add_argument("--by", choices=["clip", "voice"], default="clip", help="unit by which parts grow")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the trainings of each part")
    parser.add_argument("--extrapolate", type=float, nargs="+", default=[], metavar="HOURS", help="from 4 parts on")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--clips", type=int, help="number of clips of the fold to score (default: all)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="such as training.steps=1000")
    args = parser.parse_args(arguments)
    if args.extrapolate and len(set(args.hours)) < 4:
        raise ValueError(f"--extrapolate fits a curve of three numbers; {len(set(args.hours))} parts are too few.")
    config = read_encoder_config(args.config, args.set)
    if config.streaming:
        raise ValueError("A learning curve needs the corpus in memory; leave `streaming` out.")
    corpus = open_training_corpus(config)
    clips, validation = training_clips(config, corpus, args.fold)
    clips = [clip for clip in clips if clip.source in config.sources]
    _, judged = split_fold(corpus, args.fold)
    judged = sorted((c for c in judged if c.source in config.sources), key=lambda clip: digest(clip.id))
    judged = judged[: args.clips]
    if not judged:
        raise ValueError(f"Fold {args.fold} of {config.corpus} has no clips to score on.")
    parts = {hours: nested_part(clips, hours, by_voice=args.by == "voice") for hours in sorted(set(args.hours))}
    origin = {"fold": args.fold, "corpus_fingerprint": corpus_fingerprint(corpus)}
    settings = {**asdict(config), **origin, "clips": args.clips, "by": args.by}
    remember_settings(args.output, settings, may_change=(*MAY_CHANGE, "training.seed"), results=["curve.json"])
    file = args.output / "curve.json"
    curve = json.loads(file.read_text()) if file.exists() else {}
    names = []
    for hours, part in parts.items():
        for seed in args.seeds:
            names.append(f"{hours:g}h-seed{seed}")
            if names[-1] not in curve:
                curve[names[-1]] = point(config, part, validation, judged, args.output / names[-1], origin, seed)
                write_json(file, curve)
    runs = [curve[name] for name in names]
    print_curve(runs)
    if args.extrapolate:
        print_extrapolation(runs, args.extrapolate)


def nested_part(clips: Sequence[Clip], hours: float, *, by_voice: bool = False) -> list[Clip]:
    """The first clips with a total of `hours`, in the order of their ids' digests, or of their voices'.

    Raises:
        ValueError: there are fewer hours to train on.
    """
    part, tokens, wanted = [], 0, hours * 3600 * SEMANTIC_RATE_HZ
    for clip in sorted(clips, key=lambda clip: (digest(clip.voice) if by_voice else "", digest(clip.id))):
        if tokens >= wanted:
            break
        part.append(clip)
        tokens += clip.num_tokens
    if hours <= 0 or tokens < wanted:
        raise ValueError(
            f"`--hours` has {hours:g}, but there are {hours_of(clips):.3f} hours to train on; it must be above 0 and "
            "at most this."
        )
    return part


def hours_of(clips: Sequence[Clip]) -> float:
    return sum(clip.num_tokens for clip in clips) / SEMANTIC_RATE_HZ / 3600


def point(
    config: EncoderTrainingConfig,
    part: list[Clip],
    validation,
    judged: list[Clip],
    folder: Path,
    origin: dict,
    seed: int,
) -> dict:
    """Train on one part, unless that is done, and score the encoder."""
    config = replace(config, training=replace(config.training, output_dir=str(folder), seed=seed))
    train_or_resume(config, part, validation, origin={**origin, "hours": hours_of(part)}, record=origin)
    model = BarkSemanticEncoderModel.from_pretrained(folder).float().eval()
    scores = score_clips(model, judged)
    return {
        "hours": round(hours_of(part), 4),
        "clips": len(part),
        "voices": len({clip.voice for clip in part}),
        "seed": seed,
        "steps": config.training.steps,
        "table": summarize(scores),
        "scores": [score.as_row() for score in scores],
    }


def print_curve(runs: Sequence[dict]):
    """Print a row for each part and kind of input; intervals are over the scores of all seeds."""
    print("| hours | clips | voices | read | top-1 | top-5 | top-1 by seed |\n" + "| --- " * 7 + "|")
    for same_hours in _by_hours(runs).values():
        table = summarize([ClipScore(**score) for run in same_hours for score in run["scores"]])
        for kind, row in table.items():
            cells = [f"{row[k]['mean']:.1%} [{row[k]['low']:.1%}, {row[k]['high']:.1%}]" for k in ("top_1", "top_5")]
            seeds = ", ".join(f"{run['table'][kind]['top_1']['mean']:.1%}" for run in same_hours)
            size = " | ".join(f"{same_hours[0][name]:g}" for name in ("hours", "clips", "voices"))
            print(f"| {size} | {kind} | {' | '.join(cells)} | {seeds} |")


def print_extrapolation(runs: Sequence[dict], wanted: Sequence[float], samples: int = 200):
    """Print the fitted accuracy at other hours for each kind of input, with intervals over voices."""
    print(
        "\n| read | ceiling | "
        + " | ".join(f"{hours:g} h" for hours in wanted)
        + " |"
        + "\n| --- | --- "
        + "| --- " * len(wanted)
        + "|"
    )
    hours = np.array([run["hours"] for run in runs])
    for kind in runs[0]["table"]:
        hits, tokens = _by_voice(runs, kind)
        rng = np.random.default_rng(0)
        draws = [np.arange(hits.shape[1]), *rng.integers(hits.shape[1], size=(samples, hits.shape[1]))]
        for free in (True, False):
            fits = [fit_curve(hours, hits[:, d].sum(1) / tokens[:, d].sum(1), free_ceiling=free) for d in draws]
            cells = []
            for value in np.array([[curve_at(h, fit) for h in wanted] for fit in fits]).T:
                low, high = np.percentile(value[1:], [2.5, 97.5])
                cells.append(f"{value[0]:.0%} [{low:.0%}, {high:.0%}]")
            print(f"| {kind} | {fits[0][0]:.0%}{'' if free else ', fixed'} | {' | '.join(cells)} |")


def fit_curve(hours: np.ndarray, accuracy: np.ndarray, *, free_ceiling: bool = True) -> tuple[float, float, float]:
    """Ceiling, scale and exponent of `ceiling - scale * hours ** -exponent`, by least squares.

    Args:
        hours (`np.ndarray` of shape `(num_points,)`), accuracy (`np.ndarray` of the same shape): the points.
        free_ceiling (`bool`): fit the ceiling, too; otherwise it is 1.
    """

    def differences(values):
        return curve_at(hours, (values[2] if free_ceiling else 1.0, *values[:2])) - accuracy

    top = accuracy.max()
    start, low, high = [1 - top, 0.3], [0.0, 0.01], [10.0, 3.0]
    if free_ceiling:
        start, low, high = [*start, (1 + top) / 2], [*low, top], [*high, 1.0]
    fitted = least_squares(differences, start, bounds=(low, high)).x
    return (float(fitted[2]) if free_ceiling else 1.0, float(fitted[0]), float(fitted[1]))


def curve_at(hours, fit: tuple[float, float, float]):
    """The accuracy that [`fit_curve`] gives for hours."""
    ceiling, scale, exponent = fit
    return ceiling - scale * hours**-exponent


def _by_hours(runs: Sequence[dict]) -> dict[float, list[dict]]:
    grouped = defaultdict(list)
    for run in runs:
        grouped[run["hours"]].append(run)
    return grouped


def _by_voice(runs: Sequence[dict], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Hits and tokens of each run and voice, `(num_runs, num_voices)`, for one kind of input."""
    sums = []
    for run in runs:
        voices = defaultdict(lambda: np.zeros(2))
        for score in (ClipScore(**row) for row in run["scores"]):
            if f"{score.kind}, {score.inputs}" == kind:
                voices[score.group] += score.top_1, score.num_tokens
        sums.append([voices[voice] for voice in sorted(voices)])
    return tuple(np.moveaxis(np.array(sums), 2, 0))


if __name__ == "__main__":
    main()
