"""Fuzz the doors with many inputs, in worker processes, and print a summary.

    python tests/fuzz/run.py --cases 20000                            as in the tests
    python tests/fuzz/run.py --cases 1000000 --output outputs/fuzz    a long run; the same command continues it
    python tests/fuzz/run.py --door npz --seed 123 --keep folder      repeat one input, and keep a copy of it

A worker that dies or hangs is replaced, and its input counts as failed.
"""

import argparse
import faulthandler
import gc
import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import psutil
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.doors import DOORS, Door  # noqa: E402
from fuzz.judge import FAILED, REFUSED, RESULT, Judge, Outcome, memory  # noqa: E402

HANG_S = 60.0  # a worker that has no outcome for this time, or for ...
HANG_CPU_S = 20.0  # ... this CPU time, is stopped; on a busy machine, the two differ a lot
REPORT_S = 0.1  # interval at which a worker reports outcomes
MOST_ADDRESSES = 4 * 2**30  # additional address space of a worker, so that no input exhausts the machine
CASES_AT_ONCE = 250  # inputs of one door in a worker's chunk; a killed run loses at most one chunk
SHOWN_SEEDS = 5  # seeds shown per failure
FORK = multiprocessing.get_context("fork")  # libraries and audio files are loaded once


class Chunk(NamedTuple):
    """Seeds of one door, from `first` up to but not including `last`."""

    door: str
    first: int
    last: int


@dataclass
class Tally:
    """The outcomes of a chunk: counts by kind, and the seeds and a detail of each problem."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, seed: int, outcome: Outcome) -> None:
        self.counts[outcome.kind] += 1
        if outcome.kind == FAILED:
            self.add_problem(outcome.problem, 1, [seed], outcome.detail)

    def add_problem(self, problem: str, count: int, seeds: Sequence[int], detail: str) -> None:
        known = self.problems.setdefault(problem, {"count": 0, "seeds": [], "detail": detail})
        known["count"] += count
        known["seeds"] = sorted({*known["seeds"], *seeds})[:SHOWN_SEEDS]


def chunks(cases: int, doors: Iterable[Door]) -> list[Chunk]:
    """Divide a number of cases among the doors by their shares; the first chunks of all doors come first."""
    doors = list(doors)
    total = sum(door.share for door in doors)
    counts = {door.name: max(1, round(cases * door.share / total)) for door in doors}
    made = [
        Chunk(name, first, min(first + CASES_AT_ONCE, count))
        for name, count in counts.items()
        for first in range(0, count, CASES_AT_ONCE)
    ]
    return sorted(made, key=lambda chunk: chunk.first / counts[chunk.door])


def fuzz(planned: Sequence[Chunk], processes: int) -> Iterator[tuple[Chunk, Tally]]:
    """Judge chunks in workers, and yield each with its tally when it is finished."""
    left, workers = iter(planned), [Worker() for _ in range(processes)]
    try:
        while True:
            for worker in workers:
                if worker.chunk is None and (chunk := next(left, None)) is not None:
                    worker.start_on(chunk)
            busy = [worker for worker in workers if worker.chunk is not None]
            if not busy:
                return
            wait([worker.connection for worker in busy], timeout=1.0)
            for worker in busy:
                if (done := worker.collect()) is not None:
                    yield done
    finally:
        for worker in workers:
            worker.stop()


class Worker:
    """A process that judges the inputs of a chunk, one after the other, and reports outcomes at intervals.

    If it dies or hangs, another process continues after the last reported outcome, and reports each at once.
    """

    def __init__(self):
        self.chunk: Chunk | None = None
        self._fork()

    def start_on(self, chunk: Chunk) -> None:
        self.chunk, self.seed, self.tally, self.one_by_one = chunk, chunk.first, Tally(), False
        self._send(chunk)

    def collect(self) -> tuple[Chunk, Tally] | None:
        """Collect reported outcomes; return the chunk and its tally after the last one."""
        try:
            while self.seed < self.chunk.last and self.connection.poll():
                self._add(*self.connection.recv())
        except (EOFError, ConnectionError):
            self.process.join()
            self._go_on(f"the process dies with the exit code {self.process.exitcode}")
        if self.seed < self.chunk.last and self._hangs():
            self._go_on(f"no answer in {HANG_S:.0f} s")
        if self.seed < self.chunk.last:
            return None
        done, self.chunk = (self.chunk, self.tally), None
        return done

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        shutil.rmtree(self.root)

    def _send(self, chunk: Chunk) -> None:
        self.connection.send((chunk, 0.0 if self.one_by_one else REPORT_S))
        self.heard, self.computed = time.monotonic(), self._cpu_s()

    def _add(self, *outcomes: Outcome) -> None:
        for outcome in outcomes:
            self.tally.add(self.seed, outcome)
            self.seed += 1
        self.heard, self.computed = time.monotonic(), self._cpu_s()

    def _hangs(self) -> bool:
        if time.monotonic() - self.heard < HANG_S:
            return False
        computes = psutil.Process(self.process.pid).status() == psutil.STATUS_RUNNING  # or waits for a CPU
        return not computes or self._cpu_s() - self.computed > HANG_CPU_S

    def _cpu_s(self) -> float:
        return sum(psutil.Process(self.process.pid).cpu_times()[:2])

    def _go_on(self, problem: str) -> None:
        last_words = (self.root / "words").read_text(errors="replace")
        self.stop()
        self._fork()
        if self.one_by_one:
            self._add(Outcome(FAILED, problem, last_words[:4_000]))
        self.one_by_one = True
        self._send(self.chunk._replace(first=self.seed))

    def _fork(self) -> None:
        memory = Path("/dev/shm")
        self.root = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None))
        self.connection, other = FORK.Pipe()
        self.process = FORK.Process(target=_work, args=(other, self.root), daemon=True)
        self.process.start()
        other.close()


def _work(connection: Connection, root: Path) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    gc.freeze()  # imported modules are never garbage
    judge = Judge(root)
    faulthandler.enable(judge.words)
    resource.setrlimit(resource.RLIMIT_AS, (memory().addresses + MOST_ADDRESSES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        chunk, every_s = connection.recv()
        outcomes, told = [], time.monotonic()
        for seed in range(chunk.first, chunk.last):
            outcomes.append(judge.judge(DOORS[chunk.door], seed))
            if seed == chunk.last - 1 or time.monotonic() - told >= every_s:
                connection.send(outcomes)
                outcomes, told = [], time.monotonic()


# ---- the command


class Record:
    """The finished chunks, a JSON line each, from which an interrupted run continues."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.file = folder, folder / "chunks.jsonl"

    def done(self) -> dict[Chunk, Tally]:
        found = {}
        for line in self.file.read_text("utf-8").split("\n") if self.file.exists() else ():
            try:
                chunk, counts, problems = json.loads(line)
            except ValueError:  # an incomplete line of a killed run
                continue
            found[Chunk(*chunk)] = Tally(Counter(counts), problems)
        return found

    def add(self, chunk: Chunk, tally: Tally) -> None:
        with open(self.file, "a", encoding="utf-8") as file:
            file.write(json.dumps([chunk, tally.counts, tally.problems]) + "\n")


def summary(tallies: Iterable[tuple[Chunk, Tally]]) -> dict[str, Tally]:
    """The tallies of each door, added up."""
    doors: dict[str, Tally] = {}
    for chunk, tally in tallies:
        total = doors.setdefault(chunk.door, Tally())
        total.counts += tally.counts
        for problem, found in tally.problems.items():
            total.add_problem(problem, **found)
    return doors


def table(doors: dict[str, Tally]) -> str:
    """The summary as a table of Markdown, and the failures below it."""
    lines = ["| door | cases | results | refused | failed |", "| --- | --- | --- | --- | --- |"]
    totals: Counter[str] = Counter()
    for name, tally in sorted(doors.items()):
        totals += tally.counts
        lines.append(_table_row(name, tally.counts))
    lines.append(_table_row("all", totals))
    for name, tally in sorted(doors.items()):
        for problem, found in tally.problems.items():
            lines.append(f"\n{name}: {problem}: {found['count']:,} times, seeds {found['seeds']}\n{found['detail']}")
    return "\n".join(lines)


def _table_row(name: str, counts: Counter[str]) -> str:
    cells = (counts.total(), counts[RESULT], counts[REFUSED], counts[FAILED])
    return f"| {name} | {' | '.join(f'{count:,}' for count in cells)} |"


def repeat(door: Door, seed: int, keep: Path | None) -> Tally:
    """Repeat one input; a copy of its files is kept in a folder."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        print(f"{door.make(Random(f'{door.name} {seed}'), keep)!r:.2000}")
    [(_, tally)] = fuzz([Chunk(door.name, seed, seed + 1)], 1)
    return tally


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--door", action="append", choices=list(DOORS), help="these alone")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--output", type=Path, help="a folder for the record and the summary of a long run")
    parser.add_argument("--seed", type=int, help="repeat this input of a door")
    parser.add_argument("--keep", type=Path, help="a folder for a copy of that input")
    arguments = parser.parse_args(argv)
    doors = [DOORS[name] for name in arguments.door or DOORS]
    if arguments.seed is not None:
        tally = repeat(doors[0], arguments.seed, arguments.keep)
        print(table({doors[0].name: tally}))
        return bool(tally.problems)
    planned = chunks(arguments.cases, doors)
    record = Record(arguments.output) if arguments.output else None
    done = record.done() if record else {}
    for chunk, tally in fuzz([chunk for chunk in planned if chunk not in done], arguments.processes):
        done[chunk] = tally
        if record:
            record.add(chunk, tally)
    total = summary(done.items())
    print(table(total))
    if record:
        values = {name: {"counts": tally.counts, "problems": tally.problems} for name, tally in total.items()}
        (record.folder / "summary.json").write_text(json.dumps(values, indent=1), "utf-8")
        (record.folder / "summary.md").write_text(table(total) + "\n", "utf-8")
    return any(tally.problems for tally in total.values())


if __name__ == "__main__":
    sys.exit(main())
