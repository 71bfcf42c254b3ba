"""Assign roles to the recordings of each voice: prompt, enrolment (for the comparison with clones) or test.

A recording has only one role, so that a clone scores by its likeness to the speaker, not to the recording. Only long
recordings without a text are cut. A voice with a single such recording uses parts of it for prompt and enrolment
(`CastVoice.one_recording`); its similarity then depends on room and microphone, too.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .sequences import normalize_text
from .voice_clips import KINDS, TEST_CLIP_S, VoiceClip, load_texts, load_voice_clips

REFERENCE_S = (6.0, 10.0)  # total length of the prompt, and of the enrolment


@dataclass(frozen=True)
class CastVoice:
    """A voice and the roles of its recordings.

    Args:
        name (`str`): the voice.
        prompt (`tuple[VoiceClip, ...]`): the recordings that it is cloned from, 6 to 10 s.
        enrolment (`tuple[VoiceClip, ...]`): the recordings for its speaker embedding, 6 to 10 s.
        tests (`tuple[VoiceClip, ...]`): clips whose texts are spoken; the scores of their recordings, if there are
            any, are an upper bound for clones.
    """

    name: str
    prompt: tuple[VoiceClip, ...]
    enrolment: tuple[VoiceClip, ...]
    tests: tuple[VoiceClip, ...]

    @property
    def source(self) -> str:
        """The table or folder of its recordings."""
        return self.prompt[0].source

    @property
    def one_recording(self) -> bool:
        """Whether prompt and enrolment share a recording."""
        return bool({clip.audio for clip in self.prompt} & {clip.audio for clip in self.enrolment})


def cast_voices(
    clips: Iterable[VoiceClip], *, tests: int = 8, seed: int = 0, texts: Sequence[str] = ()
) -> tuple[list[CastVoice], list[str]]:
    """Assign roles to the recordings of held-out voices.

    Test clips have held-out texts, digit strings and sentences in turn. The other recordings are for prompt and
    enrolment. Recordings without a text are never test clips; they are cut into parts of 6 to 10 s, so that one of
    12 s is enough for a voice.

    Args:
        clips (`Iterable[VoiceClip]`): recordings; voices that are not held out are ignored.
        tests (`int`): largest number of test clips per voice.
        seed (`int`): seed of the choice.
        texts (sequence of `str`): texts for voices whose recordings have no texts; without any, such voices are left
            out.

    Returns:
        The voices, and the names of those that have too few recordings (6 s each for prompt and enrolment and one test
        are needed).
    """
    by_voice: dict[str, list[VoiceClip]] = {}
    for clip in clips:
        if clip.held_out_voice:
            by_voice.setdefault(clip.voice, []).append(clip)
    cast, left_out = [], []
    for name, own in sorted(by_voice.items()):
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        without_texts = not any(clip.text for clip in own)
        own = [part for clip in own for part in _parts(clip)]
        own = [own[i] for i in rng.permutation(len(own))]
        prompt, rest = _take_seconds([clip for clip in own if not clip.held_out_text], own)
        prompting = {clip.audio for clip in prompt or ()}
        others = [clip for clip in rest if clip.audio not in prompting]
        enrolment, rest = _take_seconds([clip for clip in others if not clip.held_out_text] or others, rest)
        fit = _borrowed(name, texts, tests, rng) if without_texts else [clip for clip in rest if can_test(clip)]
        if not prompt or not enrolment or not fit:
            left_out.append(name)
        else:
            tests_of_voice = _alternating(fit, first_kind=len(cast) % len(KINDS))[:tests]
            cast.append(CastVoice(name, tuple(prompt), tuple(enrolment), tuple(tests_of_voice)))
    return cast, left_out


def can_test(clip: VoiceClip) -> bool:
    """Whether a recording can be a test clip: its text is known and held out, and it lasts 0.5 to 12 s."""
    return bool(normalize_text(clip.text)) and clip.held_out_text and TEST_CLIP_S[0] <= clip.seconds <= TEST_CLIP_S[1]


def _parts(clip: VoiceClip) -> list[VoiceClip]:
    """A recording without a text, cut into parts of 6 to 10 s; other or shorter ones are not cut."""
    count = int(clip.seconds // REFERENCE_S[0])
    if clip.text or not count:
        return [clip]
    hop = clip.seconds / count
    parts = [replace(clip, start_s=i * hop, seconds=min(hop, REFERENCE_S[1])) for i in range(count)]
    return [replace(part, id=f"{clip.id}/{i}") for i, part in enumerate(parts)] if count > 1 else parts


def _borrowed(voice: str, texts: Sequence[str], count: int, rng: np.random.Generator) -> list[VoiceClip]:
    """Texts for a voice, as clips without recordings; digit strings and sentences in turn, if there are both."""
    clips = [VoiceClip(f"{voice}/text-{i}", None, texts[i], voice, 0.0) for i in rng.permutation(len(texts))]
    of_kinds = [[clip for clip in clips if clip.kind == kind][:count] for kind in KINDS]
    return [clip for kind in of_kinds for clip in kind]


def _take_seconds(
    preferred: list[VoiceClip], clips: list[VoiceClip]
) -> tuple[list[VoiceClip] | None, list[VoiceClip]]:
    """The first clips with a total of 6 to 10 s (`None` if this is impossible), and the others."""
    order = preferred + [clip for clip in clips if clip not in preferred]
    taken, seconds = [], 0.0
    for clip in order:
        if seconds < REFERENCE_S[0] and seconds + clip.seconds <= REFERENCE_S[1]:
            taken.append(clip)
            seconds += clip.seconds
    if seconds < REFERENCE_S[0]:
        return None, clips
    return taken, [clip for clip in clips if clip not in taken]


def _alternating(clips: Sequence[VoiceClip], first_kind: int) -> list[VoiceClip]:
    """Digit strings and sentences in turn, then the rest."""
    kinds = [[clip for clip in clips if clip.kind == kind] for kind in KINDS[first_kind:] + KINDS[:first_kind]]
    ranks = {clip.id: (rank, order) for order, part in enumerate(kinds) for rank, clip in enumerate(part)}
    return sorted(clips, key=lambda clip: ranks[clip.id])


def choose_voices(
    sources: Sequence[str | Path],
    *,
    texts: Path | None = None,
    tests: int = 8,
    per_source: int | None = None,
    seed: int = 0,
) -> tuple[list[CastVoice], list[str]]:
    """Read recordings and assign their roles.

    Args:
        sources (sequence of `str` or `Path`): see [`load_voice_clips`].
        texts (`Path`, *optional*): a file of sentences for voices whose recordings have no texts; by default, the
            texts of the other voices' test clips.
        tests (`int`), seed (`int`): as in [`cast_voices`].
        per_source (`int`, *optional*): choose this number of voices from each source at random.

    Returns:
        The voices, and the names of those that have too few recordings.

    Raises:
        ValueError: there are fewer than two usable voices; or as in [`load_voice_clips`] and [`load_texts`].
    """
    clips = load_voice_clips(*sources)
    if texts is not None:
        sentences = load_texts(texts)
    else:
        sentences = list(dict.fromkeys(clip.text for clip in clips if clip.held_out_voice and can_test(clip)))
    voices, left_out = cast_voices(clips, tests=tests, seed=seed, texts=sentences)
    if per_source is not None:
        voices = some_of_each_source(voices, per_source, seed)
    if len(voices) < 2:
        raise ValueError(
            f"{', '.join(map(str, sources))}: {len(voices)} usable held-out voices; at least two are needed. Each "
            "needs 6 s of recordings for the prompt, 6 s for the comparison, and texts (its own, or --texts). "
            f"Left out: {', '.join(left_out) or 'none'}."
        )
    return voices, left_out


def some_of_each_source(voices: Sequence[CastVoice], count: int, seed: int) -> list[CastVoice]:
    """`count` random voices of each source, in their original order."""
    by_source = {}
    for voice in voices:
        by_source.setdefault(voice.source, []).append(voice.name)
    chosen = set()
    for source, names in by_source.items():
        rng = np.random.default_rng([seed, zlib.crc32(source.encode())])
        chosen.update(names[i] for i in rng.permutation(len(names))[:count])
    return [voice for voice in voices if voice.name in chosen]


__all__ = ["CastVoice", "can_test", "cast_voices", "choose_voices", "some_of_each_source"]
