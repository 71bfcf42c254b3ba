"""Stage 3. What an encoder is worth, on voices and sentences that it has not heard.

    python training/evaluate_encoder.py outputs/cv/fold* --corpus outputs/bark_artefacts --json outputs/cv.json
    python training/evaluate_encoder.py builtin --human ../shared/data/human/librispeech_251_speakers \\
        --conditions ../shared/data/noise_and_rirs --corpus outputs/bark_artefacts

The first form scores every run on the fold that it was trained without (training.json beside the weights tells it) and
pools the folds; runs of several seeds are pooled too, and their spread is told. The second needs no truth: how far the
tokens of human speech are from Bark's own, and how many of them survive noise, a room, a change of level and
resampling.

With --output both leave summary.json, trials.parquet (a row per clip and way of reading, or per recording and change),
report.html and model_card_rows.md. The first form also keeps the score of every clip there (trials-*.jsonl): killed
and started again, it goes on where it was, and several processes share the clips:

    accelerate launch --num_processes 2 training/evaluate_encoder.py ... --output FOLDER                (two GPUs)
    ACCELERATE_USE_CPU=1 torchrun --nproc_per_node 2 training/evaluate_encoder.py ... --output FOLDER   (two CPU cores)

benchmark_encoders.py sets several encoders beside each other.
"""

import argparse
import hashlib
import json
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState

from ..audio import list_audio_files, load_audio, resample
from ..configuration_bark_semantic import SAMPLING_RATE
from ..corpus.rows import Clip, load_corpus, split_fold
from ..evaluation.journal import Journal
from ..evaluation.report import (
    MAX_SOUNDS,
    IntervalPlot,
    Sound,
    Table,
    how_made,
    required_packages,
    write_results,
)
from ..evaluation.significance import Estimate, ratio_estimate
from ..evaluation.tokens import (
    ClipScore,
    accuracy,
    agreement,
    front_end_agreement,
    score_clips,
    summarize,
    unigram_distance,
)
from ..modeling_bark_semantic import BarkSemanticEncoderModel
from ..packaged import default_encoder
from ..processing_bark_semantic import BarkSemanticEncoderProcessor
from ..trainers.augmentation import add_noise, reverberate


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
    parser.add_argument("--output", type=Path, help="folder for the figures, a row per clip, and a report with sounds")
    args = parser.parse_args(arguments)
    if args.output:
        required_packages()
    state = PartialState(cpu=not torch.cuda.is_available())
    if state.num_processes > 1 and (args.human or not args.output):
        raise SystemExit("Several processes share the clips by way of --output, and --human takes one process.")
    clips = load_corpus(args.corpus)
    if args.human:
        report, trials, blocks = human_report(load(args.encoders[0], args.input_level_db), clips, args)
    else:
        report, trials, blocks = held_out_report(clips, args)
    if not state.is_main_process:
        return
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))
    if args.output:
        seeds = {"trainings": report.get("seeds", "not told"), "bootstraps and noises": 0}
        made = how_made([__file__, *(sys.argv[1:] if arguments is None else arguments)], seeds=seeds)
        card = next(block for block in blocks if isinstance(block, Table))
        summary = {name: value for name, value in report.items() if name != "clips"}
        title = "Semantic tokens of " + ("human speech" if args.human else "held-out Bark clips")
        write_results(args.output, title, made=made, summary=summary, trials=trials, blocks=blocks, card=card)
        print(args.output / "report.html")


def load(encoder: str, input_level_db: float | None = None) -> BarkSemanticEncoderModel:
    model = BarkSemanticEncoderModel.from_pretrained(default_encoder() if encoder == "builtin" else encoder)
    if input_level_db is not None:
        model.config.input_level_db = input_level_db
    return model.float().eval().to(PartialState().device)


def training_record(encoder: str) -> dict | None:
    """What an encoder was trained on (`fold`, `seed`, ...); `None` where its folder does not tell, or is none."""
    folder = default_encoder() if encoder == "builtin" else Path(encoder)
    if (folder / "training.json").is_file():
        return json.loads((folder / "training.json").read_text())
    if (folder / "evaluation.json").is_file():
        return json.loads((folder / "evaluation.json").read_text()).get("training")
    return None


@dataclass(frozen=True)
class RunScore:
    """Hits of a clip, and the run that made them."""

    encoder: str
    fold: int | None
    seed: int | None
    score: ClipScore

    def as_row(self) -> dict:
        """Flat, with the shares of tokens that were hit."""
        row = {"encoder": self.encoder, "fold": self.fold, "training_seed": self.seed, **asdict(self.score)}
        shares = {f"{name}_accuracy": row[name] / row["num_tokens"] for name in ("top_1", "top_5")}
        return {**row, **shares}


def with_truth(clips: Sequence[Clip]) -> list[Clip]:
    """Clips that accuracy is measured on; the sweep is no speech."""
    return [clip for clip in clips if clip.source != "sweep"]


@contextmanager
def score_journal(clips: Sequence[Clip], args) -> Iterator[Journal]:
    """What is scored already, in `args.output`; without one, it is forgotten at the end."""
    settings = {name: getattr(args, name) for name in ("corpus", "known_codebooks", "input_level_db")}
    settings["clips"] = zlib.crc32(b"".join(clip.id.encode() + clip.semantic_tokens.tobytes() for clip in clips))
    with tempfile.TemporaryDirectory() as nowhere:
        yield Journal(args.output or Path(nowhere), settings, process=PartialState().process_index)


def score_share(model, clips: Sequence[Clip], args, journal: Journal) -> list[ClipScore]:
    """Score this process' share of the clips, but for what the journal has; the scores of all clips."""
    state, weights = PartialState(), digest_of(model)
    by_id = {f"{weights} {number} {clip.id}": clip for number, clip in enumerate(clips)}
    done = journal.records()
    for name in list(by_id)[state.process_index :: state.num_processes]:
        if name not in done:
            scores = score_clips(model, [by_id[name]], args.known_codebooks)
            journal.add({"id": name, "scores": [asdict(score) for score in scores]})
    state.wait_for_everyone()
    done = journal.records()
    return [ClipScore(**score) for name in by_id for score in done[name]["scores"]]


def digest_of(model: BarkSemanticEncoderModel) -> str:
    """Of its config and weights, so that scores of another model under the same name are not taken for its own."""
    digest = hashlib.sha256(model.config.to_json_string().encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def held_out_report(clips, args) -> tuple[dict, list[dict], list]:
    """Score each run on its own fold, print the pooled table, and the spread over seeds."""
    with score_journal(clips, args) as journal:
        runs, agreements = score_runs(clips, args, journal)
    if not PartialState().is_main_process:
        return {}, [], []
    table = summarize([run.score for run in runs])
    for name, row in table.items():
        per_seed = accuracy_of_seeds(runs, name)
        row["top_1_of_seeds"] = per_seed
        print(
            f"{name:24s} {format_row(row)}"
            + (f"  seeds {[f'{v:.1%}' for v in per_seed]}" if len(per_seed) > 1 else "")
        )
    report = {"runs": args.encoders, "input_level_db": args.input_level_db, "table": table}
    report["clips"] = [asdict(run.score) for run in runs]
    report["seeds"] = sorted({run.seed for run in runs})
    if agreements:
        report["agreement_of_audio_and_codes"] = float(np.mean(agreements))
        print(f"audio and codes of a held-out clip give equal tokens: {report['agreement_of_audio_and_codes']:.1%}")
    blocks = [accuracy_table(table), *accuracy_plots(table), runs_table(runs), clips_table(runs, clips)]
    return report, [run.as_row() for run in runs], blocks


def score_runs(clips, args, journal: Journal) -> tuple[list[RunScore], list[float]]:
    """Hits of every run on its own fold, and how far its two ways of hearing a clip agree."""
    runs, agreements = [], []
    for encoder in args.encoders:
        record = training_record(encoder)
        if record is None:
            raise SystemExit(
                f"{encoder} has no training.json, so nobody knows which fold it was trained without. Name folders of "
                "train_encoder.py; benchmark_encoders.py scores encoders from elsewhere."
            )
        if record["fold"] is None:
            raise SystemExit(
                f"{encoder} was trained without holding a fold out, so every clip here was in its training."
            )
        _, held_out = split_fold(clips, record["fold"])
        model = load(encoder, args.input_level_db)
        new = score_share(model, with_truth(held_out), args, journal)
        if not PartialState().is_main_process:
            continue
        if model.codec_front_end is not None and model.backbone is not None:
            agreements.append(front_end_agreement(model, [clip for clip in held_out if clip.source == "pair"]))
        runs += [RunScore(encoder, record["fold"], record["seed"], score) for score in new]
        english = [s for s in new if s.kind == "english" and s.inputs == "audio"]
        if english:
            top_1, top_5 = accuracy(english), accuracy(english, "top_5")
            print(f"{encoder}: fold {record['fold']}, English from audio {top_1:.1%} / {top_5:.1%}")
    return runs, agreements


def accuracy_of_seeds(runs: Sequence[RunScore], name: str) -> list[float]:
    """Top-1 accuracy of each training seed on one row of the table."""
    by_seed = {}
    for run in runs:
        if f"{run.score.kind}, {run.score.inputs}" == name:
            by_seed.setdefault(run.seed, []).append(run.score)
    return [accuracy(scores) for scores in by_seed.values()]


def accuracy_table(table: Mapping[str, dict], title: str = "Accuracy on held-out voices and sentences") -> Table:
    """The rows of `summarize`."""
    rows = []
    for name, row in table.items():
        cells = [format_interval(row[field]) for field in ("top_1", "top_5")]
        counts = [f"{row[field]:,}" for field in ("clips", "groups", "tokens")]
        rows.append([*name.rsplit(", ", 1), *cells, *counts])
    note = "Free-running, over every token of a clip; intervals by bootstrap over voices."
    return Table(title, ["clips", "read from", "top-1", "top-5", "clips", "voices", "tokens"], rows, note)


def format_interval(figure: Mapping[str, float]) -> str:
    return f"{figure['mean']:.1%} [{figure['low']:.1%}, {figure['high']:.1%}]"


def accuracy_plots(table: Mapping[str, dict]) -> list[IntervalPlot]:
    plots = []
    for field, title in (("top_1", "Top-1 accuracy"), ("top_5", "Top-5 accuracy")):
        points = [(name, as_estimate(row, field)) for name, row in table.items()]
        plots.append(IntervalPlot(title, points, percent=True))
    return plots


def as_estimate(row: Mapping, field: str) -> Estimate:
    figure = row[field]
    return Estimate(figure["mean"], figure["low"], figure["high"], row["tokens"], row["groups"])


def runs_table(runs: Sequence[RunScore]) -> Table:
    """Every run on its own fold."""
    rows = {}
    for run in runs:
        key = run.encoder, run.fold, run.seed, f"{run.score.kind}, {run.score.inputs}"
        rows.setdefault(key, []).append(run.score)
    lines = [
        [encoder, str(fold), str(seed), name, f"{accuracy(scores):.1%}", f"{accuracy(scores, 'top_5'):.1%}"]
        for (encoder, fold, seed, name), scores in rows.items()
    ]
    return Table("Runs", ["run", "fold", "training seed", "clips", "top-1", "top-5"], lines)


def clips_table(runs: Sequence[RunScore], clips: Sequence[Clip]) -> Table:
    """Every clip, the worst first; those that have a sound can be heard, once each."""
    waveforms = {clip.id: clip.waveform for clip in clips if clip.waveform is not None}
    lines = []
    for run in sorted(runs, key=lambda run: run.score.top_1 / run.score.num_tokens):
        score = run.score
        waveform = waveforms.pop(score.id, None)
        shares = [f"{hits / score.num_tokens:.1%}" for hits in (score.top_1, score.top_5)]
        names = [score.id, score.group, score.kind, score.inputs, run.encoder]
        heard = None if waveform is None else Sound(waveform, sampling_rate=SAMPLING_RATE)
        lines.append([*names, *shares, str(score.num_tokens), heard])
    columns = ["clip", "voice", "kind", "read from", "encoder", "top-1", "top-5", "tokens", "sound"]
    note = f"Lowest top-1 accuracy first. At most {MAX_SOUNDS} can be heard here; trials.parquet has every row."
    return Table("Clips", columns, lines, note)


def format_row(row) -> str:
    parts = [f"{row[k]['mean']:6.1%} [{row[k]['low']:.1%}, {row[k]['high']:.1%}]" for k in ("top_1", "top_5")]
    return (
        f"top-1 {parts[0]}  top-5 {parts[1]}  ({row['clips']} clips, {row['groups']} groups, {row['tokens']} tokens)"
    )


def human_report(model, clips, args) -> tuple[dict, list[dict], list]:
    """Frequencies and robustness on recordings whose tokens nobody knows."""
    files = list_audio_files([args.human])[: args.limit]
    waveforms = [load_audio(file)[: int(args.seconds * SAMPLING_RATE)] for file in files]
    conditions = human_conditions(args.conditions)
    clean = encode(model, waveforms)
    bark = np.concatenate([clip.semantic_tokens for clip in with_truth(clips)])
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
    trials = []
    for name, change in conditions.items():
        rng = np.random.default_rng(0)
        changed = encode(model, [change(waveform, rng).astype(np.float32) for waveform in waveforms])
        for file, first, second in zip(files, clean, changed, strict=True):
            share = agreement(torch.from_numpy(first), torch.from_numpy(second))
            trials.append({"recording": str(file), "change": name, "tokens": len(first), "agreement": share})
    intervals = {
        name: ratio_estimate([trial["agreement"] for trial in trials if trial["change"] == name])
        for name in conditions
    }
    report["agreement_with_clean"] = {name: interval.value for name, interval in intervals.items()}
    report["agreement_intervals"] = {name: asdict(interval) for name, interval in intervals.items()}
    print(json.dumps(report, indent=1))
    return report, trials, human_blocks(report, intervals, trials, args.seconds)


def human_blocks(report: dict, intervals: Mapping[str, Estimate], trials: Sequence[dict], seconds: float) -> list:
    shown = [[name, f"{i.value:.1%} [{i.low:.1%}, {i.high:.1%}]", str(i.count)] for name, i in intervals.items()]
    note = "Share of tokens that stay as they are when the recording is changed; intervals over recordings."
    facts = [
        [name.replace("_", " "), f"{value:.3f}" if isinstance(value, float) else f"{value:,}"]
        for name, value in report.items()
        if isinstance(value, (int, float))
    ]
    heard = set()
    lines = []
    for trial in sorted(trials, key=lambda trial: trial["agreement"]):
        name, first = trial["recording"], trial["recording"] not in heard
        heard.add(name)
        sound = Sound(Path(name), sampling_rate=SAMPLING_RATE, seconds=seconds) if first else None
        lines.append([name, trial["change"], f"{trial['agreement']:.1%}", str(trial["tokens"]), sound])
    return [
        Table("Stability", ["change", "same tokens", "recordings"], shown, note),
        IntervalPlot("Stability", list(intervals.items()), percent=True),
        Table("Tokens", ["figure", "value"], facts),
        Table(
            "Recordings", ["recording", "change", "same tokens", "tokens", "unchanged"], lines, "Least stable first."
        ),
    ]


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
    result = model.encode(**{name: tensor.to(model.device) for name, tensor in inputs.items()})
    rows = zip(result.semantic_tokens.cpu().numpy(), result.num_tokens.tolist(), strict=True)
    return [row[:n] for row, n in rows]


if __name__ == "__main__":
    main()
