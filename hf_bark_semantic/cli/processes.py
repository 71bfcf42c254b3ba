"""For commands whose processes write to one folder: they know of each other, and no other run may use the folder."""

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
LONGEST_WAIT = timedelta(days=30)  # of a process that is done, for one that still has a large share to do


def start_processes(*, cpu: bool = False) -> "Accelerator":
    """The accelerator of this process.

    Args:
        cpu (`bool`): compute on the CPU even where there is a GPU.

    Raises:
        SystemExit: several processes were started, and each believes that it is alone.
    """
    from accelerate import Accelerator, InitProcessGroupKwargs

    accelerator = Accelerator(cpu=cpu, kwargs_handlers=[InitProcessGroupKwargs(timeout=LONGEST_WAIT)])
    if int(os.environ.get("WORLD_SIZE", 1)) != accelerator.num_processes:
        raise SystemExit(
            f"{os.environ['WORLD_SIZE']} processes were started, but accelerate knows of {accelerator.num_processes}. "
            "On CPUs, start them with ACCELERATE_USE_CPU=1 torchrun --nproc_per_node N."
        )
    return accelerator


@contextmanager
def only_run_in(folder: Path, state: "Accelerator | PartialState | None" = None) -> Iterator[None]:
    """Make a folder if there is none, and keep other runs out of it until the end, however it comes.

    Unfinished files of a killed run are removed, and so are the lock and a new folder in which nothing was written.

    Args:
        folder (`Path`): the output of the run.
        state (`Accelerator` or `PartialState`, *optional*): of several processes; only the main one locks the folder.

    Raises:
        SystemExit: another run is at work there.
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
        raise SystemExit(f"Another run is at work in {folder}. Wait for it, or end it.") from None
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
