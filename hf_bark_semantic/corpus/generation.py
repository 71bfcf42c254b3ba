"""Rows of a plan, spoken by a Bark and filtered.

Recipe             what becomes of a plan's rows: model, filters, columns
model_revision     which weights speak
generate_corpus    the shards that are missing, each by one of the processes
generate_shard     one shard's rows, spoken and filtered
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from accelerate import Accelerator
from datasets import Features
from huggingface_hub import hf_hub_download
from tqdm import tqdm

from ..bark.request import SynthesisRequest, SynthesisResult
from ..configuration_bark_semantic import num_codec_frames
from ..files import sha256_of_file
from ..voices.splitting import estimate_duration_s
from .filters import Filters, measure
from .plan import CorpusPlan, PlannedRow
from .rows import FOLD_COLUMNS, SPEECH_COLUMNS, row_features, stored_audio, stored_fold
from .shards import missing_shards, write_shard

SOURCE = "synthetic"  # the `source` by which a batch plan chooses these rows
BAR = "{percentage:3.0f}% |{bar}| {n:,.0f} of {total:,.0f} s of speech, {elapsed} so far, {remaining} left"

Speak = Callable[[list[SynthesisRequest]], Iterable[SynthesisResult]]


@dataclass(frozen=True, eq=False)
class Recipe:
    """What becomes of a plan's rows.

    Args:
        model (`str`), revision (`str`): the Bark, and a fingerprint of its weights.
        dtype (`str`): of its weights.
        filters (`Filters`): what is kept.
        judges (`Mapping[str, Callable]`): `(result, language) -> float | None` by the measure that they take,
            `word_error_rate` or `speaker_similarity`; each with a `description`.
        keep_rejected (`bool`): keep rows that fail a filter, too, with its name in `failed_filters`.
        with_audio (`bool`): store the waveform as well (FLAC, 16 bit; what is beyond full scale is clipped).
        folds (`Sequence[int | None]`, *optional*): of every row of the plan, for the columns `fold` and `in_folds`.
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
        """All that rows depend on beside their plan, small enough for a file."""
        judges = {name: getattr(judge, "description", "") for name, judge in self.judges.items()}
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        num_folds = None if self.folds is None else len(set(self.folds) - {None})
        return {**values, "filters": asdict(self.filters), "judges": judges, "folds": num_folds}


def model_revision(place: str, revision: str | None = None) -> tuple[str, str]:
    """The name of a model, and a fingerprint of its files.

    Args:
        place (`str`): a folder, of whose weights the SHA-256 is taken; or a Hub id.
        revision (`str`, *optional*): of the Hub id; its commit is found.

    Raises:
        OSError: there is no such model, or it isn't cached and the Hub cannot be reached.
    """
    if Path(place).is_dir():
        digests = [sha256_of_file(file) for file in sorted(Path(place).glob("*.safetensors"))]
        return Path(place).resolve().name, hashlib.sha256("".join(digests).encode()).hexdigest()
    # The files of a commit are in a folder of its name: .../snapshots/<commit>/config.json
    return place, Path(hf_hub_download(place, "config.json", revision=revision)).parent.name


def generate_corpus(
    folder: Path, plan: CorpusPlan, recipe: Recipe, *, load_speaker: Callable[[], Speak], accelerator: Accelerator
) -> None:
    """Make what is missing. Each process looks through a part of the shards, then makes a part of the missing ones.

    Args:
        folder (`Path`): opened by [`open_corpus`].
        load_speaker: loads a Bark; called only by processes that have something to make.
        accelerator (`Accelerator`): of the processes.
    """
    missing, num_processes = missing_shards(folder, plan.planned_rows()), accelerator.num_processes
    num_there = plan.num_shards - len(missing)
    accelerator.print(f"{num_there} of {plan.num_shards} shards are there; {num_processes} at work on the others.")
    mine = missing[accelerator.process_index :: num_processes]
    if not mine:
        return
    speak = load_speaker()
    # The first process has the most shards, so its end is the end. Sentences count by their estimated duration.
    total = sum(estimate_duration_s(row.text) for shard in mine for row in plan.rows_of(shard))
    with tqdm(total=total, smoothing=0, bar_format=BAR, disable=not accelerator.is_main_process) as bar:
        for shard in mine:
            rows, record = generate_shard(
                plan, shard, recipe, speak, on_row=lambda row: bar.update(estimate_duration_s(row.text))
            )
            write_shard(folder, shard, rows, record, recipe.features)


def generate_shard(
    plan: CorpusPlan,
    shard: int,
    recipe: Recipe,
    speak: Speak,
    *,
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


__all__ = ["Recipe", "Speak", "generate_corpus", "generate_shard", "model_revision"]
