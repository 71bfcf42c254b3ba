"""Word and letter error rates of transcripts, after normalization of digits, case and spelling."""

import evaluate
import numpy as np

from hf_bark_semantic.evaluation.metric_scripts import TEXT, metric_info
from hf_bark_semantic.evaluation.sequences import letter_errors, normalize_text, repetition_share, word_errors
from hf_bark_semantic.evaluation.significance import ratio_estimate

INPUTS = """
Args:
    predictions: transcripts of the speech.
    references: the texts to speak.
    groups (list of `str`, optional): the voice of each clip, for intervals over voices.
Returns:
    wer, cer and their 95 % intervals (wer_low, wer_high, ...), num_words, repetition_share (of runs of four words).
"""


class SpeechWordErrors(evaluate.Metric):
    def _info(self):
        return metric_info(__doc__, INPUTS, predictions=TEXT, references=TEXT)

    def _compute(self, predictions, references, groups=None):
        pairs = list(zip(references, predictions, strict=True))
        result = {}
        for name, counts in (("wer", [word_errors(*p) for p in pairs]), ("cer", [letter_errors(*p) for p in pairs])):
            errors, lengths = [count.errors for count in counts], [count.num_reference for count in counts]
            result |= ratio_estimate(errors, lengths, groups=groups).named(name)
        result["num_words"] = sum(len(normalize_text(text).split()) for text in references)
        shares = [repetition_share(normalize_text(text).split()) for text in predictions]
        return {**result, "repetition_share": float(np.mean(shares))}
