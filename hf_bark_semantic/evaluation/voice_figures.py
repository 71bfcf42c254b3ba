"""Figures of scored trials with intervals, by part and condition.

summarize           all figures of trials
figure              one figure of trials
compare             two conditions on the same trials: difference and significance
compare_pairs       compare several pairs of conditions; comparisons_table shows the result
format_table        figures as text
badness             a sort key for lists that start with the worst trials
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ..publishing import markdown_table
from .significance import Estimate, PairedDifference, holm, paired_difference, ratio_estimate
from .voice_clips import KINDS

COMPARED = ("identified", "similarity", "wer", "mos")


def summarize(records: Iterable[Mapping[str, Any]], *, seed: int = 0) -> list[dict[str, Any]]:
    """Figures of every part and condition, each with a 95 % interval by bootstrap over voices.

    Args:
        records (`Iterable[dict]`): from [`~journal.Journal.records`].

    Returns:
        `list[dict]`: `part`, `condition`, `trials`, `voices`, `failed`, `candidates` (voices that an identification
            chooses from), and in `figures` an [`Estimate`] by name:
            `wer/digits`, `wer/sentences`, `cer`, `identified/<model>`, `similarity/<model>`, `mos`, ...;
            `wer_above_original/<kind>` is the [`PairedDifference`] to the word error rate of the recordings.
    """
    records = list(records)
    rows = []
    for part, condition in dict.fromkeys((record["part"], record["condition"]) for record in records):
        own = [record for record in records if (record["part"], record["condition"]) == (part, condition)]
        row = {"part": part, "condition": condition, "trials": len(own)}
        row |= {"voices": len({record["voice"] for record in own}), "failed": sum(r["failed"] for r in own)}
        row["candidates"] = min(1 + len(record["distractors"]) for record in own)
        names = dict.fromkeys(name for record in own for name in _figures_of(record))
        row["figures"] = {name: figure(own, name, seed=seed) for name in names}
        if part != "original":
            row["figures"] |= _above_original(own, records)
        rows.append(row)
    return rows


def figure(records: Sequence[Mapping[str, Any]], name: str, *, seed: int = 0) -> Estimate | None:
    """One figure of `summarize` for these trials; `None` if no trial has it."""
    chosen = [record for record in records if name in _figures_of(record)]
    if not chosen:
        return None
    tops, bottoms = zip(*(_figures_of(record)[name] for record in chosen), strict=True)
    return ratio_estimate(tops, bottoms, groups=[record["voice"] for record in chosen], seed=seed)


def compare(
    records: Iterable[Mapping[str, Any]], first: str, second: str, name: str, *, part: str = "clone", seed: int = 0
) -> PairedDifference | None:
    """A figure of one condition minus that of another, on the trials that both have; `None` without such trials.

    Args:
        records (`Iterable[dict]`), name (`str`), seed (`int`): as in [`figure`].
        first (`str`), second (`str`): the conditions.
        part (`str`): the part of the trials, see [`Trial`].
    """
    by_trial = {}
    for record in records:
        if record["part"] == part and name in _figures_of(record):
            by_trial.setdefault((record["clip"], record["seed"]), {})[record["condition"]] = record
    pairs = [(both[first], both[second]) for both in by_trial.values() if first in both and second in both]
    return _paired(pairs, name, seed) if pairs else None


def compare_pairs(
    rows: Sequence[dict], records: Sequence[dict], pairs: Sequence[tuple[str, str]], *, seed: int
) -> list[dict]:
    """Figures of clones in the first condition of each pair minus those in its second, on the same trials.

    Args:
        rows (sequence of `dict`), records (sequence of `dict`): the result and the input of `summarize`.
        pairs (sequence of two `str`): the conditions; Holm's correction covers all pairs of a figure.
        seed (`int`): seed of the bootstrap.
    """
    names = dict.fromkeys(name for row in rows if row["part"] == "clone" for name in row["figures"])
    compared = []
    for name in names:
        if name.partition("/")[0] not in COMPARED:
            continue
        found = [(pair, compare(records, *pair, name, seed=seed)) for pair in pairs]
        found = [(pair, difference) for pair, difference in found if difference is not None]
        adjusted = holm([difference.p_value for _, difference in found])
        for ((first, second), difference), p_holm in zip(found, adjusted, strict=True):
            row = {"figure": name, "first": first, "second": second, "shown": format_estimate(name, difference)}
            compared.append({**row, **asdict(difference), "p_holm": p_holm})
    return compared


def comparisons_table(rows: Sequence[dict]) -> str:
    names = ("figure", "first", "second", "shown")
    cells = [[*(row[name] for name in names), f"{row['p_value']:.4f}", f"{row['p_holm']:.4f}"] for row in rows]
    return markdown_table(["figure", "condition", "minus", "difference", "p", "p (Holm)"], cells)


def _above_original(own: Sequence[Mapping], records: Sequence[Mapping]) -> dict[str, PairedDifference]:
    """Word error rates minus those of the recordings of the same clips."""
    originals = {record["clip"]: record for record in records if record["part"] == "original"}
    differences = {}
    for kind in KINDS:
        name = f"wer/{kind}"
        pairs = [(record, originals[record["clip"]]) for record in own if record["clip"] in originals]
        pairs = [pair for pair in pairs if all(name in _figures_of(record) for record in pair)]
        if pairs:
            differences[f"wer_above_original/{kind}"] = _paired(pairs, name, 0)
    return differences


def _paired(pairs: Sequence[tuple[Mapping, Mapping]], name: str, seed: int) -> PairedDifference:
    first, second = ([_figures_of(record)[name] for record in records] for records in zip(*pairs, strict=True))
    return paired_difference(
        [top for top, _ in first],
        [top for top, _ in second],
        [bottom for _, bottom in first],
        groups=[record["voice"] for record, _ in pairs],
        seed=seed,
    )


def _figures_of(record: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """The numerator and denominator of a trial for each figure."""
    figures = {}
    if "word_errors" in record:
        figures[f"wer/{record['kind']}"] = record["word_errors"], record["num_words"]
        figures["cer"] = record["letter_errors"], record["num_letters"]
    for name, value in record.items():
        measure, _, model = name.partition("/")
        if measure == "rank":
            figures[f"identified/{model}"] = float(value == 1), 1.0
        elif (measure in ("similarity", "best_distractor", "mean_distractor") or name in _MEANS) and value is not None:
            figures[name] = value, 1.0
    if record.get("synthesis_s") is not None and not record["failed"]:
        figures["real_time_factor"] = record["synthesis_s"], record["seconds"]
    return figures


_MEANS = (
    "mos", "pesq", "stoi", "mcd", "pitch_correlation", "pitch_distance", "energy_correlation", "silence",
    "longest_pause_s", "repetition",
)  # fmt: skip


def figures_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The figures of `summarize` as column names and rows of cells: value [low, high]; shares and rates in percent.

    Args:
        rows (sequence of `dict`): from [`summarize`].
        columns (sequence of `str`): names of figures; `"identified"` stands for those of all models.
    """
    columns = matching_figures(rows, columns)
    lines = []
    for row in rows:
        cells = [format_estimate(name, row["figures"].get(name)) for name in columns]
        lines.append([row["part"], row["condition"], str(row["trials"]), str(row["failed"]), *cells])
    return ["part", "condition", "trials", "failed", *columns], lines


def matching_figures(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """Names of the figures that rows of `summarize` have, in the order of `columns`; see [`figures_table`]."""
    names = list(dict.fromkeys(name for row in rows for name in row["figures"]))
    return [name for column in columns for name in names if name == column or name.startswith(f"{column}/")]


def format_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """[`figures_table`] as lines of text."""
    heads, lines = figures_table(rows, columns)
    measures = [["", "", "", ""], ["part", "condition", "trials", "failed"]]
    for name in heads[4:]:
        for line, word in zip(measures, name.partition("/")[::2], strict=True):
            line.append(word)
    lines = measures + lines
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def badness(record: Mapping[str, Any]) -> float:
    """A sort key for trials: failures, then word errors and wrong voices.

    The word error rate plus the share of speaker models that identify another voice; plus 10 for a failure, and less
    than 0.1 for similarities below 1.
    """
    ranks = [value for name, value in record.items() if name.startswith("rank/")]
    near = [value for name, value in record.items() if name.startswith("similarity/") and value is not None]
    wrong = sum(rank > 1 for rank in ranks) / len(ranks) if ranks else 0.0
    words = record.get("word_errors", 0) / max(1, record.get("num_words", 1))
    far = (1 - float(np.mean(near))) / 20 if near else 0.0
    return 10.0 * bool(record["failed"]) + words + wrong + far


_SHARES = ("wer", "wer_above_original", "cer", "identified", "silence", "repetition")


def format_estimate(name: str, estimate: Estimate | PairedDifference | None) -> str:
    """A figure with its interval; rates and shares are in percent."""
    if estimate is None:
        return ""
    if is_share(name):
        return f"{estimate.value:.1%} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def is_share(name: str) -> bool:
    """Whether a figure is a rate or a share, by its name."""
    return name.partition("/")[0] in _SHARES


__all__ = [
    "badness",
    "compare",
    "compare_pairs",
    "comparisons_table",
    "figure",
    "figures_table",
    "format_estimate",
    "format_table",
    "is_share",
    "matching_figures",
    "summarize",
]
