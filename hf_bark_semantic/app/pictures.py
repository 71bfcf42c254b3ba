"""Pictures of speech for the page.

overview    the peaks of a whole recording
picture     waveform, spectrogram and semantic tokens of up to a minute
"""

import base64
import io

import numpy as np
from PIL import Image

from ..audio import LongRecording
from ..configuration_bark_semantic import SEMANTIC_RATE_HZ

NUM_PEAKS = 300
MAX_S, MAX_MARKS = 60, 8  # per picture
MAX_COLUMNS, WINDOW_S, DYNAMIC_DB, NUM_ROWS = 800, 0.032, 70.0, 128
COLOURS = np.array([[0, 0, 8], [64, 15, 115], [183, 55, 121], [252, 137, 97], [252, 253, 191]], float)  # quiet to loud


def overview(waveform: np.ndarray | LongRecording) -> list[float]:
    """The peaks of `NUM_PEAKS` equal parts of a recording, 0 to 1, relative to the loudest."""
    bounds = np.linspace(0, len(waveform), min(NUM_PEAKS, len(waveform)) + 1).astype(int)
    pairs = [(int(start), int(stop)) for start, stop in zip(bounds[:-1], bounds[1:], strict=True)]
    is_long = isinstance(waveform, LongRecording)
    parts = waveform.parts(pairs) if is_long else (waveform[start:stop] for start, stop in pairs)
    peaks = np.array([np.abs(part).max(initial=0.0) for part in parts])
    return np.round(peaks / max(peaks.max(), 1e-9), 3).tolist()


def picture(
    waveform: np.ndarray,
    sampling_rate: int,
    semantic_tokens: np.ndarray,
    confidence: np.ndarray | None = None,
    *,
    times_s: np.ndarray | None = None,
) -> str:
    """HTML with waveform, spectrogram and tokens of speech, or of its first minute.

    Args:
        waveform (`np.ndarray` of shape `(num_samples,)`): the speech.
        sampling_rate (`int`): its rate in Hz.
        semantic_tokens (`np.ndarray` of shape `(num_tokens,)`): its semantic tokens, 49.9 per second.
        confidence (`np.ndarray` of shape `(num_tokens,)`, *optional*): the encoder's confidence in each token.
        times_s (`np.ndarray` of shape `(num_tokens,)`, *optional*): the start of each token, ascending; by default,
            tokens are consecutive.
    """
    times_s = np.arange(len(semantic_tokens)) / SEMANTIC_RATE_HZ if times_s is None else times_s
    is_whole, waveform = len(waveform) <= MAX_S * sampling_rate, waveform[: MAX_S * sampling_rate]
    duration_s, num_tokens = len(waveform) / sampling_rate, int(np.searchsorted(times_s, MAX_S))
    width = 100 / duration_s / SEMANTIC_RATE_HZ
    strength = np.ones(len(semantic_tokens)) if confidence is None else confidence / max(confidence.max(), 1e-9)
    shown = (array[:num_tokens].tolist() for array in (times_s, semantic_tokens, strength))
    tokens = "".join(
        f'<rect x="{begin_s * SEMANTIC_RATE_HZ * width:.3f}" width="{width:.3f}" height="10" '
        f'opacity="{0.15 + 0.85 * sure:.2f}"><title>{begin_s:.2f} s: token {token}</title></rect>'
        for begin_s, token, sure in zip(*shown, strict=True)
    )
    label = f"Waveform, spectrogram and {num_tokens} tokens of {duration_s:.2f} s of speech"
    caption = (
        "semantic tokens" if confidence is None else "semantic tokens: stronger where the encoder is more certain"
    )
    return (
        f'<figure class="speech"><div role="img" aria-label="{label}">'
        f'<svg class="wave" viewBox="0 -1 {MAX_COLUMNS} 2" preserveAspectRatio="none">'
        f'<path d="{_outline(waveform)}"/></svg>'
        f'<img src="data:image/png;base64,{_spectrogram_png(waveform, sampling_rate)}" alt="">'
        f'<svg class="tokens" viewBox="0 0 100 10" preserveAspectRatio="none">{tokens}</svg>{_scale(duration_s)}</div>'
        f"<figcaption>{'' if is_whole else f'The first {MAX_S} s. '}Waveform, frequencies up to 8 kHz, {caption}."
        "</figcaption></figure>"
    )


def _scale(duration_s: float) -> str:
    """A time axis with marks at round intervals."""
    distance_s = next(step for step in (0.5, 1, 2, 5, 10) if duration_s <= step * MAX_MARKS)
    marks = np.arange(0, duration_s, distance_s)
    shown = "".join(f'<span style="left: {100 * at_s / duration_s:.2f}%">{at_s:g} s</span>' for at_s in marks)
    return f'<div class="seconds">{shown}</div>'


def _outline(waveform: np.ndarray) -> str:
    """An SVG path through the minimum and the maximum of each column."""
    bounds = np.linspace(0, len(waveform), MAX_COLUMNS + 1).astype(int)
    scale = max(float(np.abs(waveform).max(initial=0.0)), 1e-9)
    columns = [
        waveform[start : max(stop, start + 1)] / scale for start, stop in zip(bounds[:-1], bounds[1:], strict=True)
    ]
    return "".join(
        f"M{x} {-part.max():.2f}V{max(-part.min(), -part.max() + 0.02):.2f}" for x, part in enumerate(columns)
    )


def _spectrogram_png(waveform: np.ndarray, sampling_rate: int) -> str:
    """A spectrogram up to 8 kHz as PNG in base64, low frequencies at the bottom, at most `MAX_COLUMNS` wide."""
    length = round(WINDOW_S * sampling_rate)
    starts = np.linspace(0, max(len(waveform) - length, 0), min(MAX_COLUMNS, max(1, len(waveform) // 64))).astype(int)
    padded = np.pad(waveform, (0, max(0, length - len(waveform))))
    frames = padded[starts[:, None] + np.arange(length)] * np.hanning(length)  # (num_columns, length)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    power = power[:, : round(8_000 * length / sampling_rate)]
    rows = np.linspace(0, power.shape[1] - 1, NUM_ROWS).round().astype(int)
    level = 10 * np.log10(power[:, rows] + 1e-10).T[::-1]  # (NUM_ROWS, num_columns)
    loudness = np.clip(1 + (level - level.max()) / DYNAMIC_DB, 0, 1)
    anchors = np.linspace(0, 1, len(COLOURS))
    pixels = np.stack([np.interp(loudness, anchors, COLOURS[:, channel]) for channel in range(3)], axis=-1)
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


__all__ = ["overview", "picture"]
