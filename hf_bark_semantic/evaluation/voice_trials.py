"""Trials of an evaluation of voices: the combinations of texts, voices and conditions.

plan_trials     all trials in a fixed order
trial_record    a scored trial as a line of the journal
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .voice_casting import CastVoice
from .voice_clips import VoiceClip

NUM_CANDIDATES = 8  # candidates of an identification, including the right voice


@dataclass(frozen=True)
class Trial:
    """One waveform to make and to score.

    Args:
        id (`str`): its id in the journal.
        part (`str`): `"original"`: the recording. `"codec"`: the recording, encoded and decoded by the codec.
            `"presets"`: its text, spoken by a preset. `"clone"`: its text in the cloned voice.
        condition (`str`): for a clone, the kind of prompt.
        voice (`str`): the right voice; intervals are over voices.
        clip (`VoiceClip`): the test clip.
        seed (`int`): seed of the synthesis; the same in all conditions.
        distractors (`tuple[str, ...]`): other voices for the identification, from the same source if it has enough;
            may be empty.
    """

    id: str
    part: str
    condition: str
    voice: str
    clip: VoiceClip
    seed: int = 0
    distractors: tuple[str, ...] = ()


def plan_trials(
    voices: Sequence[CastVoice],
    *,
    parts: Sequence[str],
    conditions: Sequence[str],
    presets: Sequence[str] = (),
    seeds: int = 1,
    limit: int | None = None,
    seed: int = 0,
) -> list[Trial]:
    """All trials of an evaluation in a fixed order; voices alternate, so that the first trials represent all.

    Args:
        voices (sequence of `CastVoice`): the voices; an identification needs at least two.
        parts (sequence of `str`): see [`Trial`].
        conditions (sequence of `str`): conditions of the clones.
        presets (sequence of `str`): presets, used in turn.
        seeds (`int`): clones of each text.
        limit (`int`, *optional*): number of test clips.
        seed (`int`): seed of distractors and syntheses.
    """
    names, sources = [voice.name for voice in voices], {voice.name: voice.source for voice in voices}
    by_rank = [(rank, voice, clip) for voice in voices for rank, clip in enumerate(voice.tests)]
    by_rank.sort(key=lambda item: (item[0], names.index(item[1].name)))
    trials = []
    for number, (_, voice, clip) in enumerate(by_rank[:limit]):
        rng = np.random.default_rng([seed, zlib.crc32(clip.id.encode())])
        others = [name for name in names if name != voice.name]
        others = [others[i] for i in rng.permutation(len(others))]
        others.sort(key=lambda name, voice=voice: sources[name] != voice.source)  # voices of the same source first
        distractors = tuple(others[: NUM_CANDIDATES - 1])
        numbers = [int(value) for value in rng.integers(2**31, size=seeds)]
        for part in ("original", "codec"):
            if part in parts and clip.audio is not None:
                trials.append(Trial(f"{part}/{clip.id}", part, part, voice.name, clip, 0, distractors))
        if "presets" in parts and presets:
            preset = presets[number % len(presets)]
            trials.append(Trial(f"presets/{preset}/{clip.id}", "presets", "presets", preset, clip, numbers[0]))
        if "clone" in parts:
            for index, number_of_seed in enumerate(numbers):
                for condition in conditions:
                    name = f"clone/{condition}/{clip.id}/{index}"
                    trials.append(Trial(name, "clone", condition, voice.name, clip, number_of_seed, distractors))
    return trials


def trial_record(trial: Trial, scores: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the [`Journal`](journal.py) with the trial and its scores."""
    record = {key: value for key, value in asdict(trial).items() if key != "clip"}
    record |= {"clip": trial.clip.id, "text": trial.clip.text, "kind": trial.clip.kind}
    return record | dict(scores)


__all__ = [
    "NUM_CANDIDATES",
    "Trial",
    "plan_trials",
    "trial_record",
]
