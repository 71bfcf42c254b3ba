"""Filters for the utterances of a corpus: measurements and their limits.

    measure            measure an utterance
    Filters            the limits; `failed` names the filters that an utterance fails

The limits were set on 42 real Bark clips (of rsxdalv and JonathanFly) and 251 LibriSpeech recordings: 24 of the 27
clips with English speech pass, 2 of the 9 with music, and 244 recordings pass the limits on their audio.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np

from ..audio import MIN_DURATION_S, SILENCE_PEAK
from ..bark.request import SynthesisResult
from ..voices.splitting import estimate_duration_s
from ..voices.window import FRAME_S, MAX_CLIPPED_SHARE, measure_sound
from .rows import MEASURES

REPEATED_LENGTH = 4  # tokens, 80 ms: longer groups rarely recur in speech
QUIET_DB = -50.0  # an utterance whose loud parts are below this level is silence


@dataclass(frozen=True)
class Filters:
    """Limits for utterances that are kept; `None` (`False` for `finished`) switches a filter off.

    Args:
        finished (`bool`): Bark must have generated an end token; otherwise words may be missing.
        max_silence_share (`float`): silence, as a share of the duration. Long pauses harm training.
        max_clipped_share (`float`): share of clipped samples.
        max_repeated_share (`float`): share of groups of four tokens that occurred before in the utterance.
        min_duration_ratio (`float`), max_duration_ratio (`float`): duration divided by [`estimate_duration_s`].
        min_level_spread_db (`float`): standard deviation of the level: large for syllables and pauses (also in
            songs), small for steady noise and dense music.
        max_word_error_rate (`float`): word error rate by a recognizer; insertions can raise it above 1.
        min_speaker_similarity (`float`): cosine similarity to the voice prompt's speaker; the default lies midway
            between pairs of one and of two LibriSpeech speakers with Resemblyzer.
    """

    finished: bool = True
    max_silence_share: float | None = 0.6
    max_clipped_share: float | None = MAX_CLIPPED_SHARE
    max_repeated_share: float | None = 0.35
    min_duration_ratio: float | None = 0.5
    max_duration_ratio: float | None = 2.0
    min_level_spread_db: float | None = 5.0
    max_word_error_rate: float | None = 0.5
    min_speaker_similarity: float | None = 0.7

    @classmethod
    def off(cls) -> "Filters":
        return cls(**{name: False if name == "finished" else None for name in cls.names()})

    @classmethod
    def parse(cls, assignments: Sequence[str]) -> "Filters":
        """Read limits: `["off"]`, or any of `NAME=LIMIT` and `NAME=off`; other filters keep their defaults.

        Raises:
            ValueError: an unknown name, or a limit that is not a number.
        """
        if list(assignments) == ["off"]:
            return cls.off()
        values = {}
        for assignment in assignments:
            name, _, value = assignment.partition("=")
            try:
                if name == "finished":
                    values[name] = {"on": True, "off": False}[value]
                else:
                    values[name] = None if value == "off" else float(value)
            except (KeyError, ValueError):
                name = None
            if name not in cls.names():
                raise ValueError(
                    f"The filter {assignment!r} must be 'off' alone, finished=on or finished=off, or NAME=LIMIT or "
                    f"NAME=off with NAME one of {', '.join(cls.names()[1:])}."
                )
        return cls(**values)

    @classmethod
    def names(cls) -> list[str]:
        return [field.name for field in fields(cls)]

    def failed(self, measures: Mapping[str, float | None], finish_reason: str) -> list[str]:
        """Names of the filters that an utterance fails; one without a measured value passes."""
        failed = ["finished"] if self.finished and finish_reason == "length" else []
        for name, limit in asdict(self).items():
            bound, _, measure = name.partition("_")
            value = measures.get(measure)
            if name == "finished" or limit is None or value is None:
                continue
            if (value > limit) if bound == "max" else (value < limit):
                failed.append(name)
        return failed


def measure(result: SynthesisResult) -> dict[str, float | None] | None:
    """Measure an utterance.

    Args:
        result (`SynthesisResult`): the utterance; its request has the text.

    Returns:
        `dict` or `None`: a number for each of `MEASURES`, `None` for those that need a judge model; `None` for an
            empty utterance: no tokens, less than 0.1 s, or digital silence.
    """
    waveform, sampling_rate = result.waveform, result.sampling_rate
    duration_s = len(waveform) / sampling_rate
    if duration_s < MIN_DURATION_S or np.abs(waveform).max() < SILENCE_PEAK:
        return None
    sound = measure_sound(waveform, sampling_rate)
    measures = dict.fromkeys(MEASURES)
    measures["silence_share"] = 1.0 if sound.level_db < QUIET_DB else sound.silence_share
    measures["clipped_share"] = sound.clipped_share
    measures["repeated_share"] = repeated_share(result.semantic_tokens)
    measures["level_spread_db"] = level_spread_db(waveform, sampling_rate)
    if result.request.text is not None:
        measures["duration_ratio"] = duration_s / estimate_duration_s(result.request.text)
    return measures


def repeated_share(semantic_tokens: np.ndarray) -> float:
    """Share of groups of `REPEATED_LENGTH` tokens that occurred before: 0 without repetition, near 1 for a loop.

    Unlike in [`repetition_share`], runs of one token count, because they are held tones or long silences.
    """
    if len(semantic_tokens) < REPEATED_LENGTH:
        return 0.0
    groups = np.lib.stride_tricks.sliding_window_view(semantic_tokens, REPEATED_LENGTH)
    return 1 - len(np.unique(groups, axis=0)) / len(groups)


def level_spread_db(waveform: np.ndarray, sampling_rate: int) -> float:
    """Standard deviation of the levels of 20 ms frames, in dB."""
    frame_length = round(FRAME_S * sampling_rate)
    frames = waveform[: len(waveform) // frame_length * frame_length].reshape(-1, frame_length)
    return float((10 * np.log10(np.mean(np.square(frames), axis=1) + 1e-10)).std())


__all__ = [
    "Filters",
    "measure",
    "repeated_share",
]
