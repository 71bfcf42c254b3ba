"""Whether a door does with an input what it promises.

An input passes if it gives a result, which a second reading gives again, or the error that is documented. It fails
with any other exception, with more than `MAX_SECONDS` of computation or `MAX_BYTES` more memory, with a file, a
process or a connection that reading must not make, and with words on stdout or stderr, which a caller cannot catch.
"""

import gc
import os
import re
import shutil
import sys
import time
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
NOTES_OF_MPG123 = re.compile(r"(\s*|Note: .*|Warning: Xing .*|\[src/libmpg123/.*)\n")  # which libsndfile has it write


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

    def judge(self, door: Door, seed: int) -> Outcome:
        try:
            return Outcome(self._kind(door, seed))
        except Failure as failure:
            return Outcome(FAILED, *failure.args)

    def _kind(self, door: Door, seed: int) -> str:
        for folder in (self.inputs, self.elsewhere):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        os.chdir(self.elsewhere)
        argument = door.make(Random(f"{door.name} {seed}"), self.inputs)
        before = _files_below(self.inputs)
        with self.watch.acts() as acts:
            kind, value = _read(door, argument)
            again = _read(door, argument) if kind == RESULT else (kind, value)
        if again != (kind, value):
            raise Failure("a second reading gives something else", f"{value!r:.1000}\n{again!r:.1000}")
        if acts:
            raise Failure(f"reading does {acts[0].split()[0]}", "\n".join(acts))
        if _files_below(self.inputs) != before or _files_below(self.elsewhere):
            raise Failure("leaves a file behind", "\n".join(map(str, self.inputs.parent.rglob("*"))))
        if words := self._words():
            raise Failure("writes to stdout or stderr", words)
        return kind

    def _words(self) -> str:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self.words.seek(0)
        words = self.words.read(20_000).decode(errors="replace")
        self.words.truncate(0)
        return "" if all(map(NOTES_OF_MPG123.fullmatch, words.splitlines(keepends=True))) else words[:2_000]


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


def _read(door: Door, argument: Any) -> tuple[str, Any]:
    gc.collect(1)
    _forget_peak_of_memory()
    before, start = memory("VmRSS"), time.process_time()
    try:
        kind, value = RESULT, door.read(argument)
    except BaseException as error:
        kind, value = REFUSED, None
        frames = traceback.extract_tb(error.__traceback__)
        is_ours = any(part in frames[-1].filename for part in door.raisers)
        if type(error) not in door.errors or not is_ours:
            own = next((frame for frame in reversed(frames) if PACKAGE in frame.filename), frames[-1])
            file = own.filename.rpartition(PACKAGE)[2] if PACKAGE in own.filename else Path(own.filename).name
            text = "".join(traceback.format_exception(error))
            raise Failure(f"{type(error).__name__} in {file}: {own.name}", text[-4_000:]) from None
    seconds, growth = time.process_time() - start, memory("VmHWM") - before
    if seconds > MAX_SECONDS:
        raise Failure(f"takes more than {MAX_SECONDS} s", f"{seconds:.1f} s")
    if growth > MAX_BYTES:
        raise Failure(f"takes more than {MAX_BYTES >> 20} MB", f"{growth / 2**20:.0f} MB")
    return kind, value


def _files_below(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def memory(name: str) -> int:
    """Bytes of this process: `"VmRSS"` resident, `"VmHWM"` at most since [`_read`] began, `"VmSize"` addresses."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{name}:"))


def _forget_peak_of_memory() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


__all__ = ["FAILED", "REFUSED", "RESULT", "Judge", "Outcome", "memory"]
