"""Describe a part of a recording that may become a voice."""

import numpy as np

from ..bark.configs import HistoryLengths
from ..configuration_bark_semantic import CODEC_SAMPLING_RATE, SEMANTIC_RATE_HZ
from ..voices.window import MAX_CLIPPED_SHARE, MAX_SILENCE_SHARE, MIN_LEVEL_DB, measure_sound

UNSURE_TOKENS = 15  # 0.3 s: a syllable or two
UNSURE_SHARE = 0.5  # share of the part's mean confidence
MAX_UNSURE = 3  # moments that are shown


def describe_part(clip: np.ndarray, confidence: np.ndarray, histories: HistoryLengths) -> str:
    """Describe the quality of a part as a voice prompt, and the moments with low confidence.

    Args:
        clip (`np.ndarray` of shape `(num_samples,)`): the part at 24 kHz.
        confidence (`np.ndarray` of shape `(num_tokens,)`): the encoder's confidence in its tokens.
        histories (`HistoryLengths`): how much of a prompt the Bark reads.
    """
    sound, best = measure_sound(clip, CODEC_SAMPLING_RATE), histories.coarse_tokens + 1
    found = (
        (len(confidence) < best, f"it is shorter than {best / SEMANTIC_RATE_HZ:.1f} s, a good length for a prompt"),
        (sound.clipped_share > MAX_CLIPPED_SHARE, "it was recorded too loud and is distorted"),
        (sound.silence_share > MAX_SILENCE_SHARE, "most of it is silence"),
        (sound.level_db < MIN_LEVEL_DB, "it is so quiet that its noise becomes part of the voice"),
        (not sound.ends_at_pause, "it ends within a sound, so Bark may begin by finishing a word"),
    )
    faults = [words for is_so, words in found if is_so]
    seconds = f"{len(clip) / CODEC_SAMPLING_RATE:.1f} s"
    said = (
        f"A good prompt: {seconds}, ends at a pause." if not faults else f"A prompt of {seconds}, but {_list(faults)}."
    )
    unsure = _unsure_moments(confidence)
    return (
        said if not unsure else f"{said} The encoder is unsure at {_list([f'{moment:.1f} s' for moment in unsure])}."
    )


def _unsure_moments(confidence: np.ndarray) -> list[float]:
    """Seconds at which the mean over `UNSURE_TOKENS` is lowest, and below `UNSURE_SHARE` of the part's mean."""
    if len(confidence) < UNSURE_TOKENS:
        return []
    means = np.convolve(confidence, np.full(UNSURE_TOKENS, 1 / UNSURE_TOKENS), "valid")
    moments: list[int] = []
    while len(moments) < MAX_UNSURE and means.min() < UNSURE_SHARE * confidence.mean():
        lowest = int(np.argmin(means))
        moments.append(lowest)
        means[max(0, lowest - 2 * UNSURE_TOKENS) : lowest + 2 * UNSURE_TOKENS + 1] = np.inf
    return [(moment + UNSURE_TOKENS / 2) / SEMANTIC_RATE_HZ for moment in sorted(moments)]


def _list(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


__all__ = ["describe_part"]
