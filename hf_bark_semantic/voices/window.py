"""Measure recordings, and find the part that makes the best voice prompt.

best_windows     the parts of a long recording that make the best prompts, by their audio
best_window      the best of them
measure_sound    level, silence, clipping and end of a recording
prompt_report    how much of a prompt each stage of Bark uses, and how to improve it
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..audio import LongRecording
from ..bark.configs import SUNO_HISTORIES, HistoryLengths
from ..bark.prompting import coarse_history_lengths
from ..bark.voice_prompt import LENGTH_TOLERANCE, LENGTH_TOLERANCE_FRAMES, VoicePrompt, VoicePromptError
from ..configuration_bark_semantic import CODEC_RATE_HZ, NUM_COARSE_CODEBOOKS, SEMANTIC_RATE_HZ, num_codec_frames

FRAME_S = 0.02  # the grid on which loudness is measured
FRAMES_AT_ONCE = 1_500  # 30 s, for recordings of hours
PAUSE_FRAMES = 4  # 80 ms of silence: longer than most closures of stop consonants
CLIPPED_LEVEL = 0.999  # share of full scale
MAX_CLIPPED_SHARE = 1e-3
MAX_SILENCE_SHARE = 0.5
MIN_LEVEL_DB = -45.0


@dataclass(frozen=True)
class Sound:
    """Measures of a recording: the level of its loud parts in dB of full scale, shares in `[0, 1]`, and its end."""

    level_db: float
    silence_share: float
    clipped_share: float
    ends_at_pause: bool

    def warnings(self) -> list[str]:
        found = []
        if self.clipped_share > MAX_CLIPPED_SHARE:
            found.append(
                f"{self.clipped_share:.1%} of the samples are clipped, and Bark imitates the distortion. "
                "Record at a lower level or choose another part."
            )
        if self.silence_share > MAX_SILENCE_SHARE:
            found.append(
                f"{self.silence_share:.0%} of the recording is silence, and Bark imitates the pauses. "
                "Choose a part with fewer pauses (best_window finds it)."
            )
        if self.level_db < MIN_LEVEL_DB:
            found.append(
                f"The recording is quiet ({self.level_db:.0f} dB), so its noise becomes part of the voice. "
                "Record closer or louder."
            )
        if not self.ends_at_pause:
            found.append(
                "The recording ends within a sound, so Bark may begin by finishing a word. Cut it at a pause "
                "(best_window does)."
            )
        return found


@dataclass(frozen=True)
class PromptReport:
    """How much of a prompt each stage of Bark uses, measurements of its recording if given, and warnings."""

    num_tokens: int
    num_frames: int
    num_semantic_tokens_read: int
    num_coarse_tokens_read: int
    num_fine_frames_read: int
    starts_on_right_codebook: bool
    sound: Sound | None
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"{self.num_tokens} semantic tokens, {self.num_frames} codec frames, "
            f"{self.num_frames / CODEC_RATE_HZ:.2f} s",
            f"  semantic stage reads the last {self.num_semantic_tokens_read} tokens "
            f"({self.num_semantic_tokens_read / SEMANTIC_RATE_HZ:.2f} s)",
            f"  coarse stage reads the last {self.num_coarse_tokens_read} tokens and their codes "
            f"({self.num_coarse_tokens_read / SEMANTIC_RATE_HZ:.2f} s)",
            f"  fine stage reads the last {self.num_fine_frames_read} frames "
            f"({self.num_fine_frames_read / CODEC_RATE_HZ:.2f} s)",
        ]
        if self.sound is not None:
            end = "a pause" if self.sound.ends_at_pause else "a sound"
            lines.append(
                f"  recording: level {self.sound.level_db:.0f} dB, silence {self.sound.silence_share:.0%}, "
                f"clipped {self.sound.clipped_share:.2%}, ends at {end}"
            )
        lines += [f"  ! {warning}" for warning in self.warnings] or ["  nothing to improve"]
        return "\n".join(lines)


def prompt_report(
    prompt: VoicePrompt,
    waveform: np.ndarray | None = None,
    sampling_rate: int | None = None,
    *,
    histories: HistoryLengths = SUNO_HISTORIES,
) -> PromptReport:
    """Report how much of a prompt Bark uses, and how the prompt could be better.

    ```python
    import hf_bark_semantic

    print(hf_bark_semantic.prompt_report(hf_bark_semantic.VoicePrompt.load("voice.npz")))
    ```

    Args:
        prompt (`VoicePrompt`): the voice.
        waveform (`np.ndarray` of shape `(num_samples,)`, *optional*): the recording that the prompt was made from;
            the last 6.83 s, which the fine stage uses, are measured.
        sampling_rate (`int`, *optional*): its rate in Hz; required with a waveform.
        histories (`HistoryLengths`): how much the Bark uses; the default is for Suno's, and
            `bark_generation_configs(bark).history_lengths` any other's.

    Returns:
        `PromptReport`: how many tokens and frames each stage uses, and warnings; `print` shows it.

    Raises:
        VoicePromptError: a waveform without a rate, or not of shape `(num_samples,)`.
    """
    sound = None
    warnings = _length_warnings(prompt.num_tokens, histories)
    if waveform is not None:
        waveform = _check_mono(waveform, sampling_rate)
        assert sampling_rate is not None  # _check_mono has refused a waveform without one
        duration_s = len(waveform) / sampling_rate
        difference = abs(duration_s - prompt.duration_s)
        if difference > LENGTH_TOLERANCE * prompt.duration_s + LENGTH_TOLERANCE_FRAMES / CODEC_RATE_HZ:
            warnings.append(
                f"The waveform lasts {duration_s:.2f} s and the prompt {prompt.duration_s:.2f} s, so what "
                "follows may describe another recording."
            )
        num_samples_read = round(histories.fine_frames / CODEC_RATE_HZ * sampling_rate)
        sound = measure_sound(waveform[-num_samples_read:], sampling_rate)
        warnings += sound.warnings()
    num_coarse_tokens, starts_on_right_codebook = _coarse_history(prompt.num_tokens, histories)
    return PromptReport(
        num_tokens=prompt.num_tokens,
        num_frames=prompt.num_frames,
        num_semantic_tokens_read=min(prompt.num_tokens, histories.semantic_tokens),
        num_coarse_tokens_read=num_coarse_tokens,
        num_fine_frames_read=min(prompt.num_frames, histories.fine_frames),
        starts_on_right_codebook=starts_on_right_codebook,
        sound=sound,
        warnings=tuple(warnings),
    )


@dataclass(frozen=True)
class PromptWindow:
    """A part of a recording: its bounds in seconds, its score (higher is better), and the parts of the score."""

    start_s: float
    end_s: float
    score: float
    speech_share: float
    clipped_share: float
    ends_at_pause: bool

    def cut(self, waveform: np.ndarray | LongRecording, sampling_rate: int) -> np.ndarray:
        """Give the window's samples, `(num_samples,)`, of the recording it was found in (at any rate)."""
        return waveform[round(self.start_s * sampling_rate) : round(self.end_s * sampling_rate)]


def best_windows(
    waveform: np.ndarray | LongRecording,
    sampling_rate: int,
    *,
    count: int,
    min_s: float = SUNO_HISTORIES.window_s[0],
    max_s: float = SUNO_HISTORIES.window_s[1],
) -> list[PromptWindow]:
    """Find the parts of a recording that make the best voice prompts.

    Every window on a grid of 20 ms (ends) and 100 ms (lengths) is scored: the share of speech in it, plus 0.25 if it
    ends at a pause, 0.1 if it starts after one, up to 0.05 for length and 0.01 per dB of loudness above the mean of
    the recording, minus 50 times the share of clipped samples. The best score wins, the earliest among equals; the
    next ones end at least half of `min_s` before or after those that were found.

    Args:
        waveform (`np.ndarray` of shape `(num_samples,)`, or `LongRecording`): the recording.
        sampling_rate (`int`): its rate in Hz.
        count (`int`): windows to return at most.
        min_s (`float`): shortest window; 5.13 s fill the histories of the semantic and the coarse stage.
        max_s (`float`): longest window; 6.83 s are all that the fine stage reads.

    Returns:
        `list[PromptWindow]`: best first; the whole recording alone where it is not longer than `min_s`.

    Raises:
        VoicePromptError: not a waveform of shape `(num_samples,)`, or bounds out of order.
    """
    if not isinstance(waveform, LongRecording):
        waveform = _check_mono(waveform, sampling_rate)
    if not 0 < min_s <= max_s:
        raise VoicePromptError(f"min_s={min_s} and max_s={max_s} must be in order and above 0.")
    levels, clipped = _frame_measures(waveform, sampling_rate)
    silent = _silent_frames(levels)
    pause_ends = _pause_ends(silent)
    frame_s = _frame_length(sampling_rate) / sampling_rate
    shortest, longest = max(1, round(min_s / frame_s)), round(max_s / frame_s)
    if len(levels) <= shortest:
        shortest = longest = len(levels)
    longest = min(longest, len(levels))

    audible = np.maximum(levels, levels.max() - 60)  # limits the effect of digital silence
    speech_sum, clipped_sum, level_sum = (
        np.concatenate([[0.0], np.cumsum(values)]) for values in (~silent, clipped, audible)
    )
    best = np.full(len(levels) + 1, -np.inf)  # score by end, exclusive
    best_length = np.zeros(len(best), int)
    for length in np.unique(np.append(np.arange(shortest, longest, 5), longest)):
        ends = np.arange(length, len(levels) + 1)
        starts = ends - length
        loudness = (level_sum[ends] - level_sum[starts]) / length - level_sum[-1] / len(levels)
        scores = (speech_sum[ends] - speech_sum[starts]) / length
        scores += 0.25 * pause_ends[ends] + 0.1 * pause_ends[starts] + 0.01 * loudness
        scores += 0.05 * length / longest - 50 * (clipped_sum[ends] - clipped_sum[starts]) / length
        better = ends[scores > best[ends]]
        best[better], best_length[better] = scores[better - length], length
    windows: list[PromptWindow] = []
    while len(windows) < count and np.isfinite(best).any():
        end, length = int(np.argmax(best)), int(best_length[np.argmax(best)])
        start = end - length
        windows.append(
            PromptWindow(
                start_s=start * frame_s,
                end_s=len(waveform) / sampling_rate if shortest == len(levels) else end * frame_s,
                score=float(best[end]),
                speech_share=float(speech_sum[end] - speech_sum[start]) / length,
                clipped_share=float(clipped_sum[end] - clipped_sum[start]) / length,
                ends_at_pause=bool(pause_ends[end]),
            )
        )
        best[max(0, end - shortest // 2) : end + shortest // 2 + 1] = -np.inf
    return windows


def best_window(waveform: np.ndarray | LongRecording, sampling_rate: int, **kwargs) -> PromptWindow:
    """Find the part of a recording that makes the best voice prompt: the first of [`best_windows`]."""
    return best_windows(waveform, sampling_rate, count=1, **kwargs)[0]


def measure_sound(waveform: np.ndarray, sampling_rate: int) -> Sound:
    """Measure level, silence, clipping and the end of a waveform of shape `(num_samples,)`."""
    levels, clipped = _frame_measures(waveform, sampling_rate)
    silent = _silent_frames(levels)
    return Sound(
        level_db=float(np.percentile(levels, 95)),
        silence_share=float(silent.mean()),
        clipped_share=float(clipped.mean()),
        ends_at_pause=bool(_pause_ends(silent)[-1]),
    )


def _frame_measures(waveform: np.ndarray | LongRecording, sampling_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Level in dB and share of clipped samples of every frame of 20 ms; the incomplete last one is left out."""
    if isinstance(waveform, LongRecording):
        length = _frame_length(sampling_rate) * FRAMES_AT_ONCE
        bounds = [(start, start + length) for start in range(0, len(waveform), length)]
        measures = [_frame_measures(part, sampling_rate) for part in waveform.parts(bounds)]
        levels, clipped = (np.concatenate(values) for values in zip(*measures, strict=True))
        return levels, clipped
    frame_length = _frame_length(sampling_rate)
    num_frames = len(waveform) // frame_length
    frames = waveform[: num_frames * frame_length].reshape(num_frames, frame_length)
    levels = 10 * np.log10(np.mean(np.square(frames), axis=1) + 1e-10)  # (num_frames,), at least -100
    return levels, np.mean(np.abs(frames) >= CLIPPED_LEVEL, axis=1)


def _frame_length(sampling_rate: int) -> int:
    return round(FRAME_S * sampling_rate)


def _silent_frames(levels: np.ndarray) -> np.ndarray:
    """Frames closer in level to noise than to speech; the threshold is 15 to 40 dB below the speech."""
    noise, speech = np.percentile(levels, [10, 95])
    return levels < np.clip(noise + 0.3 * (speech - noise), speech - 40, speech - 15)


def _pause_ends(silent: np.ndarray) -> np.ndarray:
    """For each bound between frames, `(num_frames + 1,)`: whether the `PAUSE_FRAMES` before it are silent."""
    count = np.concatenate([[0], np.cumsum(silent)])
    result = np.zeros(len(count), bool)
    result[PAUSE_FRAMES:] = count[PAUSE_FRAMES:] - count[:-PAUSE_FRAMES] == PAUSE_FRAMES
    return result


def _coarse_history(num_tokens: int, histories: HistoryLengths) -> tuple[int, bool]:
    """The number of prompt tokens that the coarse stage reads, and whether its ids start with the first codebook."""
    num_ids = NUM_COARSE_CODEBOOKS * num_codec_frames(num_tokens)
    num_tokens_read, num_ids_read = coarse_history_lengths(num_tokens, num_ids, histories)
    return num_tokens_read, num_ids_read % NUM_COARSE_CODEBOOKS == 0


def _length_warnings(num_tokens: int, histories: HistoryLengths) -> list[str]:
    warnings = []
    # the smallest number that fills the coarse history; it starts on the right codebook
    best, most = histories.coarse_tokens + 1, histories.most_tokens
    if num_tokens < best:
        warnings.append(
            f"{num_tokens} tokens ({num_tokens / SEMANTIC_RATE_HZ:.2f} s) do not fill Bark's histories; "
            f"{best} ({best / SEMANTIC_RATE_HZ:.2f} s) or more represent the voice better. Use a "
            "longer recording, or join several (join_prompts)."
        )
        if not _coarse_history(num_tokens, histories)[1]:
            better = next(n for n in range(num_tokens - 1, 0, -1) if _coarse_history(n, histories)[1])
            warnings.append(
                f"With {num_tokens} tokens Bark's coarse history starts on the wrong codebook. prompt.tail({better}) "
                "avoids it."
            )
    elif num_tokens > most:
        warnings.append(
            f"Only the last {most} tokens ({most / SEMANTIC_RATE_HZ:.2f} s) are used; the "
            f"{(num_tokens - most) / SEMANTIC_RATE_HZ:.2f} s before them have no effect."
        )
    return warnings


def _check_mono(waveform: Any, sampling_rate: int | None) -> np.ndarray:
    waveform = np.asarray(waveform)
    if not sampling_rate or sampling_rate < 1_000:
        raise VoicePromptError(f"A waveform needs its sampling_rate in Hz, e.g. 24_000, not {sampling_rate!r}.")
    if waveform.ndim != 1 or waveform.dtype.kind != "f" or len(waveform) < PAUSE_FRAMES * FRAME_S * sampling_rate:
        raise VoicePromptError(
            f"A waveform has shape (num_samples,), float samples and at least {PAUSE_FRAMES * FRAME_S:.2f} s, not "
            f"{waveform.shape} of {waveform.dtype}. load_audio makes one of any recording."
        )
    return waveform


__all__ = ["PromptReport", "PromptWindow", "Sound", "best_window", "best_windows", "measure_sound", "prompt_report"]
