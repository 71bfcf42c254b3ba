"""Judges of single utterances of Bark, for the filters of a corpus.

WordErrorRate      what a recognizer hears against what was to be said
SpeakerSimilarity  the voice against its prompt's
"""

import re
from collections.abc import Callable, Collection

import numpy as np

from ..audio import resample
from ..bark.request import SynthesisResult
from ..configuration_bark_semantic import SAMPLING_RATE
from .judges import SpeakerEmbedder, Transcriber
from .sequences import error_counts, normalize_text
from .speech import cosine_similarity

UNSPACED_LANGUAGES = ("ja", "zh")  # measured by letters, not words

_SPEAKER_TAG = re.compile(r"\b(?:WO)?MAN:")  # suno-ai/bark, README: not to be said


class WordErrorRate:
    """Judge of what is said: what a recognizer hears against the text; by letters in Japanese and Chinese.

    Args:
        transcribe: of [`load_transcriber`].
        description (`str`): what transcribes, for the record.
        languages (`Collection[str]`, *optional*): those that it knows; utterances in others are not judged.
    """

    def __init__(self, transcribe: Transcriber, description: str, languages: Collection[str] | None = None):
        self.transcribe, self.description, self.languages = transcribe, description, languages

    def __call__(self, result: SynthesisResult, language: str | None) -> float | None:
        said = normalize_text(_SPEAKER_TAG.sub(" ", result.request.text))
        known = self.languages is None or language is None or language in self.languages
        if not known or not said:
            return None
        heard = normalize_text(self.transcribe(resample(result.waveform, result.sampling_rate, SAMPLING_RATE)))
        if language in UNSPACED_LANGUAGES:
            return error_counts(said.replace(" ", ""), heard.replace(" ", "")).rate
        return error_counts(said.split(), heard.split()).rate


class SpeakerSimilarity:
    """Judge of who speaks: cosine of the embeddings of the utterance and of its prompt.

    Args:
        embed: of [`load_speaker_embedder`].
        speak_codes: audio codes of a prompt, `(8, num_frames)`, to a waveform at the utterances' rate.
        description (`str`): what embeds, for the record.
    """

    def __init__(self, embed: SpeakerEmbedder, speak_codes: Callable[[np.ndarray], np.ndarray], description: str):
        self.embed, self.speak_codes, self.description, self.prompts = embed, speak_codes, description, {}

    def __call__(self, result: SynthesisResult, language: str | None) -> float | None:
        prompt = result.request.voice_prompt
        if prompt is None:
            return None
        if id(prompt) not in self.prompts:  # with the prompt itself, so that its id stays its own
            waveform = self.speak_codes(prompt.audio_codes)
            self.prompts[id(prompt)] = prompt, self.embed(resample(waveform, result.sampling_rate, SAMPLING_RATE))
        waveform = resample(result.waveform, result.sampling_rate, SAMPLING_RATE)
        return cosine_similarity(self.embed(waveform), self.prompts[id(prompt)][1])


__all__ = ["SpeakerSimilarity", "WordErrorRate"]
