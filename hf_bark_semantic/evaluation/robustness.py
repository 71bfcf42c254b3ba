"""Tokens of human speech, whose true tokens are unknown: similarity to Bark's, and stability against audio changes.

human_changes     noise, reverberation, changes of level, resampling
human_report      token frequencies, and the share of tokens that each change leaves the same
human_blocks      the same as tables and plots of a report
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from ..audio import list_audio_files, load_audio, resample
from ..configuration_bark_semantic import SAMPLING_RATE
from ..modeling_bark_semantic import BarkSemanticEncoderModel
from ..processing_bark_semantic import BarkSemanticEncoderProcessor
from ..trainers.augmentation import add_noise, reverberate
from .report_page import IntervalPlot, Sound, Table
from .significance import Estimate, ratio_estimate
from .tokens import agreement, unigram_distance

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def human_changes(folder: Path | None = None) -> dict[str, Change]:
    """Changes of a 16 kHz waveform `(num_samples,)`, by name.

    Args:
        folder (`Path`, *optional*): contains recordings of noise in `noise/` and room impulse responses in `RIRs/`.
    """

    def resampled(waveform, rate):
        return resample(resample(waveform, SAMPLING_RATE, rate), rate, SAMPLING_RATE)

    changes = {
        "gain -12 dB": lambda waveform, rng: waveform * 10 ** (-12 / 20),
        "gain +6 dB": lambda waveform, rng: waveform * 10 ** (6 / 20),
        "resampled to 24 kHz and back": lambda waveform, rng: resampled(waveform, 24_000),
        "telephone band (8 kHz and back)": lambda waveform, rng: resampled(waveform, 8_000),
    }
    if folder is not None:
        noises = [load_audio(file) for file in list_audio_files([folder / "noise"])]
        rooms = [load_audio(file) for file in list_audio_files([folder / "RIRs"])]

        def noisy(snr_db):
            def change(waveform, rng):
                return add_noise(waveform, np.resize(noises[rng.integers(len(noises))], len(waveform)), snr_db)

            return change

        changes["noise at 20 dB"], changes["noise at 10 dB"] = noisy(20), noisy(10)
        changes["room"] = lambda waveform, rng: reverberate(waveform, rooms[rng.integers(len(rooms))])
    return changes


def human_report(
    model: BarkSemanticEncoderModel,
    files: Sequence[Path],
    *,
    reference: np.ndarray,
    changes: Mapping[str, Change],
    seconds: float = 10.0,
) -> tuple[dict, list[dict]]:
    """Encode recordings, with and without each change.

    Args:
        model ([`BarkSemanticEncoderModel`]): an encoder in evaluation mode.
        files (sequence of `Path`): the recordings.
        reference (`np.ndarray` of shape `(num_tokens,)`): tokens from Bark, to compare frequencies with.
        changes (`dict`): from [`human_changes`].
        seconds (`float`): the duration that is read from each recording.

    Returns:
        The figures, JSON-serializable, and a row for each recording and change.
    """
    waveforms = [load_audio(file)[: int(seconds * SAMPLING_RATE)] for file in files]
    unchanged = _encode(model, waveforms)
    tokens, vocab_size = np.concatenate(unchanged), model.config.vocab_size
    halves = [np.concatenate(unchanged[i::2]) for i in (0, 1)]
    trials = []
    for name, change in changes.items():
        rng = np.random.default_rng(0)
        changed = _encode(model, [change(waveform, rng).astype(np.float32) for waveform in waveforms])
        for file, first, second in zip(files, unchanged, changed, strict=True):
            share = agreement(torch.from_numpy(first), torch.from_numpy(second))
            trials.append({"recording": str(file), "change": name, "tokens": len(first), "agreement": share})
    intervals = {
        name: ratio_estimate([trial["agreement"] for trial in trials if trial["change"] == name]) for name in changes
    }
    report = {
        "recordings": len(files),
        "seconds_of_each": seconds,
        "tokens": len(tokens),
        "distinct_tokens": len(np.unique(tokens)),
        "unigram_distance_to_bark_bits": unigram_distance(tokens, reference, vocab_size),
        "unigram_distance_of_its_halves_bits": unigram_distance(*halves, vocab_size),
        "agreement_with_clean": {name: interval.value for name, interval in intervals.items()},
        "agreement_intervals": {name: asdict(interval) for name, interval in intervals.items()},
    }
    return report, trials


def _encode(model: BarkSemanticEncoderModel, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
    inputs = BarkSemanticEncoderProcessor()(waveforms)
    result = model.encode(**{name: tensor.to(model.device) for name, tensor in inputs.items()})
    rows = zip(result.semantic_tokens.cpu().numpy(), result.num_tokens.tolist(), strict=True)
    return [row[:n] for row, n in rows]


def human_blocks(report: Mapping, trials: Sequence[Mapping]) -> list[Table | IntervalPlot]:
    """Tables and plots of [`human_report`]; the first is the one for model cards."""
    intervals = {name: Estimate(**interval) for name, interval in report["agreement_intervals"].items()}
    shown = [[name, f"{i.value:.1%} [{i.low:.1%}, {i.high:.1%}]", str(i.count)] for name, i in intervals.items()]
    note = "Share of tokens that stay the same when the recording is changed; intervals over recordings."
    facts = [
        [name.replace("_", " "), f"{value:.3f}" if isinstance(value, float) else f"{value:,}"]
        for name, value in report.items()
        if isinstance(value, (int, float))
    ]
    sounds = {
        trial["recording"]: Sound(
            Path(trial["recording"]), sampling_rate=SAMPLING_RATE, seconds=report["seconds_of_each"]
        )
        for trial in trials
    }
    lines = []
    for trial in sorted(trials, key=lambda trial: trial["agreement"]):
        cells = [trial["recording"], trial["change"], f"{trial['agreement']:.1%}", str(trial["tokens"])]
        lines.append([*cells, sounds.pop(trial["recording"], None)])
    columns = ["recording", "change", "same tokens", "tokens", "unchanged"]
    return [
        Table("Stability", ["change", "same tokens", "recordings"], shown, note),
        IntervalPlot("Stability", list(intervals.items()), percent=True),
        Table("Tokens", ["figure", "value"], facts),
        Table("Recordings", columns, lines, "Least stable first."),
    ]


__all__ = ["human_blocks", "human_changes", "human_report"]
