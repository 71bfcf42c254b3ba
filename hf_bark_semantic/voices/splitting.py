"""Text of any length to pieces that Bark can speak at once.

    split_text            text -> pieces, cut at the ends of sentences, else of clauses, else between words
    estimate_duration_s   how long Bark takes to say a text
    piece_fits            whether a Bark can read and say a piece at once

Bark reads its text as it stands: it finds out the language, and `[laughs]`, ♪, MAN:, WOMAN: and CAPITALS are for it.
Nothing here rewrites any of that.
"""

import math
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from typing import Any

from ..bark.configs import BarkGenerationConfigs
from ..bark.prompting import longest_piece_s, text_to_ids

LETTERS_PER_S = 15.0  # real English clips of Bark that fill their 14 s: 15.0 to 16.5, spaces counted
SYLLABIC_LETTERS_PER_S = 5.0  # its Japanese: 5.2 to 6.0
SYLLABIC_SCRIPTS = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL")  # how Unicode names such letters
DIGITS_PER_S = 3.0  # a digit is a word
CUE_S = 1.0  # [laughs], [clears throat], ...
CHARACTERS = 4  # of the kinds of breaks: between any characters, but for cues
SHORT_S = (1.0, 3.0)  # of a short first piece: Bark says less badly, and a longer sentence gives its first clause
FAR = 1_000  # characters; whether a piece may end farther away is asked only where it may end about there
SONG_FACTOR = 1.5  # words between ♪ last longer

_CUE = re.compile(r"\[[^\[\]]*\]")
# what follows ♪ and spaces is asked at once: else a long row of either would be tried from each of its characters
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
    """Make the rule whether a Bark can read and say a text at once.

    Args:
        tokenizer: Bark's.
        configs (`BarkGenerationConfigs`): the Bark's.
        block_size (`int`): positions of its text stage, `bark.semantic.config.block_size`.
    """
    max_s, max_ids = longest_piece_s(configs, block_size), configs.semantic.max_input_semantic_length

    def fits(text: str) -> bool:
        letters = len(_CUE.sub("", _SPEAKER.sub("", text)))
        if letters > max_s * LETTERS_PER_S + 1:  # a long rest; no character takes less time
            return False
        return estimate_duration_s(text) <= max_s and len(text_to_ids(text, tokenizer)) <= max_ids

    return fits


def split_text(text: str, fits: Callable[[str], bool], *, short_first: bool = False) -> list[str]:
    """Cut a text into pieces that can be spoken one after the other.

    Each piece takes as many sentences as fit; where not even one does, as many clauses, else words, else characters.
    `[...]` is cut only if it does not fit alone, and `♪ ... ♪` stays together where it fits.

    What holds for the text goes on in later pieces: the speaker tag in force (`MAN:`, `WOMAN:`, `[MAN]`, `[WOMAN]`) is
    repeated in front of them, and a song that had to be cut gets its ♪ on both sides of the cut. Apart from these and
    from white space, which becomes single spaces, the pieces joined are the text.

    Args:
        text (`str`): as Bark's users write it.
        fits (`Callable[[str], bool]`): whether a piece can be spoken at once.
        short_first (`bool`): let the first piece be the first sentence or, where that takes more than 3 s, its first
            clause, so that it is soon spoken. A part of less than 1 s is not cut off.

    Returns:
        `list[str]`: the pieces, in order; of at least one character, even where that does not fit.

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
    """The last break up to which all from `start` fits, of the best kind that has one; else the first of any."""
    for breaks in levels:
        first = bisect_right(breaks, start)
        low, high, step = first - 1, first, 1  # all fits up to `low`; `high` is tried, in longer and longer steps
        while high < len(breaks) and fits(breaks[high]):
            low, high, step = high, high + step, 2 * step
        high = min(high, len(breaks))
        while high - low > 1:  # not any more from `high` on
            middle = (low + high) // 2
            low, high = (middle, high) if fits(breaks[middle]) else (low, middle)
        if low >= first:
            return breaks[low]
    return levels[-1][bisect_right(levels[-1], start)]


def _short_beginning(text: str, levels: list[list[int]], songs: list[tuple[int, int]]) -> int | None:
    """Where the first sentence ends or, if that is far, its first clause; `None` where a part would be too short."""
    least_s, most_s = SHORT_S
    sentences, clauses = levels[0], [end for end in levels[2] if not any(first < end < last for first, last in songs)]
    for breaks, longest_s in ((sentences, most_s), (clauses, math.inf)):
        end = next((end for end in breaks if estimate_duration_s(text[:end]) >= least_s), len(text))
        if estimate_duration_s(text[:end]) <= longest_s and estimate_duration_s(text[end:]) >= least_s:
            return end
    return None


def _breaks(text: str) -> list[list[int]]:
    """Positions after which a piece may begin, in order: the best kind first, the end of the text in each."""
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
    whole += [(song.start(), song.end(1) + 1) for song in songs]  # a ♪ goes with the next word, or with the last
    whole += [(song.start(2) - 1, song.end()) for song in songs]
    outside, outside_songs = _outside(whole, len(text)), _outside([song.span() for song in songs], len(text))
    kinds = [outside & outside_songs & {*sentences}, outside & {*sentences}, outside & {*clauses}]
    kinds += [outside & {*words}, outside & {*characters}, {*words}, {*characters}]
    return [sorted((kind | {len(text)}) - {0}) for kind in kinds]


def _is_inside(position: int, spans: list[tuple[int, int]]) -> bool:
    """Whether a position lies inside of one of the spans, which are in order; its bounds are outside."""
    before = bisect_left(spans, (position, 0))
    return before > 0 and position < spans[before - 1][1]


def _goes_on(text: str, end: int) -> bool:
    """Whether a sentence continues after the full stop before `end`: "Dr. Who", "J. F. Kennedy", "well ... yes"."""
    following = _NEXT_LETTER.match(text, end)
    if following is not None and following.group()[-1].islower():
        return True
    return _ABBREVIATION.search(text, max(0, end - 8), end) is not None


def _belongs_to_the_last(text: str, i: int) -> bool:
    """Whether character `i` is an accent, a vowel sign or a joined part of the character before it."""
    return unicodedata.category(text[i])[0] == "M" or "\u200d" in text[i - 1 : i + 1]


def _outside(spans: Iterable[tuple[int, int]], length: int) -> set[int]:
    """Positions from 0 to `length` that lie inside of no span; its bounds are outside."""
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
