"""Disturb commands: start them in separate processes, send signals at random times, start them again, and compare.

    trial = Trial(stage, folder, inputs)   a run of a stage of stages.py, in its own folder
    trial.start(2)                         start it on two processes
    trial.signal(signal.SIGKILL, "one", after_s=0.4)
    trial.finish()                         run it to its end, undisturbed
    differences(expected, trial.outcome()) names of values that differ from the undisturbed run

Processes are forks of this process, which has imported everything, so that signals arrive while a command works, not
while it imports. As under torchrun, the other processes are ended when one has failed.
"""

import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import Process
from pathlib import Path
from typing import Any

from kills.stages import Stage
from processes import as_process, free_port, in_child

GRACE_S = 5.0  # from SIGTERM to SIGKILL
LONGEST_S = 300.0
STOPPED_S = 0.5  # between SIGSTOP and SIGCONT
SIGNALS = {"KILL": signal.SIGKILL, "TERM": signal.SIGTERM, "INT": signal.SIGINT, "STOP": signal.SIGSTOP}


@dataclass
class Trial:
    """A run of a stage, which may be disturbed and started again.

    Args:
        stage (`Stage`): the stage to run.
        inputs (`Path`): the stage's inputs, shared by all of its trials.
        folder (`Path`): the folder of its output and log.
    """

    stage: Stage
    inputs: Path
    folder: Path
    processes: list[Process] = field(default_factory=list)

    @property
    def output(self) -> Path:
        return self.folder / "work" / "output"

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    def start(self, num_processes: int = 1, *options: str, before: Callable[[], None] = lambda: None) -> None:
        """Start the command with options; each process calls `before` first."""
        self.output.parent.mkdir(parents=True, exist_ok=True)
        if num_processes == 1:
            self.processes = [in_child(self._run, before, *options)]
            return
        port = free_port()
        arguments = [port, self._run, before, *options]
        self.processes = [in_child(as_process, rank, *arguments) for rank in range(num_processes)]

    def signal(self, number: int, whom: str, *, after_s: float, rng: random.Random) -> bool:
        """Send a signal to "one" or to "all" processes after some time; return whether any was still running."""
        deadline = time.monotonic() + after_s
        while time.monotonic() < deadline and any(process.is_alive() for process in self.processes):
            time.sleep(0.005)
        alive = [process for process in self.processes if process.is_alive()]
        chosen = alive if whom == "all" else rng.sample(alive, min(1, len(alive)))
        for process in chosen:
            _send(process, number)
        if number == signal.SIGSTOP:
            time.sleep(STOPPED_S)
            for process in chosen:
                _send(process, signal.SIGCONT)
        return bool(chosen)

    def wait(self, longest_s: float = LONGEST_S) -> list[int]:
        """Wait for the processes and return their exit codes; all are ended when one has failed.

        Raises:
            TimeoutError: they did not end.
        """
        deadline, ended = time.monotonic() + longest_s, False
        while any(process.is_alive() for process in self.processes):
            if time.monotonic() > deadline:
                self.end(0)
                raise TimeoutError(f"{self.stage.name} did not end after {longest_s:.0f} s: {self.last_words()}")
            if not ended and any(process.exitcode for process in self.processes):
                self.end(GRACE_S)
                ended = True
            time.sleep(0.01)
        return [process.exitcode for process in self.processes]

    def send(self, number: int) -> None:
        for process in self.processes:
            _send(process, number)

    def end(self, grace_s: float) -> None:
        deadline = time.monotonic() + grace_s
        self.send(signal.SIGTERM)
        while time.monotonic() < deadline and any(process.is_alive() for process in self.processes):
            time.sleep(0.01)
        for process in self.processes:
            process.kill()
            process.join()

    def finish(self, num_processes: int = 1, *options: str) -> float:
        """Start the command, wait for its end, and return the seconds that it took.

        Raises:
            RuntimeError: it failed.
        """
        started = time.monotonic()
        self.start(num_processes, *options)
        codes = self.wait()
        if any(codes):
            raise RuntimeError(f"{self.stage.name} ended with {codes}: {self.last_words()}")
        return time.monotonic() - started

    def outcome(self) -> dict[str, Any]:
        """The command's output: the values that the stage compares, and the names of all files."""
        root = self.output.parent
        names = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
        kept = [name for name in names if not self.stage.may_differ(name)]
        return {"files": dict.fromkeys(kept, True), **self.stage.outcome(self.output)}

    def last_words(self, lines: int = 3) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return " | ".join(text.strip().splitlines()[-lines:])

    def _run(self, before: Callable[[], None], *options: str) -> None:
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
        before()
        self.stage.run(self.inputs, self.output, *options)


def _send(process: Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        if process.is_alive():
            os.kill(process.pid, number)
