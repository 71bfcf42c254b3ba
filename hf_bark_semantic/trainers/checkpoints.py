"""Checkpoints of a training: one is always complete, and digests show whether one is damaged.

output_dir/ checkpoint/       the last checkpoint
            checkpoint.old/   the checkpoint before it
"""

import json
import os
import shutil
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from safetensors import SafetensorError

from ..files import sha256_of_file


def save_checkpoint(accelerator, output_dir: Path, step: int, average):
    """Write a checkpoint beside the old ones, then rename it.

    Raises:
        OSError: it could not be written; the checkpoint before it is intact.
    """
    new, current, previous = (output_dir / f"checkpoint{suffix}" for suffix in (".new", "", ".old"))
    if accelerator.is_main_process:
        shutil.rmtree(new, ignore_errors=True)
    accelerator.wait_for_everyone()
    try:
        accelerator.save_state(new)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            if average is not None:
                torch.save(average.state_dict(), new / "average.pt")
            digests = {str(file.relative_to(new)): sha256_of_file(file) for file in _files_of(new)}
            (new / "step.json").write_text(json.dumps({"step": step, "digests": digests}))
    except (OSError, RuntimeError, SafetensorError) as error:  # all may mean a full disk
        if accelerator.is_main_process:
            shutil.rmtree(new, ignore_errors=True)
        raise OSError(
            f"The checkpoint of step {step} could not be written to {output_dir} ({error}). Free some space there and "
            "start the same command again; it continues from the checkpoint before."
        ) from error
    if accelerator.is_main_process:
        if current.exists():
            shutil.rmtree(previous, ignore_errors=True)
            current.rename(previous)
        new.rename(current)
    accelerator.wait_for_everyone()


def resume(accelerator, output_dir: Path, average) -> int:
    """Load the last intact checkpoint and return its step, 0 without a checkpoint.

    Raises:
        ValueError: all checkpoints are damaged.
    """
    found = [output_dir / name for name in ("checkpoint", "checkpoint.old") if (output_dir / name).exists()]
    folder = next((folder for folder in found if _is_whole(folder)), None)
    if folder is None:
        if found:
            raise ValueError(
                f"The checkpoints in {output_dir} are damaged. Remove {' and '.join(folder.name for folder in found)} "
                "there to start over."
            )
        return 0
    if folder != found[0]:
        accelerator.print(f"{found[0]} is damaged; the checkpoint before it is used.")
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            shutil.rmtree(found[0])
    accelerator.load_state(folder)
    if average is not None:
        average.load_state_dict(torch.load(folder / "average.pt", map_location="cpu", weights_only=True))
    step = json.loads((folder / "step.json").read_text())["step"]
    accelerator.print(f"resumed from step {step} of {folder}")
    return step


def _is_whole(folder: Path) -> bool:
    try:
        digests = json.loads((folder / "step.json").read_text()).get("digests", {})
        return all(sha256_of_file(folder / name) == digest for name, digest in digests.items())
    except (OSError, ValueError):
        return False


def _files_of(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def remove_checkpoints(output_dir: str | os.PathLike, state: Accelerator | PartialState) -> None:
    """Remove the checkpoints of a finished run; all processes call it."""
    state.wait_for_everyone()
    if state.is_main_process:
        for name in ("checkpoint", "checkpoint.old", "checkpoint.new"):
            shutil.rmtree(Path(output_dir) / name, ignore_errors=True)
    state.wait_for_everyone()
