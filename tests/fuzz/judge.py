"""Judge whether the reader of a door handles an input as documented.

An input passes if it gives a result, and the same result when it is read again, or the documented error. It fails with
any other exception, with more than `MAX_SECONDS` of CPU time or `MAX_BYTES` more memory, if reading makes a file, a
process or a connection, and if it prints to stdout or stderr.
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

MAX_SECONDS = 2.0  # of CPU time, which a busy machine does not change
MAX_BYTES = 200 * 2**20  # additional resident memory
RESULT, REFUSED, FAILED = "result", "refused", "failed"
PACKAGE = "/hf_bark_semantic/"

WRITES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree")
ACTS = (
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn",
    "socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request",
)  # fmt: skip
DEVICES = ("/dev/null", "/proc/self/")


class Outcome(NamedTuple):
    """The outcome of an input.

    Args:
        kind (`str`): `RESULT`, `REFUSED` or `FAILED`.
        problem (`str`): for a failure, the problem, with the same text for all inputs with it.
        detail (`str`): for a failure, the traceback, output or files.
    """

    kind: str
    problem: str = ""
    detail: str = ""


class Failure(Exception):
    """The failure of an input: the problem and its detail."""


class Judge:
    """Judges inputs in its own process, whose stdout, stderr and working directory it replaces.

    Args:
        root (`Path`): a folder for the inputs.
    """

    def __init__(self, root: Path):
        self.inputs, self.elsewhere = root / "inputs", root / "elsewhere"
        self.words = open(root / "words", "a+b")  # noqa: SIM115 (open as long as the process)
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
        os.write(self.clear_refs, b"5")  # resets the peak of memory
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
    """Records file, process and network events of this process, by an audit hook, which cannot be removed again."""

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
    """Size and modification time of all files in a folder, by path."""
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            stat = entry.stat()
            found[entry.path] = stat.st_size, stat.st_mtime_ns
            if entry.is_dir(follow_symlinks=False):
                found |= _files_below(entry.path)
    return found


class Memory(NamedTuple):
    """Memory of this process in bytes: address space, and resident memory."""

    addresses: int
    resident: int


def memory() -> Memory:
    with open("/proc/self/statm") as file:
        return Memory(*(int(pages) * resource.getpagesize() for pages in file.read().split()[:2]))


__all__ = ["FAILED", "REFUSED", "RESULT", "Judge", "Outcome", "memory"]
