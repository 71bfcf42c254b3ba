"""Split text of any length into pieces that Bark can speak in one generation.

    split_text            split a text at the ends of sentences, else of clauses, else between words
    estimate_duration_s   the estimated duration of a text
    piece_fits            whether a Bark can speak a piece in one generation

Bark detects the language of a text, and `[laughs]`, ♪, MAN:, WOMAN: and CAPITALS have a meaning for it, so none of
these is changed.
"""

import math
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from typing import Any

from ..bark.configs import BarkGenerationConfigs
from ..bark.prompting import longest_piece_s, text_to_ids

LETTERS_PER_S = 15.0  # English clips of Bark that fill their 14 s: 15.0 to 16.5, with spaces
SYLLABIC_LETTERS_PER_S = 5.0  # Japanese clips: 5.2 to 6.0
SYLLABIC_SCRIPTS = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL")  # in the Unicode names of such letters
DIGITS_PER_S = 3.0  # a digit is a word
CUE_S = 1.0  # [laughs], [clears throat], ...
CHARACTERS = 4  # index of the last kind of break: between any characters, except in cues
SHORT_S = (1.0, 3.0)  # bounds of a short first piece; Bark speaks shorter ones badly
FAR = 1_000  # characters; farther breaks are looked for only if a piece may end about there
SONG_FACTOR = 1.5  # sung words last longer

_CUE = re.compile(r"\[[^\[\]]*\]")
# The lookahead avoids quadratic time for long rows of ♪ or spaces.
_SONG = re.compile(r"(?<!♪)(♪+(?!♪)\s*(?!\s))[^♪]*[^♪\s](\s*♪+)")
_SPEAKER = re.compile(r"(?:\bMAN|\bWOMAN):|\[(?:MAN|WOMAN)\]")  # suno-ai/bark, README: "to bias" the voice
_SPEAKER_AND_NEXT = re.compile(rf"(?:{_SPEAKER.pattern})\s*\S?")
_CLOSING = r"[\"'”’»)\]」』）]*"
_SENTENCE_END = re.compile(rf"[.!?…।؟۔]+{_CLOSING}(?=\s)|[。！？]+{_CLOSING}")
_PARAGRAPH_END = re.compile(r"\n\s*\n")
_CLAUSE_END = re.compile(rf"[,;:،؛]{_CLOSING}(?=\s)|\s[-–—](?=\s)|—|[、，；：]{_CLOSING}")
_WORD_END = re.compile(r"\S(?=\s)")
_ABBREVIATION = re.compile(r"(?:\b(?:mrs?|ms|dr|prof|st|sr|jr|vs|vol|e\.g|i\.e)|(?<![\w’'])\w)\.$", re.IGNORECASE)
_SPACES = re.compile(r"\s*")
_NEXT_LETTER = re.compile(r"\s+[^\W\d_]")


def estimate_duration_s(text: str) -> float:
    """The estimated duration of a text in seconds; real clips that fill their time are within 10 %."""
    text = _SPEAKER.sub("", text)
    words = _CUE.sub("", text)
    sung_s = sum(_spoken_s(song.group()) for song in _SONG.finditer(words))
    return _spoken_s(words) + (SONG_FACTOR - 1) * sung_s + CUE_S * len(_CUE.findall(text))


def piece_fits(tokenizer: Any, configs: BarkGenerationConfigs, block_size: int) -> Callable[[str], bool]:
    """Return a function that tells whether a Bark can speak a text in one generation.

    Args:
        tokenizer: Bark's tokenizer.
        configs (`BarkGenerationConfigs`): of the Bark.
        block_size (`int`): positions of its text stage, `bark.semantic.config.block_size`.
    """
    max_s, max_ids = longest_piece_s(configs, block_size), configs.semantic.max_input_semantic_length

    def fits(text: str) -> bool:
        letters = len(_CUE.sub("", _SPEAKER.sub("", text)))
        if letters > max_s * LETTERS_PER_S + 1:  # saves time: no character is faster
            return False
        return estimate_duration_s(text) <= max_s and len(text_to_ids(text, tokenizer)) <= max_ids

    return fits


def split_text(text: str, fits: Callable[[str], bool], *, short_first: bool = False) -> list[str]:
    """Split a text into consecutive pieces that fit.

    Each piece has as many sentences as fit; if not even one does, as many clauses, else words, else characters.
    `[...]` is split only if it does not fit alone, and `♪ ... ♪` is not split if it fits.

    The current speaker tag (`MAN:`, `WOMAN:`, `[MAN]`, `[WOMAN]`) is repeated at the start of later pieces, and a song
    that is split gets a ♪ on both sides of the split. Apart from these and from white space, which becomes single
    spaces, the joined pieces are the text.

    Args:
        text (`str`): as Bark's users write it.
        fits (`Callable[[str], bool]`): whether a piece fits, such as from [`piece_fits`].
        short_first (`bool`): make the first piece the first sentence or, if that takes more than 3 s, its first
            clause, so that it is spoken soon. Pieces of less than 1 s are avoided.

    Returns:
        `list[str]`: the pieces, in order; each has at least one character, even if that does not fit.

    Raises:
        TypeError: not a text.
        ValueError: a text without a character.
    """
    if not isinstance(text, str):
        raise TypeError(f"`text` is a {type(text).__name__}; pass one `str`.")
    text = text.strip()
    if not text:
        raise ValueError("`text` is empty. Pass at least one word.")
    songs = [song.span() for song in _SONG.finditer(text)]
    speakers = [(0, ""), *((speaker.start(), speaker.group()) for speaker in _SPEAKER.finditer(text))]

    def piece(start: int, end: int) -> str:
        words = " ".join(text[start:end].split())
        if _is_inside(start, songs):
            words = f"♪ {words}"
        if _is_inside(end, songs):
            words = f"{words} ♪"
        if _SPEAKER.match(words):
            return words
        speaker = speakers[bisect_right(speakers, start, key=lambda item: item[0]) - 1][1]
        return f"{speaker} {words}".strip()

    levels = _breaks(text)
    characters = levels[CHARACTERS]
    pieces, start = [], 0
    short = _short_beginning(text, levels, songs) if short_first else None
    while start < len(text):
        if start == 0 and short is not None and fits(piece(0, short)):
            end = short
        else:
            far = characters[min(bisect_left(characters, start + FAR), len(characters) - 1)]

            def fits_up_to(end: int, start: int = start, far: int = far) -> bool:
                return (end <= far or fits(piece(start, far))) and fits(piece(start, end))

            end = _last_break(start, levels, fits_up_to)
        pieces.append(piece(start, end))
        start = _SPACES.match(text, end).end()  # type: ignore[union-attr]
    return pieces


def _last_break(start: int, levels: list[list[int]], fits: Callable[[int], bool]) -> int:
    """The last break at which the text from `start` fits, of the best possible kind; if none fits, the first break."""
    for breaks in levels:
        first = bisect_right(breaks, start)
        low, high, step = first - 1, first, 1  # fits up to `low`; `high` grows in longer and longer steps
        while high < len(breaks) and fits(breaks[high]):
            low, high, step = high, high + step, 2 * step
        high = min(high, len(breaks))
        while high - low > 1:  # does not fit from `high` on
            middle = (low + high) // 2
            low, high = (middle, high) if fits(breaks[middle]) else (low, middle)
        if low >= first:
            return breaks[low]
    return levels[-1][bisect_right(levels[-1], start)]


def _short_beginning(text: str, levels: list[list[int]], songs: list[tuple[int, int]]) -> int | None:
    """The end of the first sentence or, if it is long, of its first clause; `None` if a part would be too short."""
    least_s, most_s = SHORT_S
    sentences, clauses = levels[0], [end for end in levels[2] if not any(first < end < last for first, last in songs)]
    for breaks, longest_s in ((sentences, most_s), (clauses, math.inf)):
        end = next((end for end in breaks if estimate_duration_s(text[:end]) >= least_s), len(text))
        if estimate_duration_s(text[:end]) <= longest_s and estimate_duration_s(text[end:]) >= least_s:
            return end
    return None


def _breaks(text: str) -> list[list[int]]:
    """Positions of possible breaks by kind, the best kind first; each list ends with the end of the text."""
    songs = list(_SONG.finditer(text))
    sentences = [end.end() for end in _SENTENCE_END.finditer(text) if not _goes_on(text, end.end())]
    sentences += [end.end() for end in _PARAGRAPH_END.finditer(text)]
    sentences += [speaker.start() for speaker in _SPEAKER.finditer(text)]
    sentences += [bound for song in songs for bound in song.span()]
    clauses = sentences + [end.end() for end in _CLAUSE_END.finditer(text)]
    words = [end.end() for end in _WORD_END.finditer(text)]
    characters = [i for i in range(1, len(text)) if not _belongs_to_the_last(text, i)]

    whole = [cue.span() for cue in _CUE.finditer(text)]
    whole += [speaker.span() for speaker in _SPEAKER_AND_NEXT.finditer(text)]
    whole += [(song.start(), song.end(1) + 1) for song in songs]  # a ♪ stays with the next word, or with the last
    whole += [(song.start(2) - 1, song.end()) for song in songs]
    outside, outside_songs = _outside(whole, len(text)), _outside([song.span() for song in songs], len(text))
    kinds = [outside & outside_songs & {*sentences}, outside & {*sentences}, outside & {*clauses}]
    kinds += [outside & {*words}, outside & {*characters}, {*words}, {*characters}]
    return [sorted((kind | {len(text)}) - {0}) for kind in kinds]


def _is_inside(position: int, spans: list[tuple[int, int]]) -> bool:
    """Whether a position is inside of one of the sorted spans; bounds are outside."""
    before = bisect_left(spans, (position, 0))
    return before > 0 and position < spans[before - 1][1]


def _goes_on(text: str, end: int) -> bool:
    """Whether the full stop before `end` does not end a sentence: "Dr. Who", "J. F. Kennedy", "well ... yes"."""
    following = _NEXT_LETTER.match(text, end)
    if following is not None and following.group()[-1].islower():
        return True
    return _ABBREVIATION.search(text, max(0, end - 8), end) is not None


def _belongs_to_the_last(text: str, i: int) -> bool:
    """Whether character `i` combines with the one before it: an accent, a vowel sign or a joined character."""
    return unicodedata.category(text[i])[0] == "M" or "\u200d" in text[i - 1 : i + 1]


def _outside(spans: Iterable[tuple[int, int]], length: int) -> set[int]:
    """Positions from 0 to `length` that are not inside of a span; bounds are outside."""
    positions = set(range(length + 1))
    for first, last in spans:
        positions.difference_update(range(first + 1, last))
    return positions


def _spoken_s(text: str) -> float:
    return sum(1 / _characters_per_s(character) for character in text)


def _characters_per_s(character: str) -> float:
    if character.isdecimal():
        return DIGITS_PER_S
    if character.isascii() or not unicodedata.name(character, "").startswith(SYLLABIC_SCRIPTS):
        return LETTERS_PER_S
    return SYLLABIC_LETTERS_PER_S


__all__ = ["estimate_duration_s", "split_text"]
