"""Clips to validate on that share neither voice nor sentence with the clips to train on.

choose_held_out     which voices and which texts are held out
HeldOut.side        on which side a clip then is; on neither, if only its voice or only its text is held out
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

TRAINING, VALIDATION = "training", "validation"


@dataclass(frozen=True)
class HeldOut:
    """Voices and texts (their digests) that training must not hear."""

    voices: frozenset[int]
    texts: frozenset[int]

    def side(self, voice: str, text: str) -> str | None:
        """`TRAINING`, `VALIDATION`, or None for a clip that would bring a voice or a text to both."""
        sides = {digest(voice) in self.voices, text_digest(text) in self.texts}
        return None if len(sides) == 2 else VALIDATION if sides == {True} else TRAINING


def choose_held_out(rows: Iterable[tuple[str, str]], share: float) -> HeldOut:
    """Choose voices and texts to hold out, the same ones every time.

    Voices are taken in the order of their digests until they have `share` of the clips; then their texts, those that
    few others say first, as long as these others say no more than `share` of the clips. Where every text is said once,
    all clips are used; where every voice says every text, about `share` squared is held out, and two `share` are lost.

    Args:
        rows (`Iterable[tuple[str, str]]`): voice and text of every clip; read once, 16 bytes are kept of each.
        share (`float`): of the clips, above 0 and at most 0.5.

    Raises:
        ValueError: a share out of range, a clip without a text, or too few voices or texts for two sides.
    """
    if not isinstance(share, (int, float)) or not 0 < share <= 0.5:
        raise ValueError(f"The held-out `share` is {share!r}; it must be above 0 and at most 0.5.")
    pairs = Counter()
    for voice, text in rows:
        if not text:
            raise ValueError(
                "A held-out `share` needs the `text` of every clip, or a sentence could be on both sides. Give the "
                "corpus a `text` column, or a `fold` column and validation.fold."
            )
        pairs[digest(voice), text_digest(text)] += 1
    total, of_voice = pairs.total(), Counter()
    for (voice, _), count in pairs.items():
        of_voice[voice] += count
    if len(of_voice) < 2:
        raise ValueError(f"The clips are of {len(of_voice)} voice; to hold one out takes two or more.")
    voices, covered = set(), 0
    for voice in sorted(of_voice)[:-1]:
        voices.add(voice)
        covered += of_voice[voice]
        if covered >= share * total:
            break
    lost_by = {text: 0 for voice, text in pairs if voice in voices}  # clips of other voices that a held-out text costs
    for (voice, text), count in pairs.items():
        if text in lost_by and voice not in voices:
            lost_by[text] += count
    texts, lost = set(), 0
    for text in sorted(lost_by, key=lambda text: (lost_by[text], text)):
        if texts and lost + lost_by[text] > share * total:
            break
        texts.add(text)
        lost += lost_by[text]
    if lost + covered >= total:
        raise ValueError("Every voice says the same texts, and there are too few of them to hold one out.")
    return HeldOut(frozenset(voices), frozenset(texts))


def text_digest(text: str) -> int:
    """Of the words alone: case and punctuation make no new sentence."""
    return digest(" ".join(re.findall(r"\w+", text.casefold())) or text)


def digest(name: str) -> int:
    """64 bits of SHA-256: the same in every run, unlike `hash`."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
