"""Helpers for commands with several processes that write to one folder, which no other run may use."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from ..files import remove_unfinished

if TYPE_CHECKING:
    from accelerate import Accelerator, PartialState

LOCK = ".lock"
LONGEST_WAIT = timedelta(days=30)  # of a finished process for one with much work left


def start_processes(*, cpu: bool = False) -> "Accelerator":
    """The accelerator of this process.

    Args:
        cpu (`bool`): compute on the CPU even if there is a GPU.

    Raises:
        SystemExit: several processes were started without a connection between them.
    """
    from accelerate import Accelerator, InitProcessGroupKwargs

    accelerator = Accelerator(cpu=cpu, kwargs_handlers=[InitProcessGroupKwargs(timeout=LONGEST_WAIT)])
    if int(os.environ.get("WORLD_SIZE", 1)) != accelerator.num_processes:
        raise SystemExit(
            f"{os.environ['WORLD_SIZE']} processes were started, but accelerate found {accelerator.num_processes}. "
            "On CPUs, start them with ACCELERATE_USE_CPU=1 torchrun --nproc_per_node N."
        )
    return accelerator


@contextmanager
def only_run_in(folder: Path, state: "Accelerator | PartialState | None" = None) -> Iterator[None]:
    """Lock a folder, which is made if it is missing, for the duration of a run.

    Unfinished files of a killed run are removed, and so are the lock and a new folder that is empty at the end.

    Args:
        folder (`Path`): the output folder.
        state (`Accelerator` or `PartialState`, *optional*): for several processes; only the main one locks the folder.

    Raises:
        SystemExit: another run uses the folder.
    """
    if state is not None and not state.is_main_process:
        yield
        return
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise SystemExit(f"Another run uses {folder}. Wait for it, or end it.") from None
    try:
        remove_unfinished(folder)
        yield
    finally:
        if os.name == "posix":  # on Windows, filelock removes the file as it releases the lock
            (folder / LOCK).unlink(missing_ok=True)  # before the release, or it may be that of the next run
        lock.release()
        if is_new and not any(folder.iterdir()):
            folder.rmdir()


__all__ = ["only_run_in", "start_processes"]
