"""Scores of the waveform of a trial: words, voice and quality.

Scorers         transcriber, speaker embedders, MOS predictor
Enrolment       embeddings of the voices to compare with
score_trial     score a waveform
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..audio import MIN_DURATION_S, SILENCE_PEAK, resample
from ..configuration_bark_semantic import CODEC_SAMPLING_RATE, SAMPLING_RATE
from .judges import (
    MosPredictor,
    SpeakerEmbedder,
    Transcriber,
    load_mos_predictor,
    load_speaker_embedder,
    load_transcriber,
)
from .sequences import letter_errors, normalize_text, repetition_share, word_errors
from .speech import (
    energy_correlation,
    identify,
    mel_cepstral_distortion,
    pesq,
    pitch_comparison,
    silence,
    stoi,
)
from .voice_casting import CastVoice
from .voice_clips import joined_waveform
from .voice_trials import Trial


@dataclass(frozen=True)
class Scorers:
    """The models that score a trial; scores of missing models are left out.

    Args:
        transcribe (`Transcriber`, *optional*), embedders (`dict[str, SpeakerEmbedder]`), mos (`MosPredictor`,
            *optional*): see judges.py.
    """

    transcribe: Transcriber | None = None
    embedders: Mapping[str, SpeakerEmbedder] = field(default_factory=dict)
    mos: MosPredictor | None = None

    @classmethod
    def load(cls, transcriber: str, speaker_models: Sequence[str], mos: str, *, device: str = "cpu") -> "Scorers":
        """Load models by their names in judges.py; `"none"` for no transcriber or no predictor."""
        return cls(
            transcribe=None if transcriber == "none" else load_transcriber(transcriber, device=device),
            embedders={name: load_speaker_embedder(name, device=device) for name in speaker_models},
            mos=None if mos == "none" else load_mos_predictor(mos, device=device),
        )


class Enrolment:
    """Embeddings of the voices, each computed when it is first needed.

    Args:
        voices (sequence of `CastVoice`), embedders (`dict[str, SpeakerEmbedder]`): the voices, and the models.
    """

    def __init__(self, voices: Sequence[CastVoice], embedders: Mapping[str, SpeakerEmbedder]):
        self.voices, self.embedders = {voice.name: voice for voice in voices}, embedders
        self._known: dict[tuple[str, str], np.ndarray] = {}

    def __call__(self, model: str, voice: str) -> np.ndarray:
        """The embedding `(size,)` of a voice by a model."""
        if (model, voice) not in self._known:
            waveform = joined_waveform(self.voices[voice].enrolment, SAMPLING_RATE)
            self._known[model, voice] = self.embedders[model](waveform)
        return self._known[model, voice]


def score_trial(
    trial: Trial,
    waveform: np.ndarray,
    scorers: Scorers,
    enrolment: Callable[[str, str], np.ndarray],
    *,
    original: np.ndarray | None = None,
) -> dict[str, Any]:
    """Score a waveform.

    A waveform without audible sound is a failure: all of its words are missing, and the voice is not identified.
    Similarity and opinion score need speech and are left out, so interpret them with the number of failures.

    Args:
        trial (`Trial`): the trial, with its text and voice.
        waveform (`np.ndarray` of shape `(num_samples,)`): 24 kHz.
        scorers (`Scorers`), enrolment ([`Enrolment`]): the models, and the voices to compare with.
        original (`np.ndarray` of shape `(num_samples,)`, *optional*): the recording that was processed, 24 kHz.

    Returns:
        `dict`: flat, JSON-serializable; `rank/<model>` and similar keys for every embedder.
    """
    failed = len(waveform) < MIN_DURATION_S * CODEC_SAMPLING_RATE or np.abs(waveform).max() < SILENCE_PEAK
    at_16_khz = resample(waveform, CODEC_SAMPLING_RATE, SAMPLING_RATE) if not failed else None
    scores = {"seconds": round(len(waveform) / CODEC_SAMPLING_RATE, 3), "failed": bool(failed)}
    if scorers.transcribe is not None:
        transcript = "" if failed else scorers.transcribe(at_16_khz)
        words, letters = word_errors(trial.clip.text, transcript), letter_errors(trial.clip.text, transcript)
        scores |= {"transcript": transcript, "word_errors": words.errors, "num_words": words.num_reference}
        scores |= {"letter_errors": letters.errors, "num_letters": letters.num_reference}
        scores["repetition"] = repetition_share(normalize_text(transcript).split())
    for model, embed in scorers.embedders.items() if trial.distractors else ():
        if failed:
            scores[f"rank/{model}"] = 1 + len(trial.distractors)
            continue
        others = [enrolment(model, name) for name in trial.distractors]
        result = identify(embed(at_16_khz), enrolment(model, trial.voice), others)
        scores |= {f"{key}/{model}": value for key, value in asdict(result).items()}
    if failed:
        return scores
    if scorers.mos is not None:
        scores["mos"] = scorers.mos(at_16_khz)
    pauses = silence(waveform, CODEC_SAMPLING_RATE)
    scores |= {"silence": pauses.share, "longest_pause_s": pauses.longest_s}
    return scores | ({} if original is None else _codec_scores(original, waveform))


def _codec_scores(original: np.ndarray, waveform: np.ndarray) -> dict[str, Any]:
    pair = original, waveform, CODEC_SAMPLING_RATE
    scores = {"mcd": mel_cepstral_distortion(*pair, aligned=True), "energy_correlation": energy_correlation(*pair)}
    pitch = pitch_comparison(*pair)
    scores |= {"pitch_correlation": pitch.correlation, "pitch_distance": pitch.distance_semitones}
    scores["stoi"] = stoi(*pair)
    try:
        scores["pesq"] = pesq(*pair)
    except ValueError:  # PESQ found no speech
        scores["pesq"] = None
    return scores


__all__ = [
    "Enrolment",
    "Scorers",
    "score_trial",
]
