"""A corpus of Bark's own speech: texts x voices x temperatures to Parquet shards, through any crash.

    CorpusPlan        what row `i` says, in which voice, at which temperatures, with which seed
    Recipe            what becomes of it: model, filters, columns
    open_corpus       a folder for a plan and a recipe, new or to go on with
    finished_shards   what is there and whole
    generate_shard    one shard's rows, spoken and filtered
    write_shard       rows to a file that is there completely or not at all
    shard_records     what was made, shard by shard; `summarize_records` adds it up

    corpus/ corpus.json                the plan and the recipe: whoever goes on must have the same
            data/train-00000.parquet   rows 0 to 63 of the plan, without those that failed a filter
            shards/00000.json          counts, reasons of refusals, digest of that file; written last: "done"
            set_aside/                 files that were damaged, if any

Row `i` is a pure function of the plan, and a shard of its rows, so it does not matter who makes a shard, when, or how
often. `datasets.load_dataset(folder)` and `data.load_corpus(folder)` read the folder at any time.
"""

import errno
import hashlib
import io
import json
import logging
import os
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from datasets import Audio, Features, List, Value

from ..bark.synthesis import SynthesisRequest, SynthesisResult
from ..bark.transformer import Sampling
from ..bark.voice_prompt import VoicePrompt
from ..configuration_bark_semantic import CODEC_RATE_HZ, CODEC_SAMPLING_RATE, num_codec_frames
from ..digests import sha256_of_file
from .filters import MEASURES, Filters, measure
from .texts import Sentence, with_sound

logger = logging.getLogger(__name__)

SOURCE = "synthetic"  # the `source` by which `data.BatchPlan` chooses these rows
NO_VOICE = "none"
FULL_DISK = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))

_VOICE_LANGUAGE = re.compile(r"(?:^|[/_])([a-z]{2})_speaker")  # Suno's names of presets: v2/en_speaker_6


@dataclass(frozen=True)
class PlannedRow:
    """What one row of a corpus is made of."""

    index: int
    text: str
    language: str | None
    voice: str
    seed: int
    semantic_temperature: float
    coarse_temperature: float
    fine_temperature: float

    @property
    def id(self) -> str:
        return f"{self.index:08d}"

    def request(self, voice_prompt: VoicePrompt | None) -> SynthesisRequest:
        return SynthesisRequest(
            text=self.text,
            voice_prompt=voice_prompt,
            seed=self.seed,
            semantic=Sampling(self.semantic_temperature),
            coarse=Sampling(self.coarse_temperature, min_eos_p=None),
            fine=Sampling(self.fine_temperature, min_eos_p=None),
        )


@dataclass(frozen=True, eq=False)
class CorpusPlan:
    """Texts x voices x temperatures. Every text comes once before one comes again; the rest is drawn for each row.

    Args:
        sentences (`Sequence[Sentence]`): such as [`speakable_sentences`] gives.
        voices (`Mapping[str, VoicePrompt | None]`): by name; `None` lets Bark choose.
        num_rows (`int`): rows before filters. A corpus can grow by a larger number, nothing else.
        seed (`int`): of everything.
        semantic_temperatures (`tuple[float, ...]`), coarse_temperatures (`tuple[float, ...]`), fine_temperatures
            (`tuple[float, ...]`): to draw from.
        sound_share (`float`): share of the texts that get a laugh, a sigh, ♪, ... ([`with_sound`]).
        match_languages (`bool`): a text gets only voices of its language, or whose names tell none.
        rows_per_shard (`int`): rows that a crash can cost, for each process.

    Raises:
        ValueError: nothing to say, nobody to say it, or a number out of its range.
    """

    sentences: Sequence[Sentence]
    voices: Mapping[str, VoicePrompt | None]
    num_rows: int
    seed: int = 0
    semantic_temperatures: tuple[float, ...] = (0.7,)
    coarse_temperatures: tuple[float, ...] = (0.7,)
    fine_temperatures: tuple[float, ...] = (0.5,)
    sound_share: float = 0.0
    match_languages: bool = True
    rows_per_shard: int = 64

    def __post_init__(self):
        rules = [
            ("sentences", len(self.sentences) > 0, "one or more"),
            ("voices", len(self.voices) > 0, "one or more; {'none': None} for Bark's own choice"),
            ("num_rows", self.num_rows > 0, "1 or more"),
            ("seed", self.seed >= 0, "0 or more"),
            ("sound_share", 0 <= self.sound_share <= 1, "between 0 and 1"),
            ("rows_per_shard", self.rows_per_shard > 0, "1 or more"),
        ]
        for stage in ("semantic", "coarse", "fine"):
            name = f"{stage}_temperatures"
            rules.append((name, len(getattr(self, name)) > 0, "one or more"))
            for temperature in getattr(self, name):
                Sampling(temperature)
        for name, holds, rule in rules:
            if not holds:
                raise ValueError(f"`{name}` is {getattr(self, name)!r}; it must be {rule}.")
        mute = {language for _, language in self.sentences if not self._voices_of(language)}
        if mute:
            raise ValueError(
                f"No voice speaks {', '.join(sorted(map(str, mute)))}. Give voices of these languages, or "
                "match_languages=False to mix voices and languages."
            )

    @property
    def num_shards(self) -> int:
        return -(-self.num_rows // self.rows_per_shard)

    def num_rows_of(self, shard: int) -> int:
        return min(self.rows_per_shard, self.num_rows - shard * self.rows_per_shard)

    def rows_of(self, shard: int) -> list[PlannedRow]:
        first = shard * self.rows_per_shard
        return [self.row(index) for index in range(first, first + self.num_rows_of(shard))]

    def row(self, index: int) -> PlannedRow:
        """Row `index`: a pure function of the sentences, voices, temperatures, seed and index."""
        epoch, place = divmod(index, len(self.sentences))
        text, language = self.sentences[_shuffled(self.seed, epoch, len(self.sentences))[place]]
        draws = [int(draw) for draw in _draws(8, self.seed, 1, index)]
        if draws[0] < self.sound_share * 2**64:
            text = with_sound(text, draws[1], draws[2])
        voices = self._voices_of(language)
        return PlannedRow(
            index=index,
            text=text,
            language=language,
            voice=voices[draws[3] % len(voices)],
            seed=draws[4] >> 33,
            semantic_temperature=self.semantic_temperatures[draws[5] % len(self.semantic_temperatures)],
            coarse_temperature=self.coarse_temperatures[draws[6] % len(self.coarse_temperatures)],
            fine_temperature=self.fine_temperatures[draws[7] % len(self.fine_temperatures)],
        )

    def description(self) -> dict:
        """All that rows depend on, small enough for a file: long parts by their digest."""
        values = {
            name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("sentences", "voices")
        }
        sentences = "\n".join(f"{language}\t{text}" for text, language in self.sentences)
        return {
            **{name: list(value) if isinstance(value, tuple) else value for name, value in values.items()},
            "sentences": {"count": len(self.sentences), "digest": _digest(sentences.encode())},
            "voices": {name: _digest_of_prompt(self.voices[name]) for name in sorted(self.voices)},
        }

    def _voices_of(self, language: str | None) -> list[str]:
        return self._voices_by_language.get(language, self._voices_by_language[None])

    @cached_property
    def _voices_by_language(self) -> dict[str | None, list[str]]:
        """Names of the voices for each language; under `None` those for texts of an unknown one or one without any."""
        names = sorted(self.voices)
        spoken = {name: match[1] for name in names if (match := _VOICE_LANGUAGE.search(name))}
        if not self.match_languages:
            return {None: names}
        languages = {language for _, language in self.sentences} - {None}
        fitting = {
            language: [name for name in names if spoken.get(name, language) == language] for language in languages
        }
        return {**fitting, None: names}


@dataclass(frozen=True, eq=False)
class Recipe:
    """What becomes of a plan's rows.

    Args:
        model (`str`), revision (`str`): who speaks.
        dtype (`str`): in which precision.
        filters (`Filters`): what is kept.
        judges (`Mapping[str, Callable]`): `(result, language) -> float | None` by the measure that they take,
            `word_error_rate` or `speaker_similarity`; each with a `description`.
        keep_rejected (`bool`): keep rows that fail a filter, too, with its name in `failed_filters`.
        with_audio (`bool`): store the waveform as well (FLAC, 16 bit; what is beyond full scale is clipped).
    """

    model: str
    revision: str
    dtype: str = "float32"
    filters: Filters = field(default_factory=Filters)
    judges: Mapping[str, Callable[[SynthesisResult, str | None], float | None]] = field(default_factory=dict)
    keep_rejected: bool = False
    with_audio: bool = False

    def description(self) -> dict:
        judges = {name: getattr(judge, "description", "") for name, judge in self.judges.items()}
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**values, "filters": asdict(self.filters), "judges": judges}


def corpus_features(*, with_audio: bool, sampling_rate: int | None = CODEC_SAMPLING_RATE) -> Features:
    """The columns of a corpus, as `datasets` describes them."""
    features = {
        "id": Value("string"),
        "source": Value("string"),
        "text": Value("string"),
        "language": Value("string"),
        "voice": Value("string"),
        "seed": Value("int64"),
        "semantic_temperature": Value("float32"),
        "coarse_temperature": Value("float32"),
        "fine_temperature": Value("float32"),
        "model": Value("string"),
        "revision": Value("string"),
        "semantic_tokens": List(Value("int32")),  # (num_tokens,)
        "audio_codes": List(List(Value("int16"))),  # (8, num_frames)
        "finish_reason": Value("string"),
        "failed_filters": List(Value("string")),
        "measures": {name: Value("float32") for name in MEASURES},
    }
    if with_audio:
        features["audio"] = Audio(sampling_rate=sampling_rate, decode=False)
    return Features(features)


def open_corpus(folder: str | os.PathLike, description: Mapping[str, Any]) -> Path:
    """Make a folder for a corpus, or check that what is there is the same corpus. Not for several processes at once.

    Args:
        folder (`str` or `Path`): new, empty, or that of an earlier run.
        description (`Mapping`): of the plan under `"plan"`, and whatever else rows depend on.

    Raises:
        ValueError: the folder holds something else, or a corpus of another plan; the message says what differs.
    """
    folder = Path(folder)
    file = folder / "corpus.json"
    description = json.loads(json.dumps(description))
    if file.exists():
        there = json.loads(file.read_text(encoding="utf-8"))
        _check_same(folder, there, description)
    elif folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise ValueError(f"{str(folder)!r} holds files, but no corpus. Name another folder, or empty this one.")
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.rglob(".*.unfinished"):
        leftover.unlink(missing_ok=True)
    _write_durably(file, json.dumps(description, indent=1, ensure_ascii=False).encode())
    for part in ("data", "shards"):
        (folder / part).mkdir(exist_ok=True)
    return folder


def finished_shards(folder: Path, plan: CorpusPlan, shards: Iterable[int]) -> list[int]:
    """Those of `shards` that are there and whole. A damaged one goes to `set_aside/`, with a warning."""
    finished = []
    for shard in shards:
        data, record_file = _files_of(folder, shard)
        record = _read_record(record_file)
        if record is None or record["planned_rows"] != plan.num_rows_of(shard):
            continue
        if data.exists() and sha256_of_file(data) == record["digest"]:
            finished.append(shard)
            continue
        logger.warning("%s is damaged or gone; it is made again, and what is left of it kept in set_aside/.", data)
        (folder / "set_aside").mkdir(exist_ok=True)
        for file in (data, record_file):
            if file.exists():
                os.replace(file, folder / "set_aside" / f"shard-{shard:05d}{file.suffix}")
    return finished


def generate_shard(
    plan: CorpusPlan,
    shard: int,
    recipe: Recipe,
    speak: Callable[[list[SynthesisRequest]], Iterable[SynthesisResult]],
    on_row: Callable[[PlannedRow], None] = lambda row: None,
) -> tuple[list[dict], dict]:
    """Speak and filter the rows of a shard.

    Args:
        speak: such as `functools.partial(synthesize, bark, tokenizer=tokenizer)`.
        on_row: called after each row, for a progress bar.

    Returns:
        `tuple[list[dict], dict]`: the rows that are kept, and the record of them, for [`write_shard`].
    """
    start, rows, rejected, spoken_s = time.monotonic(), [], [], 0.0
    planned = plan.rows_of(shard)
    results = speak([row.request(plan.voices[row.voice]) for row in planned])
    for planned_row, result in zip(planned, results, strict=True):
        measures = measure(result)
        if measures is None:
            failed = ["empty"]
        else:
            spoken_s += len(result.waveform) / result.sampling_rate
            for name, judge in recipe.judges.items():
                measures[name] = judge(result, planned_row.language)
            failed = recipe.filters.failed(measures, result.finish_reason)
        if failed:
            rejected.append({"id": planned_row.id, "failed_filters": failed})
        if not failed or (recipe.keep_rejected and measures is not None):
            rows.append(_row(planned_row, result, recipe, measures, failed))
        on_row(planned_row)
    record = {"planned_rows": len(planned), "rejected": rejected, "spoken_s": round(spoken_s, 3)}
    return rows, {**record, "compute_s": round(time.monotonic() - start, 3)}


def write_shard(folder: Path, shard: int, rows: Sequence[Mapping], record: Mapping, features: Features) -> None:
    """Write rows and then their record; without the record, the shard does not count as finished.

    Args:
        rows (`Sequence[Mapping]`): of `features`; arrays may be NumPy's.
        record (`Mapping`): from [`generate_shard`]; counts and the digest are added.

    Raises:
        OSError: the disk is full, or cannot be written to. Nothing half-written stays behind.
    """
    schema = features.arrow_schema
    table = pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)
    stream = pa.BufferOutputStream()
    with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        if rows:  # `datasets` cannot read a group without rows, but a file without groups
            writer.write_table(table)
    content = stream.getvalue().to_pybytes()
    frames = [num_codec_frames(len(row["semantic_tokens"])) for row in rows]
    languages = Counter()
    for row, num_frames in zip(rows, frames, strict=True):
        languages[row.get("language") or "unknown"] += num_frames / CODEC_RATE_HZ
    data, record_file = _files_of(folder, shard)
    record = {
        **record,
        "rows": len(rows),
        "tokens": sum(len(row["semantic_tokens"]) for row in rows),
        "speech_s": {language: round(seconds, 3) for language, seconds in sorted(languages.items())},
        "voices": dict(sorted(Counter(row["voice"] for row in rows).items())),
        "bytes": len(content),
        "digest": _digest(content),
    }
    _write_durably(data, content)
    _write_durably(record_file, json.dumps(record, ensure_ascii=False).encode())


def shard_records(folder: str | os.PathLike) -> Iterator[dict]:
    """The records of all finished shards of a corpus, in order."""
    for file in sorted((Path(folder) / "shards").glob("*.json")):
        record = _read_record(file)
        if record is not None:
            yield record


def summarize_records(records: Iterable[Mapping]) -> dict[str, Any]:
    """Add records up.

    Returns:
        `dict`: `planned_rows`, `rows`, `tokens`, `bytes`, `spoken_s` and `compute_s` (both before filters), and
            counters `speech_s` (by language), `voices` (rows) and `rejected` (rows by filter; a row may fail several),
            with `rejected_rows`.
    """
    total = dict.fromkeys(("planned_rows", "rows", "tokens", "bytes", "spoken_s", "compute_s", "rejected_rows"), 0)
    counters = {"speech_s": Counter(), "voices": Counter(), "rejected": Counter()}
    for record in records:
        for name in total:
            total[name] += record.get(name, 0)
        total["rejected_rows"] += len(record["rejected"])
        counters["speech_s"].update(record["speech_s"])
        counters["voices"].update(record["voices"])
        counters["rejected"].update(name for row in record["rejected"] for name in row["failed_filters"])
    return {**total, **counters}


def digest_of_files(paths: Iterable[Path]) -> str:
    """One SHA-256 of the content of files, in the order of their names."""
    return _digest("".join(sha256_of_file(path) for path in sorted(paths)).encode())


def flac_bytes(waveform: np.ndarray, sampling_rate: int) -> bytes:
    """A waveform of shape `(num_samples,)` as 16-bit FLAC; beyond full scale it is clipped."""
    content = io.BytesIO()
    soundfile.write(content, waveform, sampling_rate, format="FLAC", subtype="PCM_16")
    return content.getvalue()


def _row(planned: PlannedRow, result: SynthesisResult, recipe: Recipe, measures: dict, failed: list[str]) -> dict:
    assert result.audio_codes.shape[1] == num_codec_frames(len(result.semantic_tokens))
    row = {name: getattr(planned, name) for name in planned.__dataclass_fields__ if name != "index"}
    if recipe.with_audio:
        content = flac_bytes(result.waveform, result.sampling_rate)
        row["audio"] = {"bytes": content, "path": f"{planned.id}.flac"}
    return {
        **row,
        "id": planned.id,
        "source": SOURCE,
        "model": recipe.model,
        "revision": recipe.revision,
        "semantic_tokens": result.semantic_tokens,
        "audio_codes": list(result.audio_codes),
        "finish_reason": result.finish_reason,
        "failed_filters": failed,
        "measures": measures,
    }


def _draws(count: int, *entropy: int) -> np.ndarray:
    """Numbers in [0, 2**64). `SeedSequence` gives the same in every version of NumPy, which generators may not."""
    return np.random.SeedSequence(entropy).generate_state(count, np.uint64)


@lru_cache(maxsize=2)
def _shuffled(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.argsort(_draws(count, seed, 0, epoch), kind="stable")


def _check_same(folder: Path, there: Mapping, here: Mapping) -> None:
    there, here = _flat(there), _flat(here)
    grown = here.get("plan.num_rows", 0) >= there.get("plan.num_rows", 0)
    differing = [
        f"{name}: {there.get(name, 'nothing')} there, {here.get(name, 'nothing')} now"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name) and not (name == "plan.num_rows" and grown)
    ]
    if differing:
        raise ValueError(
            f"{str(folder)!r} holds a corpus of another plan ({'; '.join(differing[:5])}). Repeat the options of the "
            "first run (rows may only be added), or name another folder."
        )


def _flat(values: Mapping, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in values.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value})
    return flat


def _files_of(folder: Path, shard: int) -> tuple[Path, Path]:
    return folder / "data" / f"train-{shard:05d}.parquet", folder / "shards" / f"{shard:05d}.json"


def _read_record(file: Path) -> dict | None:
    """A shard's record; `None` where there is none, or a damaged one."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        return record if {"planned_rows", "digest", "rejected"} <= set(record) else None
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _write_durably(path: Path, content: bytes) -> None:
    """Write a file so that it is complete wherever its name exists, even after a power failure."""
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}.unfinished")
    try:
        with open(unfinished, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno in FULL_DISK:
            raise OSError(
                error.errno,
                f"The disk is full: {path.name} needs {len(content):,} bytes. Free some space and start the same "
                "command again; it goes on after the shards that are finished",
                str(path),
            ) from error
        raise
    finally:
        unfinished.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest_of_prompt(prompt: VoicePrompt | None) -> str | None:
    if prompt is None:
        return None
    return _digest(prompt.semantic_tokens.tobytes() + prompt.audio_codes.tobytes())


__all__ = [
    "CorpusPlan",
    "PlannedRow",
    "Recipe",
    "corpus_features",
    "digest_of_files",
    "finished_shards",
    "flac_bytes",
    "generate_shard",
    "open_corpus",
    "shard_records",
    "summarize_records",
    "write_shard",
]
