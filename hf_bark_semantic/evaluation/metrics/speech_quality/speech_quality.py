"""Quality of speech without a reference: predicted mean opinion score, pauses, drift of the voice."""

import evaluate
import numpy as np

from hf_bark_semantic.audio import resample
from hf_bark_semantic.evaluation.judges import load_mos_predictor, load_speaker_embedder
from hf_bark_semantic.evaluation.metric_scripts import WAVEFORM, metric_info
from hf_bark_semantic.evaluation.significance import ratio_estimate
from hf_bark_semantic.evaluation.speech import drift, silence

INPUTS = """
Args:
    predictions: waveforms, (num_samples,).
    sampling_rate (`int`): sampling rate of all waveforms.
    mos: "distillmos", a callable of a 16 kHz waveform, or None.
    drift_model: None, or as `model` of speaker_similarity: measures the drift of the voice in recordings of 10 s or
        more.
    groups (list of `str`, optional): the voice of each clip, for intervals over voices.
Returns:
    mos, mos_low, mos_high (95 % interval), silence_share, longest_pause_s (means), drift_per_minute (mean slope of the
    similarity to the beginning).
"""


class SpeechQuality(evaluate.Metric):
    def _info(self):
        return metric_info(__doc__, INPUTS, predictions=WAVEFORM)

    def _compute(self, predictions, sampling_rate=24_000, mos="distillmos", drift_model=None, groups=None):
        waveforms = [np.array(waveform, np.float32) for waveform in predictions]
        pauses = [silence(waveform, sampling_rate) for waveform in waveforms]
        result = {"silence_share": float(np.mean([pause.share for pause in pauses]))}
        result["longest_pause_s"] = float(np.mean([pause.longest_s for pause in pauses]))
        if mos is not None:
            predict = mos if callable(mos) else load_mos_predictor(mos)
            scores = [predict(resample(waveform, sampling_rate, 16_000)) for waveform in waveforms]
            result |= ratio_estimate(scores, groups=groups).named("mos")
        if drift_model is not None:
            embed = drift_model if callable(drift_model) else load_speaker_embedder(drift_model)
            slopes = [drift(waveform, sampling_rate, embed).slope_per_minute for waveform in waveforms]
            result["drift_per_minute"] = float(np.mean(slopes))
        return result
