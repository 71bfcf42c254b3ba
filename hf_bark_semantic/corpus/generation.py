"""Generate the rows of a plan with a Bark, and filter them.

Recipe             model, filters and columns
model_revision     a fingerprint of a model's weights
Part               the shards that a process generates first
generate_corpus    generate the missing shards, in any number of independent processes
generate_shard     generate and filter the rows of one shard
"""

import hashlib
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from datasets import Features
from huggingface_hub import hf_hub_download
from tqdm import tqdm

from ..bark.request import SynthesisResult
from ..configuration_bark_semantic import num_codec_frames
from ..environment import release_freed_memory
from ..files import sha256_of_file
from ..voices.splitting import estimate_duration_s
from .filters import Filters, measure
from .plan import CorpusPlan, PlannedRow
from .rows import FOLD_COLUMNS, SPEECH_COLUMNS, row_features, stored_audio, stored_fold
from .shards import finished_shards, is_recorded, write_shard

SOURCE = "synthetic"  # value of the column `source`, by which a batch plan selects rows
BAR = "{percentage:3.0f}% |{bar}| {n:,.0f} of {total:,.0f} s of speech, {elapsed} so far, {remaining} left"

LOOK_EVERY_S = 5.0  # interval of checks whether another process has finished the same shard

Speak = Callable[..., Iterable[SynthesisResult]]  # called with a list of requests; `on_step` as in `synthesize`


@dataclass(frozen=True, eq=False)
class Recipe:
    """How the rows of a plan are generated, filtered and stored.

    Args:
        model (`str`), revision (`str`): the Bark, and a fingerprint of its weights.
        dtype (`str`): the data type of its weights.
        filters (`Filters`): the filters of the rows.
        judges (`Mapping[str, Callable]`): `(result, language) -> float | None` by the name of the measure,
            `word_error_rate` or `speaker_similarity`; each has a `description`.
        keep_rejected (`bool`): keep rows that fail filters, with the names of these in `failed_filters`.
        with_audio (`bool`): store the waveform, too (16-bit FLAC; samples beyond full scale are clipped).
        folds (`Sequence[int | None]`, *optional*): the fold of every row, for the columns `fold` and `in_folds`.
    """

    model: str
    revision: str
    dtype: str = "float32"
    filters: Filters = field(default_factory=Filters)
    judges: Mapping[str, Callable[[SynthesisResult, str | None], float | None]] = field(default_factory=dict)
    keep_rejected: bool = False
    with_audio: bool = False
    folds: Sequence[int | None] | None = None

    @property
    def features(self) -> Features:
        """The columns of the rows."""
        with_audio = {"audio"} if self.with_audio else set()
        return row_features(SPEECH_COLUMNS | with_audio | (set() if self.folds is None else FOLD_COLUMNS))

    def description(self) -> dict:
        """Everything but the plan that rows depend on, for corpus.json."""
        judges = {name: getattr(judge, "description", "") for name, judge in self.judges.items()}
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        num_folds = None if self.folds is None else len(set(self.folds) - {None})
        return {**values, "filters": asdict(self.filters), "judges": judges, "folds": num_folds}


def model_revision(place: str, revision: str | None = None) -> tuple[str, str]:
    """The name of a model, and a fingerprint of its files.

    Args:
        place (`str`): a folder, whose fingerprint is the SHA-256 of its weights; or a Hub id.
        revision (`str`, *optional*): a branch, tag or commit of the Hub id; the fingerprint is the commit.

    Raises:
        OSError: there is no such model, or it isn't cached and the Hub cannot be reached.
    """
    if Path(place).is_dir():
        digests = [sha256_of_file(file) for file in sorted(Path(place).glob("*.safetensors"))]
        return Path(place).resolve().name, hashlib.sha256("".join(digests).encode()).hexdigest()
    # The cache has a folder for each commit: .../snapshots/<commit>/config.json
    return place, Path(hf_hub_download(place, "config.json", revision=revision)).parent.name


class Part(NamedTuple):
    """A part of the shards of a corpus: `number`, from 0, of `count` equal ones."""

    number: int = 0
    count: int = 1

    def own(self, num_shards: int) -> list[int]:
        """The shards of this part, in order."""
        return list(range(self.number, num_shards, self.count))

    def others(self, num_shards: int) -> list[int]:
        """All other shards. Each part has another order, so that two parts rarely start on the same shard."""
        shards = sorted({*range(num_shards)} - {*self.own(num_shards)})
        return random.Random(self.number).sample(shards, len(shards))


WHOLE = Part()


def generate_corpus(
    folder: Path,
    plan: CorpusPlan,
    recipe: Recipe,
    *,
    load_speaker: Callable[[], Speak],
    part: Part = WHOLE,
    log: Callable[[str], None] | None = None,
) -> None:
    """Generate the missing shards of a corpus; other processes, on any machine, may do so at the same time.

    No process waits for another. Each generates the shards of its part first, then the missing shards of other parts,
    and ends when the corpus is complete. So the shards of a lost process are generated, too. Two processes may
    generate the same shard at the same time; their rows are equal, and the slower one stops when the other has
    finished.

    Args:
        folder (`Path`): a folder from [`open_corpus`].
        load_speaker: returns a generator such as `partial(synthesize, bark, tokenizer=tokenizer)`; called only if a
            shard is missing.
        part ([`Part`]): the part of this process.
        log (callable, *optional*): is called with a line about the progress; without it, there is no progress bar.
    """
    planned, own = plan.planned_rows(), part.own(plan.num_shards)
    finished_shards(folder, {shard: planned[shard] for shard in own})  # moves damaged ones to set_aside/
    there = {shard for shard, num_rows in planned.items() if is_recorded(folder, shard, num_rows)}
    if log is not None:
        log(f"{len(there)} of {plan.num_shards} shards are finished; the rest is divided into {part.count} parts.")
    if len(there) == plan.num_shards:
        return
    speak = load_speaker()
    # The progress bar counts estimated seconds of speech.
    total = sum(estimate_duration_s(row.text) for shard in own if shard not in there for row in plan.rows_of(shard))
    with tqdm(total=total, smoothing=0, bar_format=BAR, disable=log is None) as bar:
        for shard in own + part.others(plan.num_shards):
            if is_recorded(folder, shard, planned[shard]):
                continue
            if shard not in own:
                bar.total += sum(estimate_duration_s(row.text) for row in plan.rows_of(shard))
            try:
                rows, record = generate_shard(
                    plan,
                    shard,
                    recipe,
                    partial(speak, on_step=_Watch(folder, shard, planned[shard])),
                    on_row=lambda row: bar.update(estimate_duration_s(row.text)),
                )
            except _MadeByAnother:
                continue
            write_shard(folder, shard, rows, record, recipe.features)
            del rows
            release_freed_memory()  # glibc keeps more of it from shard to shard


class _MadeByAnother(Exception):
    """Another process has finished the shard."""


class _Watch:
    """Called at every step of a generation; raises [`_MadeByAnother`] when another process has finished the shard."""

    def __init__(self, folder: Path, shard: int, num_rows: int):
        self.shard, self.next_look = (folder, shard, num_rows), time.monotonic() + LOOK_EVERY_S

    def __call__(self, step: str) -> None:
        if time.monotonic() >= self.next_look:
            if is_recorded(*self.shard):
                raise _MadeByAnother
            self.next_look = time.monotonic() + LOOK_EVERY_S


def generate_shard(
    plan: CorpusPlan,
    shard: int,
    recipe: Recipe,
    speak: Speak,
    *,
    on_row: Callable[[PlannedRow], None] = lambda row: None,
) -> tuple[list[dict], dict]:
    """Generate and filter the rows of a shard.

    Args:
        speak: such as `functools.partial(synthesize, bark, tokenizer=tokenizer)`.
        on_row: called after each row, for a progress bar.

    Returns:
        `tuple[list[dict], dict]`: the rows that are kept, and the shard's record, both for [`write_shard`].
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


def _row(planned: PlannedRow, result: SynthesisResult, recipe: Recipe, measures: dict, failed: list[str]) -> dict:
    assert result.audio_codes.shape[1] == num_codec_frames(len(result.semantic_tokens))
    row = {name: getattr(planned, name) for name in planned.__dataclass_fields__ if name != "index"}
    if recipe.with_audio:
        row["audio"] = stored_audio(planned.id, result.waveform, result.sampling_rate)
    if recipe.folds is not None:
        row |= stored_fold(recipe.folds[planned.index])
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


__all__ = ["WHOLE", "Part", "Recipe", "Speak", "generate_corpus", "generate_shard", "model_revision"]
