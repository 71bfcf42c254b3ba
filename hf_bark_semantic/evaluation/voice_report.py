"""The report of evaluate_voice and of studies: figures by condition, then voices and trials, the worst first."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .report import write_results
from .report_page import MAX_SOUNDS, IntervalPlot, Sound, Table, Text
from .voice_figures import badness, figure, figures_table, format_estimate, is_share, matching_figures, summarize

WORST = "Worst first: failures, then word error rate plus the share of speaker models that identify another voice."


def write_voice_results(
    folder: Path, title: str, made: Mapping[str, Any], summary: Mapping[str, Any], *, columns: Sequence[str]
) -> None:
    """Write summary.json, trials.parquet, report.html and model_card_rows.md.

    Args:
        folder (`Path`): the folder of the evaluation.
        title (`str`), made (`dict`): see `write_results`.
        summary (`dict`): from `evaluate`: `rows`, `records`, `voices`, `left_out`, `planned`, `trials`, `settings`;
            for an ablation also `comparisons`.
        columns (sequence of `str`): the figures to show, see `figures_table`.
    """
    records, rows = summary["records"], summary["rows"]
    kept = {name: value for name, value in summary.items() if name not in ("records", "rows", "voices")}
    kept["rows"] = [as_json(row) for row in rows]
    kept["voices_with_one_recording"] = [voice.name for voice in summary["voices"] if voice.one_recording]
    heads, lines = figures_table(rows, columns)
    voices = [str(row["voices"]) for row in rows]
    lines = [[*line[:2], number, *line[2:]] for line, number in zip(lines, voices, strict=True)]
    card = Table("", [*heads[:2], "voices", *heads[2:]], lines)
    blocks = [overview(summary), Table("Figures", card.columns, card.rows), *plots(rows, columns)]
    if summary.get("comparisons"):
        blocks.append(comparisons_table(summary["comparisons"]))
    blocks += [*by_source(summary, columns), side_by_side(folder, records), voices_table(records, columns)]
    blocks.append(trials_table(records))
    write_results(folder, title, made=made, summary=kept, trials=records, blocks=blocks, cards=[card])


def as_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `summarize` with its estimates as dicts."""
    return {**row, "figures": {name: asdict(estimate) for name, estimate in row["figures"].items()}}


def overview(summary: Mapping[str, Any]) -> Text:
    sources = {}
    for voice in summary["voices"]:
        sources[voice.source] = sources.get(voice.source, 0) + 1
    parts = [f"{count} held-out voices from {source}" for source, count in sources.items()]
    alone = sum(voice.one_recording for voice in summary["voices"])
    failed = sum(record["failed"] for record in summary["records"])
    sentences = [
        f"{', '.join(parts)}. {summary['trials']} of {summary['planned']} trials are scored, {failed} failed."
    ]
    if alone:
        sentences.append(
            f"{alone} voices have a single recording; prompt and enrolment are two parts of it, so their "
            "similarity depends on its room and microphone, too."
        )
    if summary["left_out"]:
        sentences.append(f"Left out for too few recordings or texts: {', '.join(summary['left_out'])}.")
    return Text("What was evaluated", " ".join(sentences))


def plots(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[IntervalPlot]:
    """One plot per figure, with a row for each condition."""
    result = []
    for name in matching_figures(rows, columns):
        points = [(label(row), row["figures"][name]) for row in rows if row["figures"].get(name) is not None]
        result.append(IntervalPlot(name, points, percent=is_share(name)))
    return result


def label(row: Mapping[str, Any]) -> str:
    """The label of a row or a trial: its part, and the condition of a clone."""
    return row["part"] if row["condition"] == row["part"] else f"{row['part']}, {row['condition']}"


def comparisons_table(comparisons: Iterable[Mapping[str, Any]]) -> Table:
    rows = [
        [row["figure"], f"{row['first']} − {row['second']}", row["shown"], *(f"{row[p]:.4f}" for p in P_VALUES)]
        + [str(row["count"]), str(row["groups"])]
        for row in sorted(comparisons, key=lambda row: row["p_value"])
    ]
    columns = ["figure", "conditions", "difference", "p", "p (Holm)", "trials", "voices"]
    note = "On the same voices, texts and seeds; p-values from sign flips of whole voices. Most significant first."
    return Table("Differences between conditions", columns, rows, note)


P_VALUES = ("p_value", "p_holm")


def by_source(summary: Mapping[str, Any], columns: Sequence[str]) -> list[Table]:
    """The figures of each source, if there are several."""
    tables = []
    sources = dict.fromkeys(voice.source for voice in summary["voices"])
    for source in sources if len(sources) > 1 else ():
        names = {voice.name for voice in summary["voices"] if voice.source == source}
        rows = summarize([record for record in summary["records"] if record["voice"] in names])
        tables.append(Table(f"Voices of {source}", *figures_table(rows, columns)))
    return tables


def side_by_side(folder: Path, records: Sequence[Mapping[str, Any]]) -> Table:
    """A table with the conditions of each clip side by side; the clips with the worst clones are first."""
    conditions = list(dict.fromkeys(label(r) for r in records if r["part"] != "presets"))
    rows = {}
    for record in records:
        if record["part"] in ("original", "codec"):
            rows.setdefault((record["clip"], None), {})[label(record)] = record
    spoken = {}
    for record in records:
        if record["part"] == "clone":
            spoken.setdefault((record["clip"], record["seed"]), {})[label(record)] = record
    for (clip, seed), own in spoken.items():
        rows[clip, seed] = {**rows.get((clip, None), {}), **own}
    for clip in {clip for clip, _ in spoken}:
        rows.pop((clip, None), None)
    ranked = sorted(rows.items(), key=lambda item: -sum(map(badness, item[1].values())) / len(item[1]))
    lines = []
    for (_, seed), own in ranked[: max(1, MAX_SOUNDS // max(1, len(conditions)))]:
        first = next(iter(own.values()))
        lines.append([first["voice"], first["text"], "" if seed is None else str(seed)])
        lines[-1] += [sound(folder, own[name]) if name in own else None for name in conditions]
    note = f"{len(lines)} of {len(ranked)} clips, those with the worst mean over the conditions first. {WORST}"
    return Table("Side by side", ["voice", "text", "seed", *conditions], lines, note)


def sound(folder: Path, record: Mapping[str, Any]) -> Sound | str:
    """The player of a trial."""
    if not record.get("audio") or record["failed"]:
        return "nothing audible"
    return Sound(folder / record["audio"], ", ".join(scores(record)))


def scores(record: Mapping[str, Any]) -> list[str]:
    """The scores of a trial as text."""
    texts = [f"{record['word_errors']} of {record['num_words']} words wrong"] if "word_errors" in record else []
    for name, value in record.items():
        measure, _, model = name.partition("/")
        if measure == "rank":
            texts.append(f"{model}: rank {value} of {1 + len(record['distractors'])}")
    return texts + [f"{name.upper()} {record[name]:.2f}" for name in ("mos", "pesq") if record.get(name) is not None]


def voices_table(records: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Table:
    """The figures of every voice in every condition."""
    by_voice = {}
    for record in records:
        by_voice.setdefault((label(record), record["voice"]), []).append(record)
    names = [name for name in matching_figures(summarize(records), columns) if name.partition("/")[0] in OF_VOICES]
    lines = []
    for (condition, voice), own in sorted(by_voice.items(), key=lambda item: -mean_badness(item[1])):
        cells = [format_estimate(name, figure(own, name)) for name in names]
        lines.append([voice, condition, str(len(own)), str(sum(record["failed"] for record in own)), *cells])
    note = f"{WORST} Intervals are over the voice's trials."
    return Table("Voices", ["voice", "condition", "trials", "failed", *names], lines, note)


OF_VOICES = ("wer", "identified", "similarity", "mos", "pesq", "stoi")


def mean_badness(records: Sequence[Mapping[str, Any]]) -> float:
    return sum(map(badness, records)) / len(records)


def trials_table(records: Sequence[Mapping[str, Any]]) -> Table:
    lines = [
        [r["voice"], label(r), str(r["seed"]), r["text"], r.get("transcript", ""), "failed" * bool(r["failed"])]
        + ["; ".join(scores(r))]
        for r in sorted(records, key=lambda record: -badness(record))
    ]
    note = f"{WORST} trials.parquet has all of them with all scores."
    return Table("Trials", ["voice", "condition", "seed", "text", "transcript", "failed", "scores"], lines, note)
