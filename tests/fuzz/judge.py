"""Whether a door does with an input what it promises.

An input passes if it gives a result, which a second reading gives again, or the error that is documented. It fails
with any other exception, with more than `MAX_SECONDS` of computation or `MAX_BYTES` more memory, with a file, a
process or a connection that reading must not make, and with words on stdout or stderr, which a caller cannot catch.
"""

import gc
import os
import resource
import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from fuzz.doors import Door

MAX_SECONDS = 2.0  # of CPU time, which is the same on a busy machine
MAX_BYTES = 200 * 2**20  # of resident memory, over what there was before
RESULT, REFUSED, FAILED = "result", "refused", "failed"
PACKAGE = "/hf_bark_semantic/"

WRITES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree")
ACTS = (
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn",
    "socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request",
)  # fmt: skip
DEVICES = ("/dev/null", "/proc/self/")


class Outcome(NamedTuple):
    """What came of an input.

    Args:
        kind (`str`): `RESULT`, `REFUSED` or `FAILED`.
        problem (`str`): of a failure, what is wrong, in the same words for all inputs of one kind.
        detail (`str`): of a failure, the traceback, the words, the files.
    """

    kind: str
    problem: str = ""
    detail: str = ""


class Failure(Exception):
    """What an input shows to be wrong: the problem and its detail."""


class Judge:
    """Judges inputs in a process of its own, whose stdout, stderr and working directory it takes.

    Args:
        root (`Path`): a folder for the inputs.
    """

    def __init__(self, root: Path):
        self.inputs, self.elsewhere = root / "inputs", root / "elsewhere"
        self.words = open(root / "words", "a+b")  # noqa: SIM115 (as long as the process)
        for descriptor in (1, 2):
            os.dup2(self.words.fileno(), descriptor)
        self.watch = Watch()
        self.clear_refs = os.open("/proc/self/clear_refs", os.O_WRONLY)

    def judge(self, door: Door, seed: int) -> Outcome:
        try:
            return Outcome(self._kind(door, seed))
        except Failure as failure:
            return Outcome(FAILED, *failure.args)

    def _kind(self, door: Door, seed: int) -> str:
        for folder in (self.inputs, self.elsewhere):
            if not folder.is_dir() or os.listdir(folder):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
        os.chdir(self.elsewhere)
        argument = door.make(Random(f"{door.name} {seed}"), self.inputs)
        before = _files_below(self.inputs)
        with self.watch.acts() as acts:
            kind, value = self._read(door, argument)
            again = self._read(door, argument) if kind == RESULT else (kind, value)
        if again != (kind, value):
            raise Failure("a second reading gives something else", f"{value!r:.1000}\n{again!r:.1000}")
        if acts:
            raise Failure(f"reading does {acts[0].split()[0]}", "\n".join(acts))
        if _files_below(self.inputs) != before or _files_below(self.elsewhere):
            raise Failure("leaves a file behind", "\n".join(map(str, self.inputs.parent.rglob("*"))))
        if words := self._words():
            raise Failure("writes to stdout or stderr", words)
        return kind

    def _read(self, door: Door, argument: Any) -> tuple[str, Any]:
        gc.collect(1)
        os.write(self.clear_refs, b"5")  # forgets the peak of memory
        before, start = memory().resident, resource.getrusage(resource.RUSAGE_SELF)
        try:
            kind, value = RESULT, door.read(argument)
        except BaseException as error:
            kind, value = REFUSED, None
            calls = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
            is_ours = any(part in calls[-1].co_filename for part in door.raisers)
            if type(error) not in door.errors or not is_ours:
                own = next((call for call in reversed(calls) if PACKAGE in call.co_filename), calls[-1])
                file = own.co_filename.rpartition(PACKAGE if PACKAGE in own.co_filename else "/")[2]
                text = "".join(traceback.format_exception(error))
                raise Failure(f"{type(error).__name__} in {file}: {own.co_name}", text[-4_000:]) from None
        end = resource.getrusage(resource.RUSAGE_SELF)
        seconds = end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime
        growth = end.ru_maxrss * 1024 - before
        if seconds > MAX_SECONDS:
            raise Failure(f"takes more than {MAX_SECONDS} s", f"{seconds:.1f} s")
        if growth > MAX_BYTES:
            raise Failure(f"takes more than {MAX_BYTES >> 20} MB", f"{growth / 2**20:.0f} MB")
        return kind, value

    def _words(self) -> str:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        if os.fstat(self.words.fileno()).st_size == 0:
            return ""
        self.words.seek(0)
        words = self.words.read(2_000).decode(errors="replace")
        self.words.truncate(0)
        return words


class Watch:
    """Sees what this process does to files and to the world. It cannot be taken off again: an audit hook stays."""

    def __init__(self):
        self.found: list[str] | None = None
        sys.addaudithook(self._hook)

    @contextmanager
    def acts(self) -> Iterator[list[str]]:
        self.found = found = []
        try:
            yield found
        finally:
            self.found = None

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.found is None:
            return
        writes = event in WRITES
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            path, _, flags = arguments
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) and not os.fsdecode(path).startswith(DEVICES)
        if writes or event in ACTS:
            self.found.append(f"{event} {arguments!r:.300}")


def _files_below(folder: str | os.PathLike) -> dict[str, tuple[int, int]]:
    """Size and time of everything in a folder, by path."""
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            stat = entry.stat()
            found[entry.path] = stat.st_size, stat.st_mtime_ns
            if entry.is_dir(follow_symlinks=False):
                found |= _files_below(entry.path)
    return found


class Memory(NamedTuple):
    """Bytes of this process: of its address space, and of them in memory."""

    addresses: int
    resident: int


def memory() -> Memory:
    with open("/proc/self/statm") as file:
        return Memory(*(int(pages) * resource.getpagesize() for pages in file.read().split()[:2]))


__all__ = ["FAILED", "REFUSED", "RESULT", "Judge", "Outcome", "memory"]
