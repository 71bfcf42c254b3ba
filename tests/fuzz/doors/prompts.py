"""Doors for voice prompts, as files and as values."""

from io import BytesIO
from pathlib import Path
from random import Random

import numpy as np
import torch

from fuzz.doors.door import Door, digest, file_door
from hf_bark_semantic.bark.request import SynthesisRequest
from hf_bark_semantic.bark.voice_prompt import VoicePrompt, VoicePromptError
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames
from tiny import tiny_prompt


def prompts() -> list[bytes]:
    """Prompts in the formats of this package, NumPy and the first community tools."""
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


def make_ids(random: Random, folder: Path) -> tuple:
    """Tokens and codes of any shape, type and range, most of them nearly valid."""
    num_tokens = random.choice((0, 1, 2, 60, 60, 300))
    num_frames = max(0, num_codec_frames(num_tokens) + random.choice((0, 0, 0, 1, -1, 9)))
    kinds = (np.int16, np.uint16, np.uint64, np.float32, np.bool_, np.complex64, object, "U3")
    arrays = []
    for shape, most in (((num_tokens,), 10_000), ((random.choice((8, 8, 8, 8, 8, 2, 0)), num_frames), 1_024)):
        ids = np.random.default_rng(random.randrange(2**31)).integers(0, most, shape)
        if ids.size and random.random() < 0.15:
            ids.flat[random.randrange(ids.size)] = random.choice((-1, most, 2**31, 2**63 - 1, -(2**63)))
        if random.random() < 0.2:
            ids = ids.astype(random.choice(kinds))
        if random.random() < 0.2:
            ids = random.choice((ids[None], ids.T, ids.tolist(), torch.zeros(shape), list(ids), None))
        arrays.append(ids)
    return (*arrays, random.choice((10_000, 10_000, 10_000, 500, 1, 2**40)))


def read_ids(ids: tuple) -> str:
    tokens, codes, vocab_size = ids
    prompt = VoicePrompt.from_tokens_and_codes(tokens, codes, semantic_vocab_size=vocab_size)
    return digest(prompt.semantic_tokens, prompt.audio_codes, SynthesisRequest(semantic_tokens=tokens).semantic_tokens)


DOORS = [
    file_door("npz", prompts, read_prompt, VoicePromptError, 600),
    Door("tokens and codes", make_ids, read_ids, (VoicePromptError,), 1_000),
]
