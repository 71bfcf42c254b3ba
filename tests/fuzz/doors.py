"""The doors through which strangers' files and values come in.

    DOORS    each by its name: how an input for it is made, how it is read, and which error is documented

A door's inputs are made from a random generator alone, so that a seed is an input.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from fuzz.mutations import mutated
from hf_bark_semantic.bark.voice_prompt import VoicePrompt, VoicePromptError
from tiny import tiny_prompt


@dataclass(frozen=True)
class Door:
    """A way in.

    Args:
        name (`str`): for people.
        make (`Callable[[Random, Path], Any]`): makes an input, with its files in a folder.
        read (`Callable[[Any], Any]`): reads it; what it gives can be compared.
        errors (`tuple[type[Exception], ...]`): those that are documented, themselves and not what is derived from
            them: a `UnicodeDecodeError` is a `ValueError`, too.
        share (`int`): of all inputs that go through this door, relative to other doors: quick ones get more.
    """

    name: str
    make: Callable[[Random, Path], Any]
    read: Callable[[Any], Any]
    errors: tuple[type[Exception], ...]
    share: int


def file_door(name: str, files: Callable[[], Sequence[bytes]], read: Callable[[Path], Any], error: type, share: int):
    """A door for files named `file.<name>`, made of sound ones."""
    sound = cache(files)

    def make(random: Random, folder: Path) -> Path:
        path = folder / f"file.{name}"
        path.write_bytes(mutated(random.choice(sound()), random))
        return path

    return Door(name, make, read, (error,), share)


# ---- voice prompts


def prompts() -> list[bytes]:
    """As this package, numpy and the first community tools write them."""
    arrays = tiny_prompt().to_dict()
    coarse = arrays["coarse_prompt"]
    old = {"text": arrays["semantic_prompt"], "coarse_1": coarse[0], "coarse_2": coarse[1]}
    files = []
    for save, entries in (
        (np.savez, {**arrays, "metadata": np.array("a voice")}),
        (np.savez_compressed, {name: array.astype(np.uint16) for name, array in arrays.items()}),
        (np.savez, {**old, "fine": arrays["fine_prompt"]}),
    ):
        file = BytesIO()
        save(file, **entries)
        files.append(file.getvalue())
    return files


def read_prompt(path: Path) -> tuple:
    prompt = VoicePrompt.load(path, trim=True)
    return prompt.semantic_tokens.tobytes(), prompt.audio_codes.tobytes(), tuple(prompt.vocabularies.values())


DOORS = {
    door.name: door
    for door in [
        file_door("npz", prompts, read_prompt, VoicePromptError, 100),
    ]
}

__all__ = ["DOORS", "Door"]
