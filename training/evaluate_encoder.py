"""Stage 3. What an encoder is worth, on voices and sentences that it has not heard.

    python training/evaluate_encoder.py outputs/cv/fold* --corpus outputs/bark_artefacts --json outputs/cv.json
    python training/evaluate_encoder.py builtin --human ../shared/data/human/librispeech_251_speakers \\
        --conditions ../shared/data/noise_and_rirs --corpus outputs/bark_artefacts

The first form scores every run on the fold that it was trained without (training.json beside the weights tells it) and
pools the folds; runs of several seeds are pooled too, and their spread is told. The second needs no truth: how far the
tokens of human speech are from Bark's own, and how many of them survive noise, a room, a change of level and
resampling.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from hf_bark_semantic import BarkSemanticEncoderModel, BarkSemanticEncoderProcessor
from hf_bark_semantic.audio import list_audio_files, load_audio, resample
from hf_bark_semantic.augmentation import add_noise, reverberate
from hf_bark_semantic.configuration_bark_semantic import SAMPLING_RATE
from hf_bark_semantic.data import load_corpus, split_fold
from hf_bark_semantic.evaluation import (
    accuracy,
    agreement,
    front_end_agreement,
    score_clips,
    summarize,
    unigram_distance,
)
from hf_bark_semantic.pipelines import default_encoder


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoders", nargs="+", help="folders or Hub ids; 'builtin' for the packaged one")
    parser.add_argument(
        "--corpus", required=True, help="labelled corpus; for --human, the source of Bark's frequencies"
    )
    parser.add_argument("--known-codebooks", type=int, default=8, help="read so many codebooks of the codes")
    parser.add_argument("--input-level-db", type=float, help="bring waveforms to this level first, see the config")
    parser.add_argument("--human", type=Path, help="folder of recordings without truth")
    parser.add_argument("--conditions", type=Path, help="folder with noise/ and RIRs/, for --human")
    parser.add_argument("--limit", type=int, help="recordings of --human to use")
    parser.add_argument("--seconds", type=float, default=10, help="of each recording of --human to use")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    args = parser.parse_args(arguments)
    clips = load_corpus(args.corpus)
    if args.human:
        report = human_report(load(args.encoders[0], args.input_level_db), clips, args)
    else:
        report = held_out_report(clips, args)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))


def load(encoder: str, input_level_db: float | None = None) -> BarkSemanticEncoderModel:
    model = BarkSemanticEncoderModel.from_pretrained(default_encoder() if encoder == "builtin" else encoder)
    if input_level_db is not None:
        model.config.input_level_db = input_level_db
    return model.float().eval()


def held_out_report(clips, args) -> dict:
    """Score each run on its own fold, print the pooled table, and the spread over seeds."""
    by_seed, scores, agreements = {}, [], []
    for encoder in args.encoders:
        record = json.loads((Path(encoder) / "training.json").read_text())
        if record["fold"] is None:
            raise SystemExit(
                f"{encoder} was trained without holding a fold out, so every clip here was in its training."
            )
        _, held_out = split_fold(clips, record["fold"])
        model = load(encoder, args.input_level_db)
        new = score_clips(
            model, [clip for clip in held_out if clip.source in ("pair", "prompt")], args.known_codebooks
        )
        if model.codec_front_end is not None and model.backbone is not None:
            agreements.append(front_end_agreement(model, [clip for clip in held_out if clip.source == "pair"]))
        by_seed.setdefault(record["seed"], []).extend(new)
        scores += new
        english = [s for s in new if s.kind == "english" and s.inputs == "audio"]
        if english:
            top_1, top_5 = accuracy(english), accuracy(english, "top_5")
            print(f"{encoder}: fold {record['fold']}, English from audio {top_1:.1%} / {top_5:.1%}")
    table = summarize(scores)
    for name, row in table.items():
        kind, inputs = name.split(", ")
        per_seed = [
            accuracy([s for s in part if (s.kind, s.inputs) == (kind, inputs)])
            for part in by_seed.values()
            if any((s.kind, s.inputs) == (kind, inputs) for s in part)
        ]
        row["top_1_of_seeds"] = per_seed
        print(
            f"{name:24s} {format_row(row)}"
            + (f"  seeds {[f'{v:.1%}' for v in per_seed]}" if len(per_seed) > 1 else "")
        )
    report = {"runs": args.encoders, "input_level_db": args.input_level_db, "table": table}
    report["clips"] = [asdict(score) for score in scores]
    if agreements:
        report["agreement_of_audio_and_codes"] = float(np.mean(agreements))
        print(f"audio and codes of a held-out clip give equal tokens: {report['agreement_of_audio_and_codes']:.1%}")
    return report


def format_row(row) -> str:
    parts = [f"{row[k]['mean']:6.1%} [{row[k]['low']:.1%}, {row[k]['high']:.1%}]" for k in ("top_1", "top_5")]
    return (
        f"top-1 {parts[0]}  top-5 {parts[1]}  ({row['clips']} clips, {row['groups']} groups, {row['tokens']} tokens)"
    )


def human_report(model, clips, args) -> dict:
    """Frequencies and robustness on recordings whose tokens nobody knows."""
    files = list_audio_files([args.human])[: args.limit]
    waveforms = [load_audio(file)[: int(args.seconds * SAMPLING_RATE)] for file in files]
    conditions = human_conditions(args.conditions)
    clean = encode(model, waveforms)
    bark = np.concatenate([clip.semantic_tokens for clip in clips if clip.source in ("pair", "prompt")])
    human, vocab_size = np.concatenate(clean), model.config.vocab_size
    halves = [np.concatenate(clean[i::2]) for i in (0, 1)]
    report = {
        "recordings": len(files),
        "seconds_of_each": args.seconds,
        "tokens": len(human),
        "distinct_tokens": len(np.unique(human)),
        "unigram_distance_to_bark_bits": unigram_distance(human, bark, vocab_size),
        "unigram_distance_of_its_halves_bits": unigram_distance(*halves, vocab_size),
        "agreement_with_clean": {},
    }
    for name, change in conditions.items():
        rng = np.random.default_rng(0)
        changed = encode(model, [change(waveform, rng).astype(np.float32) for waveform in waveforms])
        pairs = zip(clean, changed, strict=True)
        shares = [agreement(torch.from_numpy(a), torch.from_numpy(b)) for a, b in pairs]
        report["agreement_with_clean"][name] = float(np.mean(shares))
    print(json.dumps(report, indent=1))
    return report


def human_conditions(folder: Path | None) -> dict:
    conditions = {
        "gain -12 dB": lambda waveform, rng: waveform * 10 ** (-12 / 20),
        "gain +6 dB": lambda waveform, rng: waveform * 10 ** (6 / 20),
        "resampled to 24 kHz and back": lambda waveform, rng: resample(
            resample(waveform, 16_000, 24_000), 24_000, 16_000
        ),
        "telephone band (8 kHz and back)": lambda waveform, rng: resample(
            resample(waveform, 16_000, 8_000), 8_000, 16_000
        ),
    }
    if folder is not None:
        noises = [load_audio(file) for file in list_audio_files([folder / "noise"])]
        rooms = [load_audio(file) for file in list_audio_files([folder / "RIRs"])]

        def noisy(snr_db):
            def change(waveform, rng):
                return add_noise(waveform, np.resize(noises[rng.integers(len(noises))], len(waveform)), snr_db)

            return change

        conditions["noise at 20 dB"], conditions["noise at 10 dB"] = noisy(20), noisy(10)
        conditions["room"] = lambda waveform, rng: reverberate(waveform, rooms[rng.integers(len(rooms))])
    return conditions


def encode(model, waveforms) -> list[np.ndarray]:
    inputs = BarkSemanticEncoderProcessor()(waveforms)
    result = model.encode(**inputs)
    rows = zip(result.semantic_tokens.numpy(), result.num_tokens.tolist(), strict=True)
    return [row[:n] for row, n in rows]


if __name__ == "__main__":
    main()
