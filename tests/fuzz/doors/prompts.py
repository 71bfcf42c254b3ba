"""Voice prompts as files and as values."""

from io import BytesIO
from pathlib import Path

import numpy as np

from fuzz.doors.door import digest, file_door
from hf_bark_semantic.bark.voice_prompt import VoicePrompt, VoicePromptError
from tiny import tiny_prompt


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


def read_prompt(path: Path) -> str:
    prompt = VoicePrompt.load(path, trim=True)
    return digest(prompt.semantic_tokens, prompt.audio_codes, prompt.vocabularies)


DOORS = [file_door("npz", prompts, read_prompt, VoicePromptError, 100)]
