"""Measures of sequences of words, letters or semantic tokens: errors, repetition and use of the vocabulary.

error_counts       edit distance of two sequences, for word and unit error rates
word_errors        word errors of two texts, after normalize_text
letter_errors      letter errors of two texts, after normalize_text
normalize_text     unify case, punctuation, contractions and numbers: "3-71" becomes "three seven one"
repetition_share   share of repeated n-grams
run_lengths        lengths of runs of one token
codebook_usage     number of used tokens, and entropy
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
    """Edits from a reference to a hypothesis."""

    substitutions: int
    deletions: int
    insertions: int
    num_reference: int

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per unit of the reference; insertions can raise it above 1, and it is 0 for two empty sequences."""
        if not self.num_reference:
            return float(self.insertions > 0)
        return self.errors / self.num_reference


def error_counts(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> ErrorCounts:
    """Count the fewest edits between two sequences.

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
    """Normalize a text: lower case, no punctuation, numbers digit by digit.

    `"3-71"`, `"Three, 71!"` and `"three seven one"` become `"three seven one"`; `"12"` and `"twelve"` become
    `"one two"`, `"a hundred"` and `"100"` become `"one zero zero"`. English contractions are written out, a few
    British spellings become American; other languages keep their letters. Marks such as `[laughs]` are removed.
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
    """Replace numbers, in figures or words, by single digits: `["twenty", "one"]` becomes `["2", "1"]`."""
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
    """Share of n-grams that occurred before in the sequence: near 0 for speech, near 1 for a model in a loop.

    Args:
        units (sequence): words of a transcript, or semantic tokens of shape `(num_tokens,)`. Runs of one token count
            as one token (`run_lengths` measures runs).
        n (`int`): 4 for words, 8 or more for tokens.
    """
    units = list(units.tolist() if isinstance(units, np.ndarray) else units)
    if units and not isinstance(units[0], str):
        units = [unit for i, unit in enumerate(units) if i == 0 or unit != units[i - 1]]
    runs = [tuple(units[i : i + n]) for i in range(len(units) - n + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def run_lengths(tokens: np.ndarray) -> np.ndarray:
    """Lengths of the runs of equal tokens: int64 `(num_runs,)` for tokens `(num_tokens,)`.

    `[7, 7, 7, 2]` gives `[3, 1]`. The mean for Bark's own tokens is 1.40.
    """
    tokens = np.asarray(tokens)
    starts = np.flatnonzero(np.concatenate([[True], tokens[1:] != tokens[:-1]])[: len(tokens)])
    return np.diff(np.append(starts, len(tokens)))


@dataclass(frozen=True)
class CodebookUsage:
    """How a set of tokens uses its vocabulary.

    Args:
        used (`int`): number of distinct tokens.
        share (`float`): their share of the vocabulary.
        entropy_bits (`float`): entropy of the token frequencies; 9.99 for Bark's own tokens.
        perplexity (`float`): `2 ** entropy_bits`, the size of an evenly used vocabulary of that entropy.
    """

    used: int
    share: float
    entropy_bits: float
    perplexity: float


def codebook_usage(tokens: np.ndarray, vocab_size: int) -> CodebookUsage:
    """Measure the use of a vocabulary of size `vocab_size` by `tokens` `(num_tokens,)`.

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
