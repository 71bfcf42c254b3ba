"""Distance of a processed recording from the original: mel cepstra, F0, energy, PESQ and STOI."""

import evaluate
import numpy as np

from hf_bark_semantic.evaluation.metric_scripts import WAVEFORM, metric_info
from hf_bark_semantic.evaluation.speech import (
    energy_correlation,
    mel_cepstral_distortion,
    pesq,
    pitch_comparison,
    stoi,
)

INPUTS = """
Args:
    predictions: waveforms, (num_samples,).
    references: the originals.
    sampling_rate (`int`): sampling rate of all waveforms.
    aligned (`bool`): both have the same tempo, as after a codec; otherwise they are warped, without pesq and stoi.
Returns:
    Means over the clips: mel_cepstral_distortion (dB), pitch_correlation (over clips with a pitch, None without such
    clips), energy_correlation, pesq, stoi.
"""


class SpeechDistance(evaluate.Metric):
    def _info(self):
        return metric_info(__doc__, INPUTS, predictions=WAVEFORM, references=WAVEFORM)

    def _compute(self, predictions, references, sampling_rate=24_000, aligned=True):
        pairs = [
            (np.array(r, np.float32), np.array(p, np.float32)) for p, r in zip(predictions, references, strict=True)
        ]
        functions = {"mel_cepstral_distortion": mel_cepstral_distortion, "energy_correlation": energy_correlation}
        rows = [{name: f(*pair, sampling_rate, aligned=aligned) for name, f in functions.items()} for pair in pairs]
        for row, pair in zip(rows, pairs, strict=True):
            row["pitch_correlation"] = pitch_comparison(*pair, sampling_rate, aligned=aligned).correlation
            if aligned:
                row |= {"pesq": pesq(*pair, sampling_rate), "stoi": stoi(*pair, sampling_rate)}
        values = {name: [row[name] for row in rows if row[name] is not None] for name in rows[0]}
        return {name: float(np.mean(part)) if part else None for name, part in values.items()}
