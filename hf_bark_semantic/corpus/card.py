"""Texts about a finished corpus: the dataset card, and a summary in one line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..bark.configs import SUNO_TEMPERATURES
from ..files import read_json
from ..publishing import markdown_table, render_card
from .shards import shard_records, summarize_records

SIZE_CATEGORIES = [(10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")]


def corpus_card(folder: Path, template: Path, *, texts: Sequence[str], license_id: str | None = None) -> str:
    """The dataset card of a corpus of Bark's own speech; its figures come from the shards' records and corpus.json.

    Args:
        folder (`Path`): the corpus.
        template (`Path`): `packaged.card_template("corpus")`.
        texts (`Sequence[str]`): names of the sources of the texts.
        license_id (`str`, *optional*): a license id of the Hub, such as `"cc0-1.0"`.
    """
    description = read_json(folder / "corpus.json")
    plan, recipe, total = description["plan"], description["recipe"], summarize_records(shard_records(folder))
    rows, speech_s = total["rows"], total["speech_s"]
    values = {
        "name": folder.resolve().name,
        "rows": f"{rows:,}",
        "hours": f"{sum(speech_s.values()) / 3600:.2f}",
        "tokens": f"{total['tokens']:,}",
        "megabytes": f"{total['bytes'] / 1e6:,.1f}",
        "model": f"{recipe['model']} (revision `{recipe['revision'][:12]}`, {recipe['dtype']})",
        "texts": f"{plan['sentences']['count']:,} texts of {', '.join(texts)}",
        "sounds": f"{plan['sound_share']:.0%}",
        "voices": f"{len(total['voices']):,}",
        "folds": str(recipe.get("folds") or "none"),
        "temperatures": "; ".join(f"{stage} {plan[f'{stage}_temperatures']}" for stage in SUNO_TEMPERATURES),
        "seed": str(plan["seed"]),
        "audio": "FLAC, 24 kHz" if recipe["with_audio"] else "not stored; Bark's codec decodes it from `audio_codes`",
        "language_table": markdown_table(
            ["language", "hours"], [(name, f"{seconds / 3600:.2f}") for name, seconds in sorted(speech_s.items())]
        ),
        "planned": f"{total['planned_rows']:,}",
        "rejected": f"{total['rejected_rows']:,}",
        "kept": "they are kept and marked" if recipe["keep_rejected"] else "they are left out",
        "filter_table": markdown_table(["filter", "limit", "rows that failed it"], _refusals(recipe, total)),
        "judges": ", ".join(f"{name} by {model}" for name, model in recipe["judges"].items()) or "none was used",
        "compute_hours": f"{total['compute_s'] / 3600:.2f}",
    }
    size = next((name for limit, name in SIZE_CATEGORIES if rows < limit), "n>1M")
    metadata = {"license": license_id, "language": sorted(speech_s.keys() - {"unknown"}), "size_categories": [size]}
    return render_card(template, values, metadata=metadata)


def _refusals(recipe: Mapping[str, Any], total: Mapping[str, Any]) -> list[tuple]:
    """The filters that were applied, their limits, and how many rows failed each."""
    unmeasured = {"word_error_rate", "speaker_similarity"} - recipe["judges"].keys()
    limits = {"empty": "some speech"}
    for name, limit in recipe["filters"].items():
        if limit not in (None, False) and name.partition("_")[2] not in unmeasured:
            limits[name] = limit
    return [(name, limit, total["rejected"][name]) for name, limit in limits.items()]


def corpus_summary(folder: Path) -> str:
    """One line with the size of a corpus and the number of rows that failed each filter."""
    total = summarize_records(shard_records(folder))
    seconds = sum(total["speech_s"].values())
    length = f"{seconds / 3600:.2f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"
    reasons = ", ".join(f"{name} {count:,}" for name, count in total["rejected"].most_common()) or "none"
    return (
        f"{folder}: {total['rows']:,} rows, {length}, {total['bytes'] / 1e6:,.2f} MB. "
        f"{total['rejected_rows']:,} of {total['planned_rows']:,} failed a filter ({reasons})."
    )


__all__ = ["corpus_card", "corpus_summary"]
