"""The class of doors: how an input is made, how it is read, and the documented errors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from fuzz.mutations import mutated


@dataclass(frozen=True)
class Door:
    """A place where untrusted files or values are read.

    Args:
        name (`str`): the name in tables and options.
        make (`Callable[[Random, Path], Any]`): makes an input, with its files in a folder, from a random generator
            only, so that the seed determines the input.
        read (`Callable[[Any], Any]`): reads the input; its results can be compared.
        errors (`tuple[type[Exception], ...]`): the documented errors, without derived classes, because a
            `UnicodeDecodeError` is a `ValueError`, too.
        share (`int`): relative number of inputs for this door; chosen so that most doors take about the same time.
        raisers (`tuple[str, ...]`): parts of the paths of code that may raise these errors; a library's `ValueError`
            does not name the file.
    """

    name: str
    make: Callable[[Random, Path], Any]
    read: Callable[[Any], Any]
    errors: tuple[type[Exception], ...]
    share: int
    raisers: tuple[str, ...] = ("/hf_bark_semantic/",)


def file_door(
    name: str,
    files: Callable[[], Sequence[bytes]],
    read: Callable[[Path], Any],
    error: type[Exception],
    share: int,
    file: str | None = None,
) -> Door:
    """A door for damaged copies of `files`; their name is `file`, or `file.<name>`."""
    sound = cache(files)

    def make(random: Random, folder: Path) -> Path:
        path = folder / (file or f"file.{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(mutated(random.choice(sound()), random))
        return path

    return Door(name, make, read, (error,), share)


def digest(*values: Any) -> str:
    """A digest of values: arrays, tensors, models, and anything with a `repr`."""
    found = sha256()
    for value in values:
        if isinstance(value, torch.nn.Module):
            value = digest(*(part for item in value.state_dict().items() for part in item))
        if isinstance(value, torch.Tensor):
            value = value.numpy()
        found.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return found.hexdigest()


__all__ = ["Door", "digest", "file_door"]
