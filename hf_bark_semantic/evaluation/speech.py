"""Measures of speech from waveforms and speaker embeddings; recognizers and embedding models are in judges.py.

    two recordings of one utterance    pitch_comparison, energy_correlation, mel_cepstral_distortion, pesq, stoi
    speaker embeddings                 cosine_similarity, identify, equal_error_rate
    one recording                      silence, drift, pitch_track

Waveforms are float32 of shape `(num_samples,)`. Two recordings with different tempo (`aligned=False`) are aligned by
dynamic time warping of their mel cepstra.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from transformers.audio_utils import mel_filter_bank

from ..audio import SILENCE_PEAK, resample
from ..configuration_bark_semantic import SAMPLING_RATE
from .extras import required

HOP_S = 0.01
NUM_MELS, NUM_CEPSTRA = 80, 13
FLOOR_DB = -60.0  # relative to the loudest frame; quieter frames count as silence
MIN_PITCH_HZ, MAX_PITCH_HZ = 60.0, 500.0
APERIODICITY = 0.2  # YIN's threshold; de Cheveigne and Kawahara 2002 use 0.1 to 0.2
MIN_VOICED_FRAMES = 10
PAUSE_DB = 30.0


def cosine_similarity(first: np.ndarray, second: np.ndarray) -> float:
    """Cosine similarity of two embeddings of shape `(size,)`, in [-1, 1]; 0 if one of them is zero."""
    first, second = np.asarray(first, float), np.asarray(second, float)
    norms = np.linalg.norm(first) * np.linalg.norm(second)
    return float(first @ second / norms) if norms else 0.0


@dataclass(frozen=True)
class Identification:
    """The result of a speaker identification.

    Args:
        rank (`int`): rank of the target among all candidates; 1 is the nearest. Ties count against the target.
        similarity (`float`): cosine similarity to the target.
        best_distractor (`float`): highest cosine similarity to a distractor.
        mean_distractor (`float`): mean cosine similarity to the distractors.
    """

    rank: int
    similarity: float
    best_distractor: float
    mean_distractor: float

    @property
    def correct(self) -> bool:
        return self.rank == 1


def identify(embedding: np.ndarray, target: np.ndarray, distractors: Sequence[np.ndarray]) -> Identification:
    """Identify a speaker among N candidates: the target and `N - 1` distractors.

    Args:
        embedding (`np.ndarray` of shape `(size,)`): embedding of the speech.
        target (`np.ndarray` of shape `(size,)`): embedding of the right voice.
        distractors (sequence of `np.ndarray` of shape `(size,)`): embeddings of other voices.

    Raises:
        ValueError: there are no distractors.
    """
    if not len(distractors):
        raise ValueError("There is no distractor; pass at least one other voice.")
    similarity = cosine_similarity(embedding, target)
    others = [cosine_similarity(embedding, other) for other in distractors]
    rank = 1 + sum(other >= similarity for other in others)
    return Identification(rank, similarity, max(others), float(np.mean(others)))


def equal_error_rate(same: Sequence[float], different: Sequence[float]) -> float:
    """The error rate where false rejections (`same`) and false acceptances (`different`) are equally frequent."""
    same, different = np.sort(same), np.sort(different)
    if not len(same) or not len(different):
        raise ValueError("The equal error rate needs similarities of same and of different speakers.")
    thresholds = np.unique(np.concatenate([same, different, [np.inf]]))
    rejected = np.searchsorted(same, thresholds) / len(same)
    accepted = 1 - np.searchsorted(different, thresholds) / len(different)
    best = int(np.argmin(np.abs(rejected - accepted)))
    return float(rejected[best] + accepted[best]) / 2


def pitch_track(waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Fundamental frequency every 10 ms, by YIN (de Cheveigne and Kawahara 2002).

    Args:
        waveform (`np.ndarray` of shape `(num_samples,)`), sampling_rate (`int`): any rate.

    Returns:
        `np.ndarray`: Hz, float64 of shape `(num_frames,)` with `num_frames = num_samples // hop`; 0 for silence and
            for frames without a pitch between 60 and 500 Hz.
    """
    hop, longest = round(HOP_S * sampling_rate), int(sampling_rate / MIN_PITCH_HZ)
    shortest, size = int(sampling_rate / MAX_PITCH_HZ), 2 * longest
    frames = _frames(waveform, size + longest, hop)  # (num_frames, size + longest)
    if not len(frames):
        return np.zeros(0)
    spectrum = np.fft.rfft(frames, 2 * frames.shape[1])
    first = np.fft.rfft(frames[:, :size], 2 * frames.shape[1])
    products = np.fft.irfft(spectrum * first.conj())[:, : longest + 1]
    energy = np.concatenate([np.zeros((len(frames), 1)), np.cumsum(frames**2, axis=1)], axis=1)
    shifted = energy[:, size : size + longest + 1] - energy[:, : longest + 1]
    difference = np.maximum(shifted[:, :1] + shifted - 2 * products, 0)  # (num_frames, longest + 1)
    mean = np.cumsum(difference[:, 1:], axis=1) / np.arange(1, longest + 1)
    normalized = np.concatenate([np.ones((len(frames), 1)), difference[:, 1:] / np.maximum(mean, 1e-12)], axis=1)
    pitch = np.array([_pitch_of(row, shortest, sampling_rate) for row in normalized])
    level = 10 * np.log10(shifted[:, 0] / size + 1e-12)
    pitch[level < max(level.max() - 40, -90)] = 0
    return pitch


def _pitch_of(normalized: np.ndarray, shortest: int, sampling_rate: int) -> float:
    """The pitch at the first minimum below the threshold, refined by a parabola; 0 without such a minimum."""
    lag = next(iter(np.flatnonzero(normalized[shortest:-1] < APERIODICITY)), None)
    if lag is None:
        return 0.0
    lag += shortest
    while lag + 2 < len(normalized) and normalized[lag + 1] < normalized[lag]:
        lag += 1
    before, here, after = normalized[lag - 1 : lag + 2]
    bend = before - 2 * here + after
    return sampling_rate / (lag + (0.5 * (before - after) / bend if bend > 0 else 0.0))


@dataclass(frozen=True)
class PitchComparison:
    """The agreement of two pitch tracks.

    Args:
        correlation (`float`, *optional*): correlation of log F0 where both are voiced; `None` below 10 such frames.
        distance_semitones (`float`, *optional*): root mean square difference in the same frames.
        voicing_agreement (`float`): share of frames where both are voiced or neither is.
    """

    correlation: float | None
    distance_semitones: float | None
    voicing_agreement: float


def pitch_comparison(
    reference: np.ndarray, other: np.ndarray, sampling_rate: int, *, aligned: bool = True
) -> PitchComparison:
    """Compare the fundamental frequencies of two recordings of one utterance.

    Args:
        reference, other (`np.ndarray` of shape `(num_samples,)`): waveforms at `sampling_rate`.
        aligned (`bool`): both have the same tempo, as after a codec; the longer one is cut. Otherwise they are warped.
    """
    tracks = pitch_track(reference, sampling_rate), pitch_track(other, sampling_rate)
    first, second = _matched(tracks, reference, other, sampling_rate, aligned)
    voiced = (first > 0) & (second > 0)
    agreement = float(((first > 0) == (second > 0)).mean()) if len(first) else 0.0
    if voiced.sum() < MIN_VOICED_FRAMES:
        return PitchComparison(None, None, agreement)
    first, second = np.log2(first[voiced]), np.log2(second[voiced])
    distance = float(12 * np.sqrt(np.mean((first - second) ** 2)))
    return PitchComparison(_correlation(first, second), distance, agreement)


def energy_correlation(reference: np.ndarray, other: np.ndarray, sampling_rate: int, *, aligned: bool = True) -> float:
    """Correlation of the levels in dB, every 10 ms, with a floor of -60 dB; arguments as in [`pitch_comparison`]."""
    tracks = _levels(reference, sampling_rate), _levels(other, sampling_rate)
    return _correlation(*_matched(tracks, reference, other, sampling_rate, aligned))


def mel_cepstral_distortion(
    reference: np.ndarray, other: np.ndarray, sampling_rate: int, *, aligned: bool = False
) -> float:
    """Distance of two spectral envelopes in dB, independent of gain: `10 / ln 10 * sqrt(2 * sum of squares)`.

    The 13 cepstra come from 80 mel bands, not from a vocoder's envelope, so compare only values of this function.

    Args:
        reference, other (`np.ndarray` of shape `(num_samples,)`): two recordings of one utterance.
        aligned (`bool`): both have the same tempo; otherwise they are warped.
    """
    tracks = mel_cepstra(reference, sampling_rate), mel_cepstra(other, sampling_rate)
    first, second = _matched(tracks, reference, other, sampling_rate, aligned)
    if not len(first):
        raise ValueError("A recording is shorter than 10 ms, so there is nothing to compare.")
    distances = np.sqrt(2 * ((first - second) ** 2).sum(axis=1))
    return float(10 / np.log(10) * distances.mean())


def mel_cepstra(waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Cepstra 1 to 13 of the mel spectrum every 10 ms, `(num_samples // hop, 13)`; independent of the level."""
    hop, size = round(HOP_S * sampling_rate), round(0.025 * sampling_rate)
    frames = _frames(waveform, size, hop) * np.hanning(size)
    num_bins = 2 ** int(np.ceil(np.log2(size)))
    power = np.abs(np.fft.rfft(frames, num_bins)) ** 2  # (num_frames, num_bins // 2 + 1)
    filters = mel_filter_bank(num_bins // 2 + 1, NUM_MELS, 60.0, min(8_000.0, sampling_rate / 2), sampling_rate)
    mels = power @ filters
    mels = np.maximum(mels, mels.max(initial=1e-10) * 10 ** (FLOOR_DB / 10))
    orders = np.arange(1, NUM_CEPSTRA + 1)[:, None]
    cosines = np.cos(np.pi * orders * (np.arange(NUM_MELS) + 0.5) / NUM_MELS)  # (13, num_mels)
    return np.log(mels) / 2 @ cosines.T * 2 / NUM_MELS


def warping_path(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dynamic time warping: the path of lowest cost through two feature sequences `(num_frames, size)`.

    Returns:
        Two int64 arrays `(path_length,)`: the matching frames of the first and of the second sequence.
    """
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1) - 2 * first @ second.T
    cost = np.sqrt(np.maximum(squares, 0))  # (num_frames of first, num_frames of second)
    total = np.empty_like(cost)
    total[0] = np.cumsum(cost[0])
    for i in range(1, len(cost)):
        above = np.concatenate([[total[i - 1, 0]], np.minimum(total[i - 1, 1:], total[i - 1, :-1])])
        along = np.cumsum(cost[i])
        total[i] = np.minimum.accumulate(above - along + cost[i]) + along
    i, j = len(first) - 1, len(second) - 1
    path = [(i, j)]
    while i or j:
        steps = [(a, b) for a, b in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if a >= 0 and b >= 0]
        i, j = min(steps, key=lambda step: total[step])
        path.append((i, j))
    first, second = np.array(path[::-1]).T
    return first, second


def pesq(reference: np.ndarray, other: np.ndarray, sampling_rate: int) -> float:
    """Wide-band PESQ (ITU-T P.862.2) of a processed recording against the original, about 1 to 4.64.

    Raises:
        ValueError: PESQ finds no speech in one of them.
        ImportError: the package `pesq` is missing.
    """
    package = required("pesq")
    first, second = _at_16_khz(reference, other, sampling_rate)
    try:
        return float(package.pesq(SAMPLING_RATE, first, second, "wb"))
    except package.PesqError as error:
        raise ValueError(f"PESQ cannot compare these recordings: {type(error).__name__}. Both need speech.") from error


def stoi(reference: np.ndarray, other: np.ndarray, sampling_rate: int) -> float:
    """Short-time objective intelligibility of a processed recording against the original, 0 to 1.

    Raises:
        ImportError: the package `pystoi` is missing.
    """
    first, second = _at_16_khz(reference, other, sampling_rate)
    return float(required("pystoi").stoi(first, second, SAMPLING_RATE))


@dataclass(frozen=True)
class Silence:
    """The share of silence in a recording, in [0, 1], and its longest pause in seconds."""

    share: float
    longest_s: float


def silence(waveform: np.ndarray, sampling_rate: int) -> Silence:
    """Measure the pauses of a recording, including both ends: parts that are 30 dB below its loud parts.

    A recording below -80 dB of full scale counts as silence.
    """
    levels = _levels(waveform, sampling_rate)
    if not len(levels) or np.abs(waveform).max() < SILENCE_PEAK:
        return Silence(1.0, len(waveform) / sampling_rate)
    silent = levels < np.percentile(levels, 95) - PAUSE_DB
    bounds = np.flatnonzero(np.diff(np.concatenate([[0], silent, [0]]).astype(int)))  # starts and ends of pauses
    longest = (bounds[1::2] - bounds[::2]).max(initial=0)
    return Silence(float(silent.mean()), float(longest * HOP_S))


@dataclass(frozen=True)
class Drift:
    """The drift of the voice in a long recording.

    Args:
        times_s (`tuple[float, ...]`): centres of the windows.
        similarities (`tuple[float, ...]`): similarity of every window to the reference.
        slope_per_minute (`float`): slope of a line through them; negative if the voice drifts away.
        end_minus_start (`float`): mean of the last third minus mean of the first third.
    """

    times_s: tuple[float, ...]
    similarities: tuple[float, ...]
    slope_per_minute: float
    end_minus_start: float


def drift(
    waveform: np.ndarray,
    sampling_rate: int,
    embed: Callable[[np.ndarray], np.ndarray],
    *,
    reference: np.ndarray | None = None,
    window_s: float = 4.0,
    hop_s: float = 2.0,
) -> Drift:
    """Measure how a voice drifts through a long recording.

    Args:
        waveform (`np.ndarray` of shape `(num_samples,)`), sampling_rate (`int`): at least three windows long.
        embed: a speaker embedder from judges.py: 16 kHz waveform to embedding `(size,)`.
        reference (`np.ndarray` of shape `(size,)`, *optional*): embedding of the right voice; by default, that of the
            first window, which is then left out.
        window_s (`float`), hop_s (`float`): length and step of the windows.

    Raises:
        ValueError: the recording is too short.
    """
    waveform = resample(np.asarray(waveform, np.float32), sampling_rate, SAMPLING_RATE)
    size, hop = round(window_s * SAMPLING_RATE), round(hop_s * SAMPLING_RATE)
    starts = list(range(0, len(waveform) - size + 1, hop))
    embeddings = [embed(waveform[start : start + size]) for start in starts]
    if reference is None and embeddings:
        reference, starts, embeddings = embeddings[0], starts[1:], embeddings[1:]
    if len(starts) < 3:
        raise ValueError(
            f"The recording lasts {len(waveform) / SAMPLING_RATE:.1f} s; windows of {window_s} s every {hop_s} s need "
            f"{window_s + 3 * hop_s} s. Use a longer one, or shorter windows."
        )
    times = np.array(starts) / SAMPLING_RATE + window_s / 2
    similarities = np.array([cosine_similarity(embedding, reference) for embedding in embeddings])
    slope = float(np.polyfit(times / 60, similarities, 1)[0])
    third = max(1, len(times) // 3)
    change = float(similarities[-third:].mean() - similarities[:third].mean())
    return Drift(tuple(times.tolist()), tuple(similarities.tolist()), slope, change)


def _matched(tracks, reference, other, sampling_rate, aligned) -> tuple[np.ndarray, np.ndarray]:
    """The matching rows of the two tracks."""
    first, second = tracks
    if aligned:
        length = min(len(first), len(second))
        return first[:length], second[:length]
    rows, columns = warping_path(mel_cepstra(reference, sampling_rate), mel_cepstra(other, sampling_rate))
    return first[rows], second[columns]


def _levels(waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
    frames = _frames(waveform, round(0.025 * sampling_rate), round(HOP_S * sampling_rate))
    levels = 10 * np.log10((frames**2).mean(axis=1) + 1e-12)
    return np.maximum(levels, levels.max(initial=-120) + FLOOR_DB)


def _frames(waveform: np.ndarray, size: int, hop: int) -> np.ndarray:
    """Frames `(num_samples // hop, size)` centred on the hops, zeros beyond the ends."""
    waveform = np.asarray(waveform, float)
    num_frames = len(waveform) // hop
    if not num_frames:
        return np.zeros((0, size))
    before = size // 2 - hop // 2
    padded = np.pad(waveform, (max(0, before), size))[max(0, -before) :]
    return np.lib.stride_tricks.sliding_window_view(padded, size)[: num_frames * hop : hop]


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's correlation; 0 if one of the two is constant."""
    if len(first) < 2 or first.std() < 1e-9 or second.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _at_16_khz(reference: np.ndarray, other: np.ndarray, sampling_rate: int) -> tuple[np.ndarray, np.ndarray]:
    length = min(len(reference), len(other))
    cut = (np.asarray(waveform[:length], np.float32) for waveform in (reference, other))
    return tuple(resample(waveform, sampling_rate, SAMPLING_RATE) for waveform in cut)


__all__ = [
    "Drift",
    "Identification",
    "PitchComparison",
    "Silence",
    "cosine_similarity",
    "drift",
    "energy_correlation",
    "equal_error_rate",
    "identify",
    "mel_cepstral_distortion",
    "pesq",
    "pitch_comparison",
    "pitch_track",
    "silence",
    "stoi",
]
