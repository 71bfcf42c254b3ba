"""Faults of long commands apart from signals, each with the required behaviour.

A fault is a context manager: it causes an error in a trial and yields the flaws of the command's reaction, such as a
traceback; in its body, the command is started again and its results are compared.
"""

import contextlib
import os
import random
import re
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kills.harness import Trial
from kills.stages import Stage, hub

BLOCK = 4_096  # block size of a file system in memory, in bytes
DATA = ("*.parquet", "*.safetensors", "*.pt", "*.bin", "*.pkl")


@dataclass(frozen=True)
class Case:
    """A trial, and the values of its undisturbed run that faults depend on."""

    trial: Trial
    rng: random.Random
    seconds: float
    num_bytes: int  # of all files of the undisturbed run, in whole blocks

    @property
    def num_processes(self) -> int:
        return self.trial.stage.num_processes[0]

    def stop_somewhere(self) -> None:
        self.trial.start(self.num_processes)
        self.trial.signal(signal.SIGKILL, "all", after_s=self.rng.uniform(0.2, 0.9) * self.seconds, rng=self.rng)
        self.trial.wait()

    def answer(self, *options: str, words: str, may_succeed: bool = False, **how) -> list[str]:
        """Run the command; return flaws unless it fails with one sentence that contains these words."""
        self.trial.log.unlink(missing_ok=True)
        self.trial.start(self.num_processes, *options, **how)
        codes = self.trial.wait()
        if not any(codes):
            return [] if may_succeed else ["it succeeded"]
        text = self.trial.log.read_text(errors="replace")
        flaws = [] if re.search(words, text) else [f"nothing says {words!r}: {self.trial.last_words()}"]
        return flaws + ([f"a traceback: {self.trial.last_words()}"] if "Traceback" in text else [])


@contextlib.contextmanager
def full_disk(case: Case) -> Iterator[list[str]]:
    """The file system is full: a small one in memory or, if mounting is forbidden, a limit of file sizes."""
    folder, words = case.trial.output.parent, "disk is full|No space left|could not be written|File too large|space"
    folder.mkdir(parents=True)
    size = int(case.num_bytes * case.rng.uniform(0.1, 0.9))
    if not _mount("-t", "tmpfs", "-o", f"size={max(size, BLOCK)}", "tmpfs", folder):
        yield case.answer(words=words, may_succeed=True, before=lambda: _limit_files(size // 4))
        return
    try:
        flaws = case.answer(words=words, may_succeed=True)
        _mount("-o", "remount,size=1g", folder)
        yield flaws
    finally:
        subprocess.run(["umount", folder], check=True)


@contextlib.contextmanager
def read_only_folder(case: Case) -> Iterator[list[str]]:
    """The output folder is read-only."""
    case.stop_somewhere()
    folder = case.trial.output.parent
    mounted = _mount("--bind", folder, folder) and _mount("-o", "remount,bind,ro", folder)
    folders = [] if mounted else [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)  # has no effect for root
    try:
        flaws = case.answer(words="[Rr]ead-only|[Pp]ermission|[Cc]annot", may_succeed=not mounted)
    finally:
        if mounted:
            subprocess.run(["umount", folder], check=True)
        for path in folders:
            path.chmod(0o755)
    yield flaws


@contextlib.contextmanager
def clock_set_back(case: Case) -> Iterator[list[str]]:
    """All files have modification times in the future."""
    case.stop_somewhere()
    for path in case.trial.output.parent.rglob("*"):
        os.utime(path, (4_000_000_000, 4_000_000_000))
    yield []


@contextlib.contextmanager
def damaged_file(case: Case) -> Iterator[list[str]]:
    """A data file of an unfinished run is truncated, or has a flipped bit."""
    case.stop_somewhere()
    files = sorted(file for pattern in DATA for file in case.trial.output.rglob(pattern) if file.stat().st_size)
    if files:
        file = case.rng.choice(files)
        content = bytearray(file.read_bytes())
        if case.rng.random() < 0.5:
            del content[case.rng.randrange(len(content)) :]
        else:
            content[case.rng.randrange(len(content))] ^= 1 << case.rng.randrange(8)
        file.write_bytes(content)
    yield []


@contextlib.contextmanager
def leftovers(case: Case) -> Iterator[list[str]]:
    """Killed before a temporary file was renamed; the file is an hour old, so it counts as abandoned."""
    case.stop_somewhere()
    folders = [path for path in (case.trial.output, *case.trial.output.rglob("*")) if path.is_dir()]
    for folder in case.rng.sample(folders, min(3, len(folders))):
        file = folder / f".weights.{case.rng.getrandbits(64):016x}.unfinished"
        file.write_bytes(b"half")
        os.utime(file, (time.time() - 7_200, time.time() - 7_200))
    yield []


@contextlib.contextmanager
def other_settings(case: Case) -> Iterator[list[str]]:
    """A run is continued with other settings: refused, with the names that differ."""
    case.trial.finish(case.num_processes)
    yield case.answer(*case.trial.stage.other_settings, words=case.trial.stage.refusal)


@contextlib.contextmanager
def two_at_once(case: Case) -> Iterator[list[str]]:
    """The command is started again while it is running: the second one refuses."""
    first, lock = case.trial, case.trial.output / ".lock"
    second = Case(Trial(first.stage, first.inputs, first.folder), case.rng, case.seconds, case.num_bytes)
    first.start(case.num_processes)
    while not _is_held(lock) and any(process.is_alive() for process in first.processes):
        time.sleep(0.001)
    first.send(signal.SIGSTOP)
    flaws = second.answer(words="Another run uses")
    first.send(signal.SIGCONT)
    yield flaws + [f"the first ended with {code}" for code in first.wait() if code]


@contextlib.contextmanager
def nobody_reads(case: Case) -> Iterator[list[str]]:
    """Output goes to a full pipe, whose reader then closes it."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"\n" * BLOCK)
    os.set_blocking(writing, True)

    def print_there() -> None:
        os.close(reading)
        os.dup2(writing, 1)

    case.trial.start(1, before=print_there)
    os.close(writing)
    case.trial.processes[0].join(case.rng.uniform(0, case.seconds))
    os.close(reading)
    case.trial.wait()
    yield []


@contextlib.contextmanager
def hub_in_trouble(case: Case) -> Iterator[list[str]]:
    """The Hub answers with 429, then with 5xx, and then closes the connection."""
    troubles = [429, 500, None]
    case.rng.shuffle(troubles)
    hub().troubles[:] = [None] * case.rng.randrange(3) + troubles
    flaws = case.answer(words="429|500|[Cc]onnect|disconnect|[Ss]erver", may_succeed=True)
    hub().troubles.clear()
    yield flaws


FAULTS = {
    fault.__name__: fault
    for fault in (
        full_disk,
        read_only_folder,
        clock_set_back,
        damaged_file,
        leftovers,
        other_settings,
        two_at_once,
        nobody_reads,
        hub_in_trouble,
    )
}


def concerns(fault: str, stage: Stage) -> bool:
    """Whether a fault applies to a stage."""
    if fault == "hub_in_trouble":
        return stage.name == "publish"
    if fault == "two_at_once":
        return stage.refuses_a_second
    if fault == "other_settings":
        return bool(stage.other_settings)
    return stage.writes or fault == "nobody_reads"


def _is_held(lock: Path) -> bool:
    """Whether a process holds a lock on this file, by the kernel's list (Linux)."""
    return lock.exists() and f":{lock.stat().st_ino} " in Path("/proc/locks").read_text()


def _mount(*arguments) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True).returncode == 0


def _limit_files(num_bytes: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that writing fails instead
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))
