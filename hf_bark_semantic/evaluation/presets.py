"""Accuracy on Suno's presets in every language, beside the community's quantizer on the same clips.

    preset_report     figures by language, for JSON
    preset_blocks     the same as a table and a plot
    community_tokens  the community's tokens of a clip, shifted by a lag
    best_lag          the lag at which most of them are correct

The community's HuBERT quantizer was trained on English. Its tokens are from the enhanced renderings, so the comparison
uses those. These files were delayed by 50 ms, which is 2.5 tokens: the best of a few lags is chosen for all clips.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..corpus.rows import Clip
from .encoder import FIELDS, as_estimate, format_interval
from .report_page import IntervalPlot, Table
from .significance import Estimate, PairedDifference, paired_difference, ratio_estimate
from .tokens import ClipScore

LAGS = range(5)  # tokens
ALL = "all"
RENDERINGS = {"preset": "plain", "preset_enhanced": "enhanced"}  # by source in the corpus
COLUMNS = {
    **{f"{name}_{field}": f"{name}: {words}" for name in RENDERINGS.values() for field, words in FIELDS.items()},
    "community": "community: top-1",
    "community_lag_0": "community, lag 0",
    "difference": "enhanced − community",
}


def preset_report(scores: Iterable[ClipScore], clips: Sequence[Clip]) -> dict | None:
    """Figures by language with 95 % intervals, by bootstrap over voices.

    Args:
        scores (iterable of `ClipScore`): scores of encoders; may be empty.
        clips (sequence of `Clip`): the whole corpus. Clips that are in no fold are ignored.

    Returns:
        `dict`: `lag` in tokens, and `languages`, each with the numbers of `clips`, voices (`groups`), `tokens` (of one
            rendering) and `compared_clips`; with `plain_top_1`, `plain_top_5`, `enhanced_top_1` and `enhanced_top_5`;
            and with `community`, `community_lag_0` and `difference` (`enhanced_top_1` minus `community`, on the same
            clips). `None` if there are neither scores for presets nor tokens of the community.
    """
    presets = {clip.id: clip for clip in clips if clip.source in RENDERINGS and clip.in_folds}
    scored = [(presets[score.id], score) for score in scores if score.id in presets and score.inputs == "audio"]
    read = [clip for clip in presets.values() if clip.community_tokens is not None]
    lag = best_lag(read)
    if scored:
        ids = {clip.id for clip, _ in scored}
        read = [clip for clip in read if clip.id in ids]
    found = sorted({clip.language for clip in [*read, *(clip for clip, _ in scored)]})
    rows = {}
    for language in [*found, ALL] if found else []:
        here = {language} if language != ALL else {*found}
        of_language = [(clip, score) for clip, score in scored if clip.language in here]
        rows[language] = _figures(of_language, [clip for clip in read if clip.language in here], lag)
    return {"lag": lag, "languages": rows} if rows else None


def best_lag(clips: Sequence[Clip]) -> int:
    """The delay of the community's tokens: the one of `LAGS` at which most tokens of all clips are correct."""
    read = [clip for clip in clips if clip.community_tokens is not None]
    return max(LAGS, key=lambda lag: sum(community_hits(clip, lag) for clip in read))


def community_tokens(clip: Clip, lag: int) -> np.ndarray:
    """The community's tokens of a clip, `(num_tokens,)`, shifted by `lag`; -1 beyond their end."""
    moved = clip.community_tokens[lag:][: clip.num_tokens]
    return np.pad(moved, (0, clip.num_tokens - len(moved)), constant_values=-1)


def community_hits(clip: Clip, lag: int) -> int:
    """The number of correct [`community_tokens`]."""
    return int((community_tokens(clip, lag) == clip.semantic_tokens).sum())


def _figures(scored: Sequence[tuple[Clip, ClipScore]], read: Sequence[Clip], lag: int) -> dict:
    """The row of one language."""
    by_voice = {clip.voice: clip for clip in [*read, *(clip for clip, _ in scored)]}
    row = {"clips": len(by_voice), "groups": len(by_voice), "tokens": sum(c.num_tokens for c in by_voice.values())}
    row["compared_clips"] = len(read)
    for source, name in RENDERINGS.items():
        chosen = [(clip, score) for clip, score in scored if clip.source == source]
        for field in FIELDS if chosen else ():
            row[f"{name}_{field}"] = clip_estimate(
                [clip for clip, _ in chosen], [getattr(s, field) for _, s in chosen]
            )
    for name, shift in (("community", lag), ("community_lag_0", 0)) if read else ():
        row[name] = clip_estimate(read, [community_hits(clip, shift) for clip in read])
    both = [(clip, score) for clip, score in scored if clip.community_tokens is not None]
    if both:
        ours, theirs = [score.top_1 for _, score in both], [community_hits(clip, lag) for clip, _ in both]
        tokens, voices = zip(*((clip.num_tokens, clip.voice) for clip, _ in both), strict=True)
        difference = paired_difference(ours, theirs, tokens, groups=voices)
        row["difference"] = {**interval(difference), "p_value": difference.p_value}
    return row


def clip_estimate(clips: Sequence[Clip], hits: Sequence[int]) -> dict[str, float]:
    """The share of correct tokens, with its interval by bootstrap over voices."""
    tokens, voices = [clip.num_tokens for clip in clips], [clip.voice for clip in clips]
    return interval(ratio_estimate(hits, tokens, groups=voices))


def interval(figure: Estimate | PairedDifference) -> dict[str, float]:
    return {"mean": figure.value, "low": figure.low, "high": figure.high}


def preset_blocks(report: Mapping) -> list[Table | IntervalPlot]:
    """The figures of [`preset_report`] as a table, also for model cards, and a plot of the differences."""
    rows = report["languages"].items()
    points = [(language, as_estimate(row, "difference")) for language, row in rows if "difference" in row]
    plot = IntervalPlot("Top-1 on the enhanced presets: the encoder minus the community's quantizer", points, True)
    return [preset_table(report), plot] if points else [preset_table(report)]


def preset_table(report: Mapping) -> Table:
    """A table with a row for each language and one for all; columns without figures are left out."""
    rows = report["languages"]
    columns = {name: words for name, words in COLUMNS.items() if any(name in row for row in rows.values())}
    lines = []
    for language, row in rows.items():
        cells = [_cell(name, row.get(name)) for name in columns]
        lines.append([language, *cells, str(row["clips"]), str(row["compared_clips"]), f"{row['tokens']:,}"])
    note = (
        "Every voice has one clip, in two renderings. The community's quantizer, trained on English, was given the "
        f"enhanced rendering. Its tokens are scored with a lag of {report['lag']} tokens, the best lag of {LAGS[0]} "
        f"to {LAGS[-1]} for all clips together, and with no lag. Intervals are by bootstrap over voices."
    )
    columns = ["language", *columns.values(), "voices", "compared", "tokens"]
    return Table("Suno's presets by language", columns, lines, note)


def _cell(name: str, figure: Mapping[str, float] | None) -> str:
    if figure is None:
        return ""
    if name == "difference":
        return f"{figure['mean']:+.1%} [{figure['low']:+.1%}, {figure['high']:+.1%}]"
    return format_interval(figure)


__all__ = [
    "best_lag",
    "clip_estimate",
    "community_hits",
    "community_tokens",
    "interval",
    "preset_blocks",
    "preset_report",
    "preset_table",
]
