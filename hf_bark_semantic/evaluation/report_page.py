"""The page of a report: text, tables, audio and plots in one self-contained HTML file.

    render_report                         render blocks to HTML
    Text, Table, IntervalPlot, Sound      the blocks, and audio in table cells

Audio (FLAC) and pictures (PNG) are embedded in the file; plots are SVG. Texts and names from data are escaped, and the
content security policy of the page blocks scripts and external files. Its template is report.html.jinja.
"""

import base64
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import jinja2
import numpy as np
import soundfile
from transformers import audio_utils

from ..audio import AudioError, load_audio
from ..configuration_bark_semantic import CODEC_SAMPLING_RATE
from .extras import required

MAX_SOUNDS = 40  # per report; a second of speech takes about 40 kB
MAX_SOUND_S = 15.0
MAX_ROWS = 200  # per table
NUM_MELS, HOP_S, SHOWN_DB = 64, 0.02, 70.0  # spectrograms
TEMPLATE = Path(__file__).with_name("report.html.jinja")


class Interval(Protocol):
    """A figure and the bounds of its interval, such as `Estimate` and `PairedDifference`."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Text:
    """A paragraph with a heading."""

    title: str
    text: str


@dataclass(frozen=True, eq=False)
class Sound:
    """A table cell with a player and a spectrogram.

    Args:
        source (`Path` or `np.ndarray` of shape `(num_samples,)`): the audio. If a file cannot be read, the cell shows
            the reason.
        caption (`str`): text below the player.
        sampling_rate (`int`): in Hz; files are resampled to it.
        start_s (`float`), seconds (`float`, *optional*): the part that is played; at most 15 s.
    """

    source: Path | np.ndarray
    caption: str = ""
    sampling_rate: int = CODEC_SAMPLING_RATE
    start_s: float = 0.0
    seconds: float | None = None


@dataclass(frozen=True)
class Table:
    """Rows of text and audio, the most important ones first; the page shows at most `max_rows` and their number."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Sound | None]]
    note: str = ""
    max_rows: int = MAX_ROWS


@dataclass(frozen=True)
class IntervalPlot:
    """A plot of figures with intervals: rows of `(label, Estimate or PairedDifference)`."""

    title: str
    rows: Sequence[tuple[str, Interval]]
    percent: bool = False
    note: str = ""


def render_report(
    title: str,
    blocks: Iterable[Text | Table | IntervalPlot],
    made: Mapping[str, Any],
    *,
    max_sounds: int = MAX_SOUNDS,
) -> str:
    """Render a report.

    Args:
        title (`str`), blocks (iterable of `Text`, `Table` and `IntervalPlot`): heading and contents.
        made (`dict`): from [`how_made`].
        max_sounds (`int`): number of recordings in the file; of further ones, only the captions are shown.

    Returns:
        `str`: a self-contained HTML file.
    """
    blocks = list(blocks)
    cells = [cell for block in blocks if isinstance(block, Table) for row in _shown(block) for cell in row]
    sounds = [cell for cell in cells if isinstance(cell, Sound)]
    players = {id(sound): _player(sound) for sound in sounds[:max_sounds]}
    views = [_view(block, players) for block in blocks]
    note = (
        f"{len(players)} of {len(sounds)} recordings are in this file (at most {max_sounds}, {MAX_SOUND_S:g} s each)."
    )
    page = _template().render(title=title, blocks=views, made=made, sounds=note if sounds else "")
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", "\N{REPLACEMENT CHARACTER}", page)


def _shown(table: Table) -> Sequence[Sequence[str | Sound | None]]:
    return table.rows[: table.max_rows]


def _view(block: Text | Table | IntervalPlot, players: Mapping[int, dict]) -> dict[str, Any]:
    """The values of a block for the template."""
    if isinstance(block, Text):
        return {"kind": "text", "title": block.title, "text": block.text}
    if isinstance(block, IntervalPlot):
        return {"kind": "plot", "title": block.title, "note": block.note, "plot": _plot(block)}
    rows = [[_cell(cell, players) for cell in row] for row in _shown(block)]
    left_out = f"The first {len(rows)} of {len(block.rows)} rows." if len(rows) < len(block.rows) else ""
    note = f"{block.note} {left_out}".strip()
    return {"kind": "table", "title": block.title, "note": note, "columns": block.columns, "rows": rows}


def _cell(cell: str | Sound | None, players: Mapping[int, dict]) -> dict[str, Any]:
    if not isinstance(cell, Sound):
        return {"text": "" if cell is None else str(cell)}
    return {"text": cell.caption, **players.get(id(cell), {"missing": "not in this file"})}


def _player(sound: Sound) -> dict[str, str]:
    """FLAC and spectrogram in base64, or the reason why there are none."""
    rate = sound.sampling_rate
    try:
        waveform = load_audio(sound.source, rate) if isinstance(sound.source, Path) else np.asarray(sound.source)
    except (AudioError, OSError) as error:
        return {"missing": str(error)}
    start = round(sound.start_s * rate)
    waveform = waveform[start : start + round(min(sound.seconds or MAX_SOUND_S, MAX_SOUND_S) * rate)]
    if not len(waveform) or not np.isfinite(waveform).all():
        return {"missing": "no sound"}
    peak = float(np.abs(waveform).max())
    quieter = f"played at 1/{peak:.2f} of its level, to avoid clipping" if peak > 1 else ""
    waveform = waveform / max(peak, 1.0)
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format="FLAC", subtype="PCM_16")
    return {"flac": _base64(file), "png": _base64(spectrogram_png(waveform, rate)), "missing": quieter}


def _base64(file: io.BytesIO) -> str:
    return base64.b64encode(file.getvalue()).decode("ascii")


def spectrogram_png(waveform: np.ndarray, sampling_rate: int) -> io.BytesIO:
    """A picture of a waveform `(num_samples,)`: 64 mel bands up to 8 kHz, one column per 20 ms, 70 dB deep."""
    image = required("matplotlib.image")
    hop, size = round(HOP_S * sampling_rate), 2 * round(HOP_S * sampling_rate)
    num_bins = 2 ** int(np.ceil(np.log2(size)))
    highest = min(8_000.0, sampling_rate / 2)
    waveform = np.pad(np.asarray(waveform, float), (0, max(0, size - len(waveform))))
    mels = audio_utils.spectrogram(
        waveform,
        audio_utils.window_function(size, "hann"),
        frame_length=size,
        hop_length=hop,
        fft_length=num_bins,
        power=2.0,
        pad_mode="constant",
        mel_filters=audio_utils.mel_filter_bank(num_bins // 2 + 1, NUM_MELS, 0.0, highest, sampling_rate),
    )  # (num_mels, num_frames)
    levels = 10 * np.log10(np.maximum(mels, 1e-12))
    file = io.BytesIO()
    loudest = float(levels.max())
    image.imsave(file, levels, cmap="magma", vmin=loudest - SHOWN_DB, vmax=loudest, origin="lower", format="png")
    return file


_LEFT, _WIDTH, _ROW = 260, 560, 24  # plot geometry, in SVG units


def _plot(block: IntervalPlot) -> dict[str, Any]:
    """Positions of the points, bars and ticks of a plot; rows without a finite figure are left out."""
    rows = [(label, row) for label, row in block.rows if np.isfinite([row.value, row.low, row.high]).all()]
    if not rows:
        return {"rows": [], "ticks": [], "height": 0, "width": 0}
    low, high = min(row.low for _, row in rows), max(row.high for _, row in rows)
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    low, high = low - margin, high + margin

    def place(value: float) -> float:
        return round(_LEFT + (value - low) / (high - low) * _WIDTH, 1)

    def shown(value: float) -> str:
        return f"{value:.1%}" if block.percent else f"{value:.3g}"

    lines = []
    for i, (label, row) in enumerate(rows):
        line = {"label": label if len(label) <= 40 else f"{label[:39]}…", "y": _ROW * i + 14}
        line |= {name: place(getattr(row, name)) for name in ("low", "value", "high")}
        line["title"] = f"{label}: {shown(row.value)} [{shown(row.low)}, {shown(row.high)}]"
        lines.append({**line, "shown": shown(row.value)})
    ticks = [{"x": place(value), "shown": shown(value)} for value in np.linspace(low + margin, high - margin, 5)]
    zero = place(0.0) if low < 0 < high else None
    plot = {"rows": lines, "ticks": ticks, "zero": zero, "bottom": _ROW * len(rows) + 4}
    return {**plot, "height": _ROW * len(rows) + 24, "width": _LEFT + _WIDTH + 80}


@cache
def _template():
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


__all__ = ["MAX_SOUNDS", "IntervalPlot", "Sound", "Table", "Text", "render_report", "spectrogram_png"]
