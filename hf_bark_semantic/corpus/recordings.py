"""Recordings with transcripts to what Bark is fine-tuned on.

    read_recordings       LJSpeech, csv, tsv, jsonl, a `datasets` folder or Hub id -> recordings, none of them opened
    prepare_recordings    recordings -> a folder of tokens and codes, through any crash; what is unfit stays out
    load_utterances       such a folder, or a corpus of Bark's own speech -> utterances

    prepared/ corpus.json              encoder, Bark and sizes: whoever goes on must have the same
              data/train-00000.parquet rows: id, text, voice, semantic_tokens, audio_codes, ...
              shards/00000.json        what was left out and why; written last

Text is kept as text: ids are made by the Bark's own tokenizer when the utterances are loaded.
"""

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from datasets import Audio, Dataset
from datasets.config import HF_DATASETS_CACHE
from huggingface_hub.constants import HF_HOME, HF_HUB_CACHE
from transformers import EncodecModel

from ..audio import AudioError, load_audio
from ..bark.configs import BarkGenerationConfigs
from ..bark.examples import Utterance
from ..bark.prompting import MAX_PIECE_S, text_to_ids
from ..bark.text_informed import TextInformedDecoder
from ..bark.voice_prompt import (
    VoicePrompt,
    VoicePromptError,
)
from ..configuration_bark_semantic import CODEC_SAMPLING_RATE
from ..voices.cloning import SemanticEncoder, encode_clip
from ..voices.splitting import estimate_duration_s
from ..voices.window import MAX_SILENCE_SHARE, measure_sound
from .rows import RECORDING_COLUMNS, open_dataset, read_corpus, row_features
from .shards import finished_shards, open_corpus, shard_records, write_shard
from .voices import NO_VOICE

SOURCE = "recording"  # the column `source` of prepared rows
METADATA = ("metadata.csv", "metadata.tsv", "metadata.jsonl")
SUBFOLDERS = ("", "wavs", "clips")  # of LJSpeech and Common Voice
AUDIO_COLUMNS = ("audio", "file_name", "filename", "path", "file", "audio_path", "audio_file", "wav")
TEXT_COLUMNS = ("normalized_text", "text", "transcription", "transcript", "sentence")
VOICE_COLUMNS = ("voice", "speaker", "speaker_id", "client_id")

MIN_DURATION_S = 0.5  # a word
MAX_PACE = 3.0  # times that the text may take longer or shorter to say than the recording lasts ...
MAX_PACE_DIFFERENCE_S = 3.0  # ... unless it is by less than this


@dataclass(frozen=True, eq=False)
class Recording:
    """A recording with its transcript, not yet opened.

    Args:
        id (`str`): as the table names it.
        text (`str`), voice (`str`): what is said, and by whom.
        read (`Callable`): gives what [`load_audio`] reads, or raises a [`RecordingFlaw`].
        stamp (`str`): another one when the file has changed.
    """

    id: str
    text: str
    voice: str
    read: Callable[[], Any]
    stamp: str = ""


class RecordingFlaw(ValueError):
    """Why a recording is left out: in a word (`kind`) and in a sentence."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


def read_recordings(source: str | os.PathLike, *, split: str = "train") -> list[Recording]:
    """Find recordings and their transcripts.

    Args:
        source (`str` or `Path`): one of
            a folder with a `metadata.csv` (LJSpeech's `id|text|normalized text`, or with a header), `metadata.tsv` or
            `metadata.jsonl`, or such a file of any name: its paths are relative to it and may not leave its folder;
            a folder of `save_to_disk` or with Parquet files, or a Hub id.
        split (`str`): of a dataset.

    Returns:
        `list[Recording]`: one per row, in order. The columns may have any of the names in `AUDIO_COLUMNS`,
            `TEXT_COLUMNS` and `VOICE_COLUMNS`; without the last, all are of one voice.

    Raises:
        ValueError: no recordings, no such column, or a table that cannot be read.
    """
    path = Path(source)
    table = next((path / name for name in METADATA if (path / name).is_file()), None)
    if path.suffix.lower() in (".csv", ".tsv", ".jsonl"):
        table = path
    recordings = _recordings_of_dataset(str(source), split) if table is None else _recordings_of_table(table)
    if not recordings:
        raise ValueError(f"{str(source)!r} holds no recordings.")
    return recordings


def prepare_recordings(
    recordings: Sequence[Recording],
    folder: str | os.PathLike,
    *,
    encoder: SemanticEncoder,
    codec: EncodecModel,
    tokenizer: Any,
    configs: BarkGenerationConfigs,
    description: Mapping[str, Any],
    decoder: TextInformedDecoder | None = None,
    rows_per_shard: int = 16,
    on_row: Callable[[Recording], None] = lambda recording: None,
) -> list[tuple[str, str, str]]:
    """Encode recordings into a folder. Killed, it goes on where it was; what has changed since is done again.

    Args:
        recordings (`Sequence[Recording]`): rows may be added at the end, or changed, later.
        folder (`str` or `Path`): new, empty, or that of an earlier run.
        encoder (`SemanticEncoder`), codec (`EncodecModel`): of the Bark's tokens, and Bark's.
        tokenizer: Bark's.
        configs (`BarkGenerationConfigs`): of the Bark that is to be trained.
        description (`Mapping`): names of encoder and Bark; a folder of others is refused.
        decoder (`TextInformedDecoder`, *optional*): finds tokens that the transcript makes likely, too.
        rows_per_shard (`int`): recordings that a crash can cost.
        on_row: called after each recording, for a progress bar.

    Returns:
        `list[tuple[str, str, str]]`: id, kind of flaw and its description, of every recording that was left out.

    Raises:
        ValueError: the folder holds something else.
    """
    sizes = configs.vocabularies
    parts = [recordings[start : start + rows_per_shard] for start in range(0, len(recordings), rows_per_shard)]
    description = {**description, "vocabularies": sizes, "rows_per_shard": rows_per_shard}
    if decoder is not None:
        description["text_informed"] = decoder.description()
    folder = open_corpus(folder, description)
    finished = set(finished_shards(folder, {shard: len(part) for shard, part in enumerate(parts)}))
    records = {record.get("shard"): record for record in shard_records(folder)}
    for shard, part in enumerate(parts):
        digest = hashlib.sha256(json.dumps([(r.id, r.text, r.voice, r.stamp) for r in part]).encode()).hexdigest()
        if shard in finished and records[shard].get("recordings") == digest:
            for recording in part:
                on_row(recording)
            continue
        rows, rejected = [], []
        for recording in part:
            try:
                rows.append(_prepared_row(recording, encoder, codec, tokenizer, configs, sizes, decoder))
            except RecordingFlaw as flaw:
                rejected.append({"id": recording.id, "failed_filters": [flaw.kind], "reason": str(flaw)})
            on_row(recording)
        record = {"planned_rows": len(part), "rejected": rejected, "shard": shard, "recordings": digest}
        write_shard(folder, shard, rows, record, row_features(RECORDING_COLUMNS))
    for file in [*folder.glob("shards/*.json"), *folder.glob("data/*.parquet")]:
        if int(file.stem.rpartition("-")[2]) >= len(parts):
            file.unlink()
    rejected = [row for record in shard_records(folder) for row in record["rejected"]]
    return [(row["id"], row["failed_filters"][0], row["reason"]) for row in rejected]


def _prepared_row(recording, encoder, codec, tokenizer, configs, sizes, decoder) -> dict:
    text = " ".join(recording.text.split())
    num_ids, longest = len(text_to_ids(text, tokenizer)), configs.semantic.max_input_semantic_length
    if not num_ids:
        raise RecordingFlaw("no transcript", "There is no transcript.")
    if num_ids > longest:
        raise RecordingFlaw("text too long", f"The transcript has {num_ids} ids, and Bark reads {longest}.")
    try:
        waveform = load_audio(recording.read(), CODEC_SAMPLING_RATE)
    except AudioError as error:
        raise RecordingFlaw("audio", str(error)) from error
    _check_sound(waveform, text, configs)
    if decoder is not None:
        encoder = _InformedEncoder(encoder, text, decoder)
    encoded = encode_clip(waveform, encoder, codec=codec)
    try:  # the rule of lengths, and ids of this Bark
        prompt = VoicePrompt.from_tokens_and_codes(encoded["semantic_tokens"], encoded["audio_codes"], **sizes)
    except VoicePromptError as error:
        raise RecordingFlaw("lengths", str(error)) from error
    return {
        "id": recording.id,
        "source": SOURCE,
        "text": text,
        "voice": recording.voice,
        "semantic_tokens": prompt.semantic_tokens,
        "audio_codes": list(prompt.audio_codes),
        "confidence": float(encoded["confidence"].mean()),
    }


@dataclass(frozen=True)
class _InformedEncoder:
    """An encoder that knows what is said."""

    encoder: SemanticEncoder
    text: str
    decoder: TextInformedDecoder

    @property
    def model(self):
        return self.encoder.model

    def __call__(self, inputs: Any, **options) -> dict:
        return self.encoder(inputs, text=self.text, bark=self.decoder, **options)


def _check_sound(waveform: np.ndarray, text: str, configs: BarkGenerationConfigs) -> None:
    duration_s, spoken_s = len(waveform) / CODEC_SAMPLING_RATE, estimate_duration_s(text)
    longest_s = min(MAX_PIECE_S, (configs.semantic.max_new_tokens - 1) / configs.semantic.semantic_rate_hz)
    if duration_s < MIN_DURATION_S:
        raise RecordingFlaw("too short", f"It lasts {duration_s:.2f} s; at least {MIN_DURATION_S} s are needed.")
    if duration_s > longest_s:
        raise RecordingFlaw(
            "too long",
            f"It lasts {duration_s:.1f} s, and Bark says {longest_s:.1f} s at once. Cut it at pauses, and its "
            "transcript at the same words: nothing here knows when which word is said.",
        )
    silence = measure_sound(waveform, CODEC_SAMPLING_RATE).silence_share
    if silence > MAX_SILENCE_SHARE:
        raise RecordingFlaw("silence", f"{silence:.0%} of it is silence, which Bark would learn. Cut it off.")
    pace = max(spoken_s, 1e-3) / duration_s
    if abs(spoken_s - duration_s) > MAX_PACE_DIFFERENCE_S and not 1 / MAX_PACE <= pace <= MAX_PACE:
        raise RecordingFlaw(
            "pace",
            f"It lasts {duration_s:.1f} s, and its transcript takes about {spoken_s:.1f} s to say. Do they belong "
            "together?",
        )


def _recordings_of_table(path: Path) -> list[Recording]:
    try:
        rows = _table_rows(path)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error}. It must be {path.suffix} in UTF-8.") from error
    recordings, seen = [], set()
    for row in rows:
        name = str(_column(row, AUDIO_COLUMNS, path) or "")
        try:
            file = _file_inside(path.parent, name)
            if name in seen:
                raise RecordingFlaw("duplicate", f"{name!r} is listed twice.")
            stat = file.stat()
            read, stamp = partial(Path, file), f"{stat.st_size} {stat.st_mtime_ns}"
        except RecordingFlaw as flaw:
            read, stamp = partial(_raise, flaw), str(flaw)
        seen.add(name)
        text, voice = _column(row, TEXT_COLUMNS, path), _column(row, VOICE_COLUMNS)
        recordings.append(Recording(name, str(text or ""), str(voice or ""), read, stamp))
    return recordings


def _table_rows(path: Path) -> list[dict]:
    content = path.read_text(encoding="utf-8-sig")
    if path.suffix.lower() == ".jsonl":
        rows = [json.loads(line) for line in content.split("\n") if line.strip()]
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError(f'{str(path)!r}: a line must be like {{"file_name": "a.wav", "text": "Hello."}}.')
        return rows
    delimiter = max(",;\t|", key=content.partition("\n")[0].count)
    quoting = csv.QUOTE_MINIMAL if delimiter in ",;" else csv.QUOTE_NONE  # LJSpeech and Common Voice quote nothing
    rows = list(csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, quoting=quoting))
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    if delimiter == "|" and not set(header) & set(AUDIO_COLUMNS):  # LJSpeech
        header = ["file_name", "text", "normalized_text"]
        rows = [header, *rows]
    return [dict(zip(header, row, strict=False)) for row in rows[1:] if row]


def _recordings_of_dataset(place: str, split: str) -> list[Recording]:
    path = Path(place)
    if path.exists() and not (path / "state.json").exists() and not any(path.rglob("*.parquet")):
        raise ValueError(
            f"{place!r} has no {', '.join(METADATA)} and is no dataset. Write a metadata.csv into it: a line "
            "`file_name|text` for each recording, or a header with these two names."
        )
    dataset = open_dataset(place, split=split)
    column = next((name for name in AUDIO_COLUMNS if isinstance(dataset.features.get(name), Audio)), None)
    if column is None:
        raise _no_column(place, AUDIO_COLUMNS, dataset.column_names)
    roots = [path] if path.exists() else [HF_HOME, HF_HUB_CACHE, HF_DATASETS_CACHE]
    sounds = dataset.cast_column(column, Audio(decode=False))  # load_audio decodes, without torchcodec
    return [
        Recording(
            id=f"{index:08d}",
            text=str(_column(row, TEXT_COLUMNS, place) or ""),
            voice=str(_column(row, VOICE_COLUMNS) or ""),
            read=partial(_audio_of_row, sounds, index, column, roots),
        )
        for index, row in enumerate(dataset.remove_columns(column))
    ]


def _audio_of_row(dataset: Dataset, index: int, column: str, roots: Sequence[str | os.PathLike]) -> Mapping:
    audio = dataset[index][column]
    if audio["bytes"] is None:
        file = Path(audio["path"] or "").resolve()
        if not any(file.is_relative_to(Path(root).resolve()) for root in roots):
            raise RecordingFlaw("path", f"{audio['path']!r} lies outside of the dataset, and is not read.")
    return audio


def _column(row: Mapping, names: Sequence[str], place: Any = None) -> Any:
    """The value of the first of the columns that is there and not empty; `place` is named if there is none."""
    found = [row[name] for name in names if name in row]
    if not found and place is not None:
        raise _no_column(place, names, row)
    return next((value for value in found if value), None)


def _no_column(place: Any, names: Sequence[str], there: Iterable[str]) -> ValueError:
    there = ", ".join(map(str, there)) or "none"
    return ValueError(f"{str(place)!r} has no column {' or '.join(names)}; it has {there}. Rename one.")


def _file_inside(root: Path, name: str) -> Path:
    """The recording that a table names; in its own words, "LJ001-0001" may stand for "wavs/LJ001-0001.wav"."""
    path = PurePosixPath(name.replace("\\", "/"))
    escapes = path.is_absolute() or ".." in path.parts or "\0" in name or (path.parts and ":" in path.parts[0])
    candidates = [] if escapes else [root / sub / f"{path}{end}" for sub in SUBFOLDERS for end in ("", ".wav")]
    file = next((file for file in candidates if file.is_file()), None)
    if escapes or (file is not None and not file.resolve().is_relative_to(root.resolve())):
        raise RecordingFlaw("path", f"{name!r} lies outside of the table's folder, and is not read. Move it there.")
    if file is None:
        raise RecordingFlaw("no file", f"There is no file {name!r} in the table's folder.")
    return file


def _raise(error: Exception):
    raise error


def load_utterances(place: str | os.PathLike, tokenizer: Any, configs: BarkGenerationConfigs) -> list[Utterance]:
    """Read what [`prepare_recordings`] or `generate_corpus.py` wrote, or any dataset with the same columns.

    Rows without text, tokens or codes and those that failed a filter are passed over.

    Args:
        place (`str` or `Path`): folder or Hub id.
        tokenizer: Bark's; makes the text's ids.
        configs (`BarkGenerationConfigs`): of the Bark.

    Raises:
        ValueError: no utterances, missing columns, or tokens of another Bark.
    """
    _check_vocabularies(Path(place) / "corpus.json", configs)
    utterances = [
        Utterance(
            text_ids=text_to_ids(clip.text, tokenizer),
            semantic_tokens=clip.semantic_tokens,
            audio_codes=clip.audio_codes.astype(np.int16),  # a corpus of Bark's own speech may be long
            complete=clip.finish_reason in ("", "eos"),
            voice=f"{NO_VOICE}-{clip.id}" if clip.voice == NO_VOICE else clip.voice,  # Bark chose another for each
            id=clip.id,
        )
        for clip in read_corpus(place, with_audio=False)
        if clip.text and clip.num_tokens and clip.audio_codes is not None and not clip.failed_filters
    ]
    if not utterances:
        raise ValueError(f"{str(place)!r} holds no utterance with text, tokens and codes.")
    return utterances


def _check_vocabularies(file: Path, configs: BarkGenerationConfigs) -> None:
    if not file.is_file():
        return
    there = json.loads(file.read_text(encoding="utf-8")).get("vocabularies", {})
    for name, here in configs.vocabularies.items():
        if there.get(name, here) != here:
            raise ValueError(
                f"{str(file.parent)!r} was prepared for a Bark with {name} = {there[name]:,}; this one has {here:,}. "
                "Prepare the recordings for this one."
            )


__all__ = [
    "Recording",
    "RecordingFlaw",
    "load_utterances",
    "prepare_recordings",
    "read_recordings",
]
