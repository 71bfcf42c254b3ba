"""How much data is enough: one config, trained on growing parts of its corpus, each scored on the same held-out fold.

    python training/studies/learning_curve.py training/configs/nano.yaml --fold 19 --hours 0.25 0.5 1 2 \\
        --output outputs/curve

The parts are nested: a clip's place in line is the digest of its id, so more hours are the same hours and some more.
All runs have the same steps. `curve.json` in the output folder has every figure; what it holds already is not
computed again, and a run that was killed goes on from its checkpoint.

    curve/ curve.json         for each part: hours, clips, voices, the table of scores
           0.25h/ 0.5h/ ...   the encoders
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from hf_bark_semantic import BarkSemanticEncoderModel
from hf_bark_semantic.configuration_bark_semantic import SEMANTIC_RATE_HZ
from hf_bark_semantic.corpus.rows import Clip, split_fold
from hf_bark_semantic.evaluation.tokens import score_clips, summarize
from hf_bark_semantic.files import write_json
from hf_bark_semantic.trainers.encoder import MAY_CHANGE, train_or_resume
from hf_bark_semantic.trainers.encoder_config import EncoderTrainingConfig, read_encoder_config
from hf_bark_semantic.trainers.settings import remember_settings
from hf_bark_semantic.trainers.splits import corpus_fingerprint, digest, open_training_corpus, training_clips


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="of train_encoder.py")
    parser.add_argument("--fold", type=int, required=True, help="to score on")
    parser.add_argument("--hours", type=float, nargs="+", required=True, help="of each part")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--clips", type=int, help="of the fold to score; by default all")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="such as training.steps=1000")
    args = parser.parse_args(arguments)
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
    parts = {hours: nested_part(clips, hours) for hours in sorted(set(args.hours))}
    origin = {"fold": args.fold, "corpus_fingerprint": corpus_fingerprint(corpus)}
    settings = {**asdict(config), **origin, "clips": args.clips}
    remember_settings(args.output, settings, may_change=MAY_CHANGE, results=["curve.json"])
    file = args.output / "curve.json"
    curve = json.loads(file.read_text()) if file.exists() else {}
    for hours, part in parts.items():
        if f"{hours:g}" not in curve:
            curve[f"{hours:g}"] = point(config, part, validation, judged, args.output / f"{hours:g}h", origin)
            write_json(file, curve)
    print_curve({name: curve[name] for name in map("{:g}".format, parts)})


def nested_part(clips: Sequence[Clip], hours: float) -> list[Clip]:
    """The first clips in the order of their ids' digests that make so many hours.

    Raises:
        ValueError: there is less to train on.
    """
    part, tokens, wanted = [], 0, hours * 3600 * SEMANTIC_RATE_HZ
    for clip in sorted(clips, key=lambda clip: digest(clip.id)):
        if tokens >= wanted:
            break
        part.append(clip)
        tokens += clip.num_tokens
    if hours <= 0 or tokens < wanted:
        raise ValueError(
            f"`--hours` has {hours:g}, but there are {hours_of(clips):.3f} hours to train on; it must be above 0 and "
            "no more than these."
        )
    return part


def hours_of(clips: Sequence[Clip]) -> float:
    return sum(clip.num_tokens for clip in clips) / SEMANTIC_RATE_HZ / 3600


def point(
    config: EncoderTrainingConfig, part: list[Clip], validation, judged: list[Clip], folder: Path, origin: dict
) -> dict:
    """Train on one part, unless that is done, and score the encoder."""
    config = replace(config, training=replace(config.training, output_dir=str(folder)))
    train_or_resume(config, part, validation, origin={**origin, "hours": hours_of(part)}, record=origin)
    model = BarkSemanticEncoderModel.from_pretrained(folder).float().eval()
    scores = score_clips(model, judged)
    return {
        "hours": round(hours_of(part), 4),
        "clips": len(part),
        "voices": len({clip.voice for clip in part}),
        "steps": config.training.steps,
        "table": summarize(scores),
        "scores": [asdict(score) for score in scores],
    }


def print_curve(curve: dict):
    kinds = list(dict.fromkeys(kind for figures in curve.values() for kind in figures["table"]))
    print("| hours | clips | voices | read | top-1 | top-5 |\n| --- | --- | --- | --- | --- | --- |")
    for figures in curve.values():
        for kind in kinds:
            row = figures["table"][kind]
            cells = [f"{row[k]['mean']:.1%} [{row[k]['low']:.1%}, {row[k]['high']:.1%}]" for k in ("top_1", "top_5")]
            print(
                f"| {figures['hours']:g} | {figures['clips']} | {figures['voices']} | {kind} | {' | '.join(cells)} |"
            )


if __name__ == "__main__":
    main()
