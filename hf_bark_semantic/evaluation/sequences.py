"""Two sequences, of words, letters or semantic tokens: where they differ, how often, and what they repeat.

error_counts       the fewest edits that make one sequence of the other, and their rate: the word or unit error rate
word_errors        of two texts, after normalize_text
letter_errors
normalize_text     case, punctuation, contractions and numbers as one way of writing: "3-71" is "three seven one"
repetition_share   how much of a sequence was there before
run_lengths        how long a token stays
codebook_usage     how many tokens are used, and how evenly
"""

import re
import unicodedata
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from .extras import required

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_CONTRACTIONS = [
    (r"\bcan't\b|\bcannot\b", "can not"), (r"\bwon't\b", "will not"), (r"n't\b", " not"), (r"'re\b", " are"),
    (r"'ll\b", " will"), (r"'ve\b", " have"), (r"\bi'm\b", "i am"), (r"\blet's\b", "let us"),
    (r"\b(he|she|it|that|there|here|what|where|who|how|why|when)'s\b", r"\1 is"),
    (r"\b(i|you|he|she|we|they)'d\b", r"\1 would"),
]  # fmt: skip
_SPELLINGS = {
    "grey": "gray", "neighbour": "neighbor", "harbour": "harbor", "colour": "color", "theatre": "theater",
    "travelled": "traveled", "travelling": "traveling", "centre": "center", "favourite": "favorite",
    "honour": "honor", "neighbours": "neighbors", "okay": "ok", "mum": "mom", "metre": "meter",
}  # fmt: skip


@dataclass(frozen=True)
class ErrorCounts:
    """Edits between a reference and what was said or read instead."""

    substitutions: int
    deletions: int
    insertions: int
    num_reference: int

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per unit of the reference; above 1 where much was inserted, 0 for two empty sequences."""
        if not self.num_reference:
            return float(self.insertions > 0)
        return self.errors / self.num_reference


def error_counts(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> ErrorCounts:
    """Count the fewest edits between two sequences; of several ways with as few, one is counted.

    Args:
        reference, hypothesis (sequences): words, letters, or arrays of token ids of shape `(num_tokens,)`.

    Raises:
        ImportError: rapidfuzz, of the extra `eval`, is missing.
    """
    sequences = (row.tolist() if isinstance(row, np.ndarray) else row for row in (reference, hypothesis))
    edits = [edit.tag for edit in required("rapidfuzz.distance.Levenshtein").editops(*sequences)]
    return ErrorCounts(edits.count("replace"), edits.count("delete"), edits.count("insert"), len(reference))


def word_errors(reference: str, hypothesis: str) -> ErrorCounts:
    """Word errors of a transcript, both texts normalized."""
    return error_counts(normalize_text(reference).split(), normalize_text(hypothesis).split())


def letter_errors(reference: str, hypothesis: str) -> ErrorCounts:
    """Letter errors of a transcript, both texts normalized; spaces count."""
    return error_counts(normalize_text(reference), normalize_text(hypothesis))


def normalize_text(text: str) -> str:
    """Write a text as every other transcript of the same words: lower case, no punctuation, numbers digit by digit.

    `"3-71"`, `"Three, 71!"` and `"three seven one"` become `"three seven one"`; `"12"` and `"twelve"` become
    `"one two"`, `"a hundred"` and `"100"` become `"one zero zero"`. English contractions are written out, a few
    British spellings become American; other languages keep their letters. `[laughs]` and the like are left out.
    """
    text = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    text = re.sub(r"\[[^\]]*\]", " ", text)
    for pattern, words in _CONTRACTIONS:
        text = re.sub(pattern, words, text)
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    text = "".join(letter if _is_part_of_word(letter) else " " for letter in text.replace("'", ""))
    text = re.sub(r"\d+", lambda match: f" {match.group()} ", text)
    words = [_SPELLINGS.get(word, word) for word in text.split()]
    return " ".join(DIGITS[int(part)] if part in _DIGIT_NAMES else part for part in _numbers_to_digits(words))


_DIGIT_NAMES = {str(digit) for digit in range(10)}


def _is_part_of_word(letter: str) -> bool:
    return unicodedata.category(letter)[0] in "LMN"


def _numbers_to_digits(words: list[str]) -> list[str]:
    """Numbers in figures and in words to single figures; `["twenty", "one"]` to `["2", "1"]`."""
    result, i = [], 0
    while i < len(words):
        word, following = words[i], words[i + 1] if i + 1 < len(words) else ""
        if following == "hundred" and word in ("a", *DIGITS[1:], *"123456789"):
            hundreds = "1" if word == "a" else word if word.isdigit() else str(DIGITS.index(word))
            result += [hundreds, "0", "0"]
            i += 1
        elif word in _TENS:
            tens = str(_TENS.index(word) + 2)
            unit = str(DIGITS.index(following)) if following in DIGITS[1:] else "0"
            result += [tens, unit]
            i += unit != "0"
        elif word in _TEENS:
            result += ["1", str(_TEENS.index(word))]
        elif word in DIGITS:
            result.append(str(DIGITS.index(word)))
        elif word.isascii() and word.isdigit():
            result += word
        else:
            result.append(word)
        i += 1
    return result


def repetition_share(units: Sequence[Hashable], n: int = 4) -> float:
    """Share of the runs of `n` units that were there before: near 0 for speech, near 1 for a stuck model.

    Args:
        units (sequence): words of a transcript, or semantic tokens of shape `(num_tokens,)`. Of tokens, immediate
            repetitions are taken out first (`run_lengths` counts those).
        n (`int`): 4 for words, 8 or more for tokens.
    """
    units = list(units.tolist() if isinstance(units, np.ndarray) else units)
    if units and not isinstance(units[0], str):
        units = [unit for i, unit in enumerate(units) if i == 0 or unit != units[i - 1]]
    runs = [tuple(units[i : i + n]) for i in range(len(units) - n + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def run_lengths(tokens: np.ndarray) -> np.ndarray:
    """How often each token follows itself, plus one: int64 `(num_runs,)` of tokens `(num_tokens,)`.

    Bark's own average 1.40; `[7, 7, 7, 2]` gives `[3, 1]`.
    """
    tokens = np.asarray(tokens)
    starts = np.flatnonzero(np.concatenate([[True], tokens[1:] != tokens[:-1]])[: len(tokens)])
    return np.diff(np.append(starts, len(tokens)))


@dataclass(frozen=True)
class CodebookUsage:
    """How a set of tokens uses its vocabulary.

    Args:
        used (`int`): distinct tokens.
        share (`float`): of the vocabulary.
        entropy_bits (`float`): of the frequencies; Bark's own tokens have 9.99.
        perplexity (`float`): `2 ** entropy_bits`, the size of an evenly used vocabulary of that entropy.
    """

    used: int
    share: float
    entropy_bits: float
    perplexity: float


def codebook_usage(tokens: np.ndarray, vocab_size: int) -> CodebookUsage:
    """How many of `vocab_size` tokens occur in `tokens` `(num_tokens,)`, and how evenly.

    Raises:
        ValueError: no tokens, or ids outside of the vocabulary.
    """
    tokens = np.asarray(tokens).ravel()
    if not len(tokens) or tokens.min() < 0 or tokens.max() >= vocab_size:
        raise ValueError(f"`tokens` must be at least one id in [0, {vocab_size}).")
    counts = np.bincount(tokens, minlength=vocab_size)
    shares = counts[counts > 0] / len(tokens)
    entropy = float(-(shares * np.log2(shares)).sum())
    return CodebookUsage(len(shares), len(shares) / vocab_size, entropy, 2**entropy)


__all__ = [
    "CodebookUsage",
    "ErrorCounts",
    "codebook_usage",
    "error_counts",
    "letter_errors",
    "normalize_text",
    "repetition_share",
    "run_lengths",
    "word_errors",
]
