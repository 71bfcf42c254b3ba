"""Rows of a plan, spoken by a Bark and filtered.

Recipe            what becomes of a plan's rows: model, filters, columns
generate_shard    one shard's rows, spoken and filtered
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from datasets import Features

from ..bark.request import SynthesisRequest, SynthesisResult
from ..configuration_bark_semantic import num_codec_frames
from ..files import sha256_of_file
from .filters import Filters, measure
from .plan import CorpusPlan, PlannedRow
from .rows import SPEECH_COLUMNS, row_features, stored_audio

SOURCE = "synthetic"  # the `source` by which a batch plan chooses these rows


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

    @property
    def features(self) -> Features:
        """The columns of the rows."""
        return row_features({*SPEECH_COLUMNS, "audio"} if self.with_audio else SPEECH_COLUMNS)

    def description(self) -> dict:
        judges = {name: getattr(judge, "description", "") for name, judge in self.judges.items()}
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**values, "filters": asdict(self.filters), "judges": judges}


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


def digest_of_files(paths: Iterable[Path]) -> str:
    """One SHA-256 of the content of files, in the order of their names."""
    return hashlib.sha256("".join(map(sha256_of_file, sorted(paths))).encode()).hexdigest()


def _row(planned: PlannedRow, result: SynthesisResult, recipe: Recipe, measures: dict, failed: list[str]) -> dict:
    assert result.audio_codes.shape[1] == num_codec_frames(len(result.semantic_tokens))
    row = {name: getattr(planned, name) for name in planned.__dataclass_fields__ if name != "index"}
    if recipe.with_audio:
        row["audio"] = stored_audio(planned.id, result.waveform, result.sampling_rate)
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


__all__ = ["Recipe", "digest_of_files", "generate_shard"]
