"""Load a corpus as utterances, for the training of Bark's models."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from ..bark.configs import BarkGenerationConfigs
from ..bark.examples import Utterance
from ..bark.prompting import text_to_ids
from ..files import read_json
from .rows import read_corpus
from .voices import NO_VOICE


def load_utterances(place: str | os.PathLike, tokenizer: Any, configs: BarkGenerationConfigs) -> list[Utterance]:
    """Read a corpus of [`prepare_recordings`] or `generate_corpus.py`, or any dataset with the same columns.

    Rows without text, tokens or codes, and rows that failed a filter, are skipped.

    Args:
        place (`str` or `Path`): folder or Hub id.
        tokenizer: Bark's tokenizer, for the ids of the texts.
        configs (`BarkGenerationConfigs`): of the Bark.

    Raises:
        ValueError: no utterances, missing columns, or tokens of another Bark.
    """
    _check_vocabularies(Path(place) / "corpus.json", configs)
    utterances = [
        Utterance(
            text_ids=text_to_ids(clip.text, tokenizer),
            semantic_tokens=clip.semantic_tokens,
            audio_codes=clip.audio_codes.astype(np.int16),  # to save memory
            complete=clip.finish_reason in ("", "eos"),
            voice=f"{NO_VOICE}-{clip.id}" if clip.voice == NO_VOICE else clip.voice,  # Bark chose a voice for each row
            id=clip.id,
        )
        for clip in read_corpus(place, with_audio=False)
        if clip.text and clip.has_tokens and clip.audio_codes is not None and not clip.failed_filters
    ]
    if not utterances:
        raise ValueError(f"{str(place)!r} holds no utterance with text, tokens and codes.")
    return utterances


def _check_vocabularies(file: Path, configs: BarkGenerationConfigs) -> None:
    if not file.is_file():
        return
    there = read_json(file).get("vocabularies", {})
    for name, here in configs.vocabularies.items():
        if there.get(name, here) != here:
            raise ValueError(
                f"{str(file.parent)!r} was prepared for a Bark with {name} = {there[name]:,}; this one has {here:,}. "
                "Prepare the recordings for this Bark."
            )


__all__ = ["load_utterances"]
