"""Folds of a corpus that share neither voice nor text.

choose_folds    choose a fold for every clip
folds_in_words  describe folds in a few lines
NO_VOICE        names of unknown voices
"""

from collections import Counter
from collections.abc import Sequence

from .splits import digest, text_digest

NO_VOICE = ("", "none")  # "none" is from `generate_corpus`: Bark chooses a voice for each clip


def choose_folds(voices: Sequence[str], texts: Sequence[str], num_folds: int) -> list[int | None]:
    """Choose a fold for every clip; the same clips give the same folds.

    Clips that share a voice or a text, directly or through other clips, form a group. If no group has more than 1.5
    times the average size of a fold, the groups are divided among the folds. Otherwise, voices are divided evenly, a
    text goes to the fold with most of its clips, and a clip whose voice and text are in different folds is in none.

    Args:
        voices (sequence of `str`): the voice of every clip; each clip with one of `NO_VOICE` is a voice of its own.
        texts (sequence of `str`): the text of every clip, compared by [`text_digest`]; a clip without a text shares
            no text.
        num_folds (`int`): 2 or more.

    Returns:
        `list`: the fold of every clip, from 0 to `num_folds - 1`; `None` for a clip in no fold.

    Raises:
        ValueError: fewer than two folds, or too few voices or texts for this number of folds.
    """
    if num_folds < 2:
        raise ValueError(f"The number of folds is {num_folds}; it must be 2 or more.")
    of_voice = [digest(f"clip {i}") if voice in NO_VOICE else digest(voice) for i, voice in enumerate(voices)]
    of_text = [text_digest(text) if text else -1 - i for i, text in enumerate(texts)]  # digests are 0 or more
    if len(set(of_voice)) < num_folds:
        raise ValueError(
            f"{num_folds} folds need at least as many voices, and the corpus has {len(set(of_voice))}. Use fewer "
            "folds, or add clips of other voices."
        )
    groups = _connected(of_voice, of_text)
    if max(Counter(groups).values()) <= 1.5 * len(groups) / num_folds:
        fold_of = _divided(groups, num_folds)
        folds = [fold_of[group] for group in groups]
    else:
        fold_of, votes = _divided(of_voice, num_folds), {}
        for voice, text in zip(of_voice, of_text, strict=True):
            votes.setdefault(text, Counter())[fold_of[voice]] += 1
        load, fold_of_text = [0] * num_folds, {}
        for text in sorted(votes):  # to the fold with most of its clips; of several, to the smallest
            fold = min(range(num_folds), key=lambda fold: (-votes[text][fold], load[fold]))
            load[fold] += votes[text][fold]
            fold_of_text[text] = fold
        pairs = [(fold_of[voice], fold_of_text[text]) for voice, text in zip(of_voice, of_text, strict=True)]
        folds = [voice if voice == text else None for voice, text in pairs]
    if empty := sorted(set(range(num_folds)) - set(folds)):
        raise ValueError(f"Too few voices or texts for {num_folds} folds: {empty} would be empty. Use fewer folds.")
    return folds


def folds_in_words(folds: Sequence[int | None], voices: Sequence[str], texts: Sequence[str]) -> list[str]:
    """A line for each fold, and notes on clips in no fold, or with an unknown voice or text.

    Args:
        folds (sequence of `int` or `None`): from [`choose_folds`].
        voices (sequence of `str`), texts (sequence of `str`): the same as for it.
    """
    notes = {
        "share a voice with one fold and a text with another, so they are in none": sum(
            fold is None for fold in folds
        ),
        "have no voice, and each counts as a voice of its own": sum(voice in NO_VOICE for voice in voices),
        "have no text, so a sentence may be in several folds": sum(not text for text in texts),
    }
    counts = sorted(Counter(fold for fold in folds if fold is not None).items())
    lines = [f"fold {fold}: {count:,} clips" for fold, count in counts]
    return lines + [f"{count:,} clips {note}." for note, count in notes.items() if count]


def _connected(of_voice: Sequence[int], of_text: Sequence[int]) -> list[int]:
    """The group of every clip: the smallest of the voices that shared texts connect with its voice."""
    parent = {voice: voice for voice in of_voice}

    def root(voice: int) -> int:
        while parent[voice] != voice:
            parent[voice] = voice = parent[parent[voice]]
        return voice

    first = {}
    for voice, text in zip(of_voice, of_text, strict=True):
        low, high = sorted((root(voice), root(first.setdefault(text, voice))))
        parent[high] = low
    return [root(voice) for voice in of_voice]


def _divided(groups: Sequence[int], num_folds: int) -> dict[int, int]:
    """Assign groups to folds, the largest first, each to the fold with the fewest clips."""
    load, fold_of = [0] * num_folds, {}
    for group, count in sorted(Counter(groups).items(), key=lambda item: (-item[1], item[0])):
        fold_of[group] = load.index(min(load))
        load[fold_of[group]] += count
    return fold_of


__all__ = ["NO_VOICE", "choose_folds", "folds_in_words"]
