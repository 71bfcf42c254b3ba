"""The benchmark of encoders: real Bark tokens recovered from clips of voices and sentences in fixed folds.

    python training/benchmarks/benchmark_encoders.py "ours=outputs/cv/fold*" community:en builtin \\
        --corpus outputs/bark_artefacts --output outputs/benchmark

Every entry is NAME=PLACE, or PLACE alone. A place is

    a pattern of folders of train_encoder.py     each is scored on its held-out fold
    a folder or Hub id of any other encoder      scored on the clips of all folds; none may be in its training data
    builtin, community:en, ...                   the encoders that `bark-semantic encoders` lists
    community_semantic                           tokens of the community's English quantizer for Suno's presets, from
                                                 the corpus: an entry at the best lag, and one without lag

An encoder that was trained on all folds is scored, marked as trained on these clips, and left out of comparisons. The
first entry is compared with each other entry on their common clips: difference, interval, p-value (sign flips of whole
voices). To add an encoder:

    1. Add its folder or Hub id as an entry. Convert another quantizer of the community (.pth) to a folder with
       `bark-semantic convert FILE --output DIR --backbone facebook/hubert-base-ls960`.
    2. To train on these clips, train once for each fold: `train_encoder.py CONFIG --fold 0 --output mine/fold0`, and
       so on; then add "mine=mine/fold*".
    3. Use the same corpus: `prepare_bark_artefacts.py` makes the folds. Figures for other folds are not comparable.

Writes summary.json, trials.parquet, report.html and model_card_rows.md; scoring is that of evaluate_encoder.py.
"""

import argparse
import glob
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import PartialState

from hf_bark_semantic.corpus.rows import Clip, load_corpus, split_fold
from hf_bark_semantic.evaluation.encoder import (
    FIELDS,
    RunScore,
    accuracy_table,
    as_estimate,
    clips_table,
    load_encoder,
    score_journal,
    score_share,
    training_record,
    with_truth,
)
from hf_bark_semantic.evaluation.journal import Journal
from hf_bark_semantic.evaluation.presets import best_lag, community_hits
from hf_bark_semantic.evaluation.report import how_made, required_packages, write_results
from hf_bark_semantic.evaluation.report_page import IntervalPlot, Table, Text
from hf_bark_semantic.evaluation.significance import paired_difference
from hf_bark_semantic.evaluation.tokens import ClipScore, summarize

COMMUNITY = "community_semantic"
HOW_TO_ADD = __doc__[__doc__.index("To add an encoder:") : __doc__.index("Writes summary.json")].strip()


@dataclass
class Entry:
    """An encoder of the benchmark: its places, its training, and its hits."""

    name: str
    places: list[str]
    training: str = ""
    comparable: bool = True
    runs: list[RunScore] = field(default_factory=list)

    @property
    def table(self) -> dict[str, dict]:
        return summarize([run.score for run in self.runs])


def main(arguments: Sequence[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entries", nargs="+", help="NAME=PLACE or PLACE; the first is compared with the others")
    parser.add_argument("--corpus", required=True, help="of prepare_bark_artefacts.py")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--known-codebooks", type=int, default=8, help="use only this number of codebooks")
    parser.add_argument("--input-level-db", type=float, help="bring waveforms to this level first, for all encoders")
    args = parser.parse_args(arguments)
    required_packages()
    clips = load_corpus(args.corpus)
    entries = [entry for text in args.entries for entry in parse_entry(text, clips)]
    if len({entry.name for entry in entries}) < len(entries):
        raise SystemExit("Two entries have the same name; give each its own as NAME=PLACE.")
    state = PartialState(cpu=not torch.cuda.is_available())
    settings = {name: getattr(args, name) for name in ("corpus", "known_codebooks", "input_level_db")}
    with score_journal(args.output, clips, **settings) as journal:
        for entry in entries:
            if not entry.runs:
                score_entry(entry, clips, args, journal)
    if not state.is_main_process:
        return {}
    comparisons = compare_entries(entries)
    summary = {"entries": [as_json(entry) for entry in entries], "comparisons": comparisons, "corpus": args.corpus}
    summary["input_level_db"] = args.input_level_db
    card = entries_table(entries)
    print_table(card)
    trials = [{"entry": entry.name, **run.as_row()} for entry in entries for run in entry.runs]
    seeds = {"trainings": sorted({str(run.seed) for entry in entries for run in entry.runs}), "bootstraps": 0}
    made = how_made("training/benchmarks/benchmark_encoders.py", arguments, seeds=seeds)
    blocks = [card, *plots(entries), comparisons_table(comparisons)]
    blocks += [accuracy_table(entry.table, entry.name) for entry in entries]
    blocks += [clips_table([run for entry in entries for run in entry.runs], clips)]
    blocks += [Text("Adding an encoder", HOW_TO_ADD)]
    write_results(
        args.output, "Benchmark of encoders", made=made, summary=summary, trials=trials, blocks=blocks, cards=[card]
    )
    print(f"\n{HOW_TO_ADD}\n\n{args.output / 'report.html'}")
    return summary


def parse_entry(text: str, clips: Sequence[Clip]) -> list[Entry]:
    """The entries of `NAME=PATTERN`, `NAME=PLACE` or `PLACE`; `community_semantic` has two, with scores."""
    name, _, place = text.rpartition("=")
    if place == COMMUNITY:
        return community_entries(name or place, clips)
    return [Entry(name or place, sorted(glob.glob(place)) or [place])]


def community_entries(name: str, clips: Sequence[Clip]) -> list[Entry]:
    """Two entries for the community's tokens of Suno's presets in the corpus: at the best lag, and without lag."""
    read = [clip for clip in clips if clip.community_tokens is not None and clip.in_folds]
    if not read:
        raise SystemExit(f"The corpus has no {COMMUNITY}; take one of prepare_bark_artefacts.py.")
    entries = []
    for lag in dict.fromkeys([best_lag(read), 0]):
        runs = []
        for clip in read:
            hits = community_hits(clip, lag)
            score = ClipScore(clip.id, clip.voice, clip.kind, "audio", clip.num_tokens, top_1=hits, top_5=None)
            runs.append(RunScore(COMMUNITY, None, None, score))
        entries.append(Entry(f"{name}, lag {lag}", [COMMUNITY], "unknown", runs=runs))
    return entries


def score_entry(entry: Entry, clips: Sequence[Clip], args, journal: Journal) -> None:
    """Score an encoder's runs on the clips that they were not trained on, if these are known."""
    known = set()
    for place in entry.places:
        record = training_record(place)
        fold, seed = (record or {}).get("fold"), (record or {}).get("seed")
        if (fold, seed) in known:
            raise SystemExit(f"{entry.name}: two runs of fold {fold}, seed {seed}. Give them entries of their own.")
        known.add((fold, seed))
        if fold is None:
            chosen = [clip for clip in clips if clip.in_folds and clip.fold >= 0]
            entry.comparable &= record is None
            entry.training = "unknown" if record is None else "trained on these clips"
        else:
            chosen = split_fold(clips, fold)[1]
            entry.training = "other folds"
        if not chosen:
            raise SystemExit(f"{args.corpus} has no clip of fold {fold}, which {place} was trained without.")
        chosen, model = with_truth(chosen), load_encoder(place, args.input_level_db)
        largest = max(int(clip.semantic_tokens.max()) for clip in chosen)
        if model.config.vocab_size <= largest:
            raise SystemExit(
                f"{place} has {model.config.vocab_size:,} tokens and the clips hold token {largest:,}: it was made "
                "for another Bark."
            )
        scores = score_share(model, chosen, journal, known_codebooks=args.known_codebooks)
        entry.runs += [RunScore(place, fold, seed, score) for score in scores]
    if len({fold for fold, _ in known}) > 1 and None in {fold for fold, _ in known}:
        raise SystemExit(f"{entry.name}: some of its runs held a fold out and some did not. Name one kind only.")


def compare_entries(entries: Sequence[Entry]) -> list[dict]:
    """Compare the first comparable entry with every other one, by kind of clip and input."""
    comparable = [entry for entry in entries if entry.comparable]
    rows = []
    for other in comparable[1:]:
        first, second = (mean_hits(entry) for entry in (comparable[0], other))
        common = [key for key in first if key in second]
        for group in dict.fromkeys((kind, inputs) for _, kind, inputs in common):
            keys = [key for key in common if key[1:] == group]
            for name in FIELDS:
                if any(side[key][name] is None for side in (first, second) for key in keys):
                    continue
                tops = ([side[key][name] for key in keys] for side in (first, second))
                tokens, voices = ([first[key][field] for key in keys] for field in ("tokens", "voice"))
                difference = paired_difference(*tops, tokens, groups=voices)
                row = {"first": comparable[0].name, "second": other.name, "clips": ", ".join(group)}
                rows.append({**row, "figure": name, **asdict(difference)})
    return rows


def mean_hits(entry: Entry) -> dict[tuple[str, str, str], dict]:
    """Hits by (clip, kind, input), averaged over the entry's runs."""
    by_clip = {}
    for run in entry.runs:
        by_clip.setdefault((run.score.id, run.score.kind, run.score.inputs), []).append(run.score)
    return {
        key: {
            "tokens": scores[0].num_tokens,
            "voice": scores[0].group,
            **{name: mean_of([getattr(score, name) for score in scores]) for name in FIELDS},
        }
        for key, scores in by_clip.items()
    }


def mean_of(hits: Sequence[int | None]) -> float | None:
    known = [count for count in hits if count is not None]
    return sum(known) / len(known) if known else None


def as_json(entry: Entry) -> dict:
    facts = {"name": entry.name, "places": entry.places, "training": entry.training, "comparable": entry.comparable}
    return {**facts, "table": entry.table}


def entries_table(entries: Sequence[Entry]) -> Table:
    rows = []
    for entry in entries:
        for line in accuracy_table(entry.table).rows:
            rows.append([entry.name, *line, entry.training])
    rows.sort(key=lambda row: row[1:3])
    columns = ["encoder", "clips", "read from", "top-1", "top-5", "clips", "voices", "tokens", "trained on"]
    return Table("Encoders", columns, rows, "Intervals by bootstrap over voices.")


def print_table(table: Table) -> None:
    lines = [list(table.columns), *table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(map(str.ljust, line, widths)).rstrip())


def plots(entries: Sequence[Entry]) -> list[IntervalPlot]:
    """Top-1 accuracy of all entries, one plot for each kind of clip and input."""
    points = {}
    for entry in entries:
        for name, row in entry.table.items():
            points.setdefault(name, []).append((entry.name, as_estimate(row, "top_1")))
    return [IntervalPlot(f"Top-1, {name}", rows, percent=True) for name, rows in points.items()]


def comparisons_table(comparisons: Sequence[Mapping]) -> Table:
    rows = []
    for row in comparisons:
        shown = f"{row['value']:+.1%} [{row['low']:+.1%}, {row['high']:+.1%}]"
        names = [f"{row['first']} − {row['second']}", row["clips"], FIELDS[row["figure"]]]
        rows.append([*names, shown, f"{row['p_value']:.4f}", str(row["count"]), str(row["groups"])])
    columns = ["encoders", "clips", "figure", "difference", "p", "clips", "voices"]
    return Table("Differences on the same clips", columns, rows, "p from swapping whole voices.")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
