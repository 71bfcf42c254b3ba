"""Measures of single utterances by judge models, for the filters of a corpus.

WordErrorRate      word error rate of a recognizer's transcript
SpeakerSimilarity  similarity to the voice of the prompt
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

UNSPACED_LANGUAGES = ("ja", "zh")  # letter error rate instead of word error rate

Decoder = Callable[[np.ndarray], np.ndarray]

_SPEAKER_TAG = re.compile(r"\b(?:WO)?MAN:")  # suno-ai/bark, README: a tag that is not spoken


class WordErrorRate:
    """Word error rate of a recognizer's transcript against the text; in Japanese and Chinese, of letters.

    Args:
        transcribe: from [`load_transcriber`].
        description (`str`): the recognizer's name, for corpus.json.
        languages (`Collection[str]`, *optional*): the recognizer's languages; the result for others is `None`.
    """

    def __init__(self, transcribe: Transcriber, description: str, languages: Collection[str] | None = None):
        self.transcribe, self.description, self.languages = transcribe, description, languages

    def __call__(self, result: SynthesisResult, language: str | None) -> float | None:
        text = normalize_text(_SPEAKER_TAG.sub(" ", result.request.text))
        known = self.languages is None or language is None or language in self.languages
        if not known or not text:
            return None
        transcript = normalize_text(self.transcribe(resample(result.waveform, result.sampling_rate, SAMPLING_RATE)))
        if language in UNSPACED_LANGUAGES:
            return error_counts(text.replace(" ", ""), transcript.replace(" ", "")).rate
        return error_counts(text.split(), transcript.split()).rate


class SpeakerSimilarity:
    """Cosine similarity of the speaker embeddings of an utterance and its voice prompt.

    Args:
        embed: from [`load_speaker_embedder`].
        codes_to_waveform: decodes a prompt's audio codes `(8, num_frames)` to a waveform at the utterances' rate.
        description (`str`): the embedder's name, for corpus.json.
    """

    def __init__(self, embed: SpeakerEmbedder, codes_to_waveform: Decoder, description: str):
        self.embed, self.codes_to_waveform, self.description, self.prompts = embed, codes_to_waveform, description, {}

    def __call__(self, result: SynthesisResult, language: str | None) -> float | None:
        prompt = result.request.voice_prompt
        if prompt is None:
            return None
        if id(prompt) not in self.prompts:  # stored with the prompt, so that its id is not reused
            waveform = self.codes_to_waveform(prompt.audio_codes)
            self.prompts[id(prompt)] = prompt, self.embed(resample(waveform, result.sampling_rate, SAMPLING_RATE))
        waveform = resample(result.waveform, result.sampling_rate, SAMPLING_RATE)
        return cosine_similarity(self.embed(waveform), self.prompts[id(prompt)][1])


__all__ = ["SpeakerSimilarity", "WordErrorRate"]
