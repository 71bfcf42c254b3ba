"""The roles of recordings: the prompt of each voice, the recordings its clones are compared with, and the texts.

A recording has one role only: prompt, enrolment or test. So a clone cannot win by sounding like the recording instead
of the person. Only long recordings without a text are cut, and a voice that has no more than one of them prompts and
enrols with two parts of it (`CastVoice.one_recording`): its similarity then depends on room and microphone, too.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .sequences import normalize_text
from .voice_clips import KINDS, TEST_CLIP_S, VoiceClip, load_texts, load_voice_clips

REFERENCE_S = (6.0, 10.0)  # of a prompt's recordings and of those that a clone is compared with


@dataclass(frozen=True)
class CastVoice:
    """The roles of a voice's recordings: each in one role only.

    Args:
        name (`str`): the voice.
        prompt (`tuple[VoiceClip, ...]`): what it is cloned from, 6 to 10 s.
        enrolment (`tuple[VoiceClip, ...]`): what its embedding is taken from, 6 to 10 s.
        tests (`tuple[VoiceClip, ...]`): whose texts are spoken; scores of the recordings, where there are any, are
            the best that a clone can reach.
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
    """Give the recordings of held-out voices their roles.

    Test clips have held-out texts, digit strings and sentences in turn. What is left prompts and enrols. Recordings
    without a text never test; they are cut into parts of 6 to 10 s, so that one of 12 s is enough for a voice.

    Args:
        clips (`Iterable[VoiceClip]`): voices that are not held out are ignored.
        tests (`int`): test clips per voice at most.
        seed (`int`): of the choice.
        texts (sequence of `str`): what is spoken in voices whose recordings have no texts; these are left out
            where there are none.

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
    """A recording without a text in parts of 6 to 10 s; others, and shorter ones, as they are."""
    count = int(clip.seconds // REFERENCE_S[0])
    if clip.text or not count:
        return [clip]
    hop = clip.seconds / count
    parts = [replace(clip, start_s=i * hop, seconds=min(hop, REFERENCE_S[1])) for i in range(count)]
    return [replace(part, id=f"{clip.id}/{i}") for i, part in enumerate(parts)] if count > 1 else parts


def _borrowed(voice: str, texts: Sequence[str], count: int, rng: np.random.Generator) -> list[VoiceClip]:
    """Texts for a voice, as clips without recordings: digit strings and sentences alike, if there are both."""
    clips = [VoiceClip(f"{voice}/text-{i}", None, texts[i], voice, 0.0) for i in rng.permutation(len(texts))]
    of_kinds = [[clip for clip in clips if clip.kind == kind][:count] for kind in KINDS]
    return [clip for kind in of_kinds for clip in kind]


def _take_seconds(
    preferred: list[VoiceClip], clips: list[VoiceClip]
) -> tuple[list[VoiceClip] | None, list[VoiceClip]]:
    """The first clips that last 6 to 10 s together (`None` where they do not), and the others."""
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
    """Digit strings and sentences in turn, then what is left of either."""
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
    """Read recordings and give them their roles.

    Args:
        sources (sequence of `str` or `Path`): see [`load_voice_clips`].
        texts (`Path`, *optional*): a file of sentences for voices whose recordings have no texts; by default they say
            the test clips' texts of the other voices.
        tests (`int`), seed (`int`): as in [`cast_voices`].
        per_source (`int`, *optional*): choose this number of voices of each source at random.

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
            f"{', '.join(map(str, sources))}: {len(voices)} usable held-out voices; there must be two or more. Each "
            "needs 6 s of recordings to be prompted with, 6 s to be compared with, and texts (its own, or --texts). "
            f"Left out: {', '.join(left_out) or 'none'}."
        )
    return voices, left_out


def some_of_each_source(voices: Sequence[CastVoice], count: int, seed: int) -> list[CastVoice]:
    """`count` voices of each source at random, in their order."""
    by_source = {}
    for voice in voices:
        by_source.setdefault(voice.source, []).append(voice.name)
    chosen = set()
    for source, names in by_source.items():
        rng = np.random.default_rng([seed, zlib.crc32(source.encode())])
        chosen.update(names[i] for i in rng.permutation(len(names))[:count])
    return [voice for voice in voices if voice.name in chosen]


__all__ = ["CastVoice", "can_test", "cast_voices", "choose_voices", "some_of_each_source"]
