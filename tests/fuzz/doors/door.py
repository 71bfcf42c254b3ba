"""What a door is: how an input for it is made, how it is read, and which error is documented."""

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
    """A way in for strangers' files and values.

    Args:
        name (`str`): for people.
        make (`Callable[[Random, Path], Any]`): makes an input from a random generator alone, with its files in a
            folder: so a seed is an input.
        read (`Callable[[Any], Any]`): reads it; what it gives can be compared.
        errors (`tuple[type[Exception], ...]`): those that are documented, themselves and not what is derived from
            them: a `UnicodeDecodeError` is a `ValueError`, too.
        share (`int`): of all inputs that go through this door, relative to other doors: so many that most doors take
            about the same time of computing.
        raisers (`tuple[str, ...]`): parts of the paths of code that may raise them; a library's `ValueError` says
            nothing of the file.
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
    """A door for a file, which is a damaged copy of one of `files`; its name is `file`, or `file.<name>`."""
    sound = cache(files)

    def make(random: Random, folder: Path) -> Path:
        path = folder / (file or f"file.{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(mutated(random.choice(sound()), random))
        return path

    return Door(name, make, read, (error,), share)


def digest(*values: Any) -> str:
    """What tells values from others: of arrays, tensors, models, and what has a `repr`."""
    found = sha256()
    for value in values:
        if isinstance(value, torch.nn.Module):
            value = digest(*(part for item in value.state_dict().items() for part in item))
        if isinstance(value, torch.Tensor):
            value = value.numpy()
        found.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return found.hexdigest()


__all__ = ["Door", "digest", "file_door"]
