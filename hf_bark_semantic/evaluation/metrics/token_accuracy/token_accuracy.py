"""Top-k accuracy of semantic tokens, with intervals over voices."""

import evaluate
import numpy as np
from datasets import Sequence

from hf_bark_semantic.evaluation.metric_scripts import TOKENS, metric_info
from hf_bark_semantic.evaluation.significance import ratio_estimate
from hf_bark_semantic.evaluation.tokens import top_k_accuracy

INPUTS = """
Args:
    predictions: predicted tokens of every clip, (num_tokens, num_guesses), best first.
    references: true tokens of every clip, (num_tokens,).
    top_k (list of `int`): by default [1].
    groups (list of `str`, optional): the voice of each clip, for intervals over voices.
Returns:
    top_1, top_1_low, top_1_high (95 % interval), and so on for every k; num_tokens.
"""


class TokenAccuracy(evaluate.Metric):
    def _info(self):
        return metric_info(__doc__, INPUTS, predictions=Sequence(TOKENS), references=TOKENS)

    def _compute(self, predictions, references, top_k=(1,), groups=None):
        lengths = [len(tokens) for tokens in references]
        result = {"num_tokens": sum(lengths)}
        for k in top_k:
            shares = [
                top_k_accuracy(np.array(p), np.array(r), k) for p, r in zip(predictions, references, strict=True)
            ]
            hits = np.multiply(shares, lengths)
            result |= ratio_estimate(hits, lengths, groups=groups).named(f"top_{k}")
        return result
