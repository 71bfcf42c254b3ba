"""Read recordings of voices for an evaluation, and sentences for voices whose recordings have no texts.

load_voice_clips    read recordings with speakers, and optionally texts, from folders, .jsonl and .csv
load_texts          read sentences from a file
joined_waveform     concatenate recordings
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ..audio import load_audio, read_audio
from ..configuration_bark_semantic import SAMPLING_RATE
from ..files import read_text
from ..voices.splitting import estimate_duration_s
from .sequences import DIGITS, normalize_text

TEST_CLIP_S = (0.5, 12.0)  # Bark generates up to 14 s at once
KINDS = ("digits", "sentences")


@dataclass(frozen=True)
class VoiceClip:
    """A recording or a part of it, its text and its speaker.

    Args:
        id (`str`): a unique id.
        audio (`Path`, *optional*): the recording; `None` for a text without a recording.
        text (`str`): the transcript; empty if it is unknown.
        voice (`str`): the speaker.
        seconds (`float`), start_s (`float`): length and start of the part.
        held_out_voice (`bool`), held_out_text (`bool`): whether no stage was trained on the voice, and on the text.
        source (`str`): its table or folder.
    """

    id: str
    audio: Path | None
    text: str
    voice: str
    seconds: float
    held_out_voice: bool = True
    held_out_text: bool = True
    start_s: float = 0.0
    source: str = ""

    @property
    def kind(self) -> str:
        """`"digits"` if every word is a digit, else `"sentences"`."""
        return KINDS[0] if set(normalize_text(self.text).split()) <= set(DIGITS) else KINDS[1]


def load_voice_clips(*sources: str | Path) -> list[VoiceClip]:
    """Read recordings of voices.

    Args:
        sources (`str` or `Path`): each a folder with a `.jsonl` per voice (from training/nano/make_speech.py), or one
            `.jsonl` or `.csv`. Columns: `audio` (or `file`), `speaker` (or `voice`); optionally `text`, `id`,
            `seconds`, `held_out_voice`, `held_out_text`. Paths are relative to the table. Without the last two
            columns, a row counts as held out. For voices without texts, see [`cast_voices`].

    Raises:
        ValueError: no rows, a missing column, a text that UTF-8 cannot represent, an id that occurs twice, or a voice
            that occurs in two sources.
        AudioError: a recording cannot be opened.
    """
    clips = []
    for source in map(Path, sources):
        tables = sorted(source.glob("*.jsonl")) if source.is_dir() else [source]
        own = [_voice_clip(row, table, str(source)) for table in tables for row in _rows(table)]
        if not own:
            raise ValueError(f"{source} holds no rows. Name a folder with .jsonl tables, a .jsonl or a .csv.")
        clips += own
    by_id, sources_of = {}, {}
    for clip in clips:
        if (other := by_id.setdefault(clip.id, clip)) is not clip:
            places = " and ".join(dict.fromkeys([other.source, clip.source]))
            raise ValueError(f"{places}: the id {clip.id!r} occurs twice. Give every recording a unique id.")
        if (source := sources_of.setdefault(clip.voice, clip.source)) != clip.source:
            raise ValueError(
                f"The voice {clip.voice!r} is in {source} and in {clip.source}. Rename one of the two, or put the "
                "recordings of one person into one table."
            )
    return clips


def load_texts(file: str | Path) -> list[str]:
    """Read the sentences of a text file, one per line, without those that take longer than 12 s to say.

    Raises:
        ValueError: there is none, or the file is not UTF-8.
    """
    texts = [line.strip() for line in read_text(Path(file)).splitlines() if normalize_text(line)]
    texts = [text for text in texts if estimate_duration_s(text) <= TEST_CLIP_S[1]]
    if not texts:
        raise ValueError(f"{file} holds no sentence of at most {TEST_CLIP_S[1]:g} s. Write one per line.")
    return texts


def _rows(table: Path) -> list[dict]:
    if not table.is_file():
        raise ValueError(f"There is no {table}. Name a folder with .jsonl tables, a .jsonl or a .csv.")
    text = read_text(table)
    if table.suffix.lower() == ".csv":
        return list(csv.DictReader(io.StringIO(text, newline="")))
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _voice_clip(row: Mapping[str, Any], table: Path, source: str) -> VoiceClip:
    names = {"audio": "file", "speaker": "voice"}
    audio, voice = (str(row.get(name) or row.get(other) or "") for name, other in names.items())
    if not audio or not voice:
        raise ValueError(
            f"{table.name}: a row needs `audio` and `speaker`, and `text` for the clones to speak; this one has "
            f"{sorted(map(str, row))}."
        )
    audio, text = table.parent / audio, str(row.get("text") or "").strip()
    name = str(row.get("id") or audio.stem)
    for value in (str(audio), text, voice, name):
        if value != value.encode("utf-8", "replace").decode():
            raise ValueError(
                f"{table.name}: {value!r} holds half of a character, which UTF-8 cannot represent. Repair that row."
            )
    seconds = float((row.get("seconds") if text else None) or _duration_s(audio))  # parts must not exceed it
    held_out = (_is_true(row.get(column, True)) for column in ("held_out_voice", "held_out_text"))
    return VoiceClip(name, audio, text, voice, seconds, *held_out, source=source)


def _is_true(value: Any) -> bool:
    return value.strip().lower() in ("1", "true", "yes") if isinstance(value, str) else bool(value)


def _duration_s(audio: Path) -> float:
    try:
        return soundfile.info(audio).duration
    except (OSError, soundfile.LibsndfileError):  # formats that PyAV decodes have no exact duration
        return len(read_audio(audio, SAMPLING_RATE)) / SAMPLING_RATE


def joined_waveform(clips: Sequence[VoiceClip], sampling_rate: int) -> np.ndarray:
    """Concatenate recordings to a float32 waveform `(num_samples,)`."""
    return np.concatenate([_waveform(clip, sampling_rate) for clip in clips])


def _waveform(clip: VoiceClip, sampling_rate: int) -> np.ndarray:
    """A whole recording, or the part of a recording without a text."""
    waveform = load_audio(clip.audio, sampling_rate)
    if clip.text:
        return waveform
    start = round(clip.start_s * sampling_rate)
    return waveform[start : start + round(clip.seconds * sampling_rate)]


__all__ = [
    "KINDS",
    "TEST_CLIP_S",
    "VoiceClip",
    "joined_waveform",
    "load_texts",
    "load_voice_clips",
]
