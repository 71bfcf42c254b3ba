"""Statistics of semantic tokens, without true tokens: use of the vocabulary, runs and repetition."""

import evaluate
import numpy as np

from hf_bark_semantic.evaluation.metric_scripts import TOKENS, metric_info
from hf_bark_semantic.evaluation.sequences import codebook_usage, repetition_share, run_lengths

INPUTS = """
Args:
    predictions: tokens of every clip, (num_tokens,).
    vocab_size (`int`): by default 10,000.
    n (`int`): length of the n-grams of repetition_share; by default 8.
Returns:
    used_tokens, used_share, entropy_bits (9.99 for Bark's own), mean_run_length (1.40 for Bark's own),
    longest_run, repetition_share (mean of the clips).
"""


class TokenStatistics(evaluate.Metric):
    def _info(self):
        return metric_info(__doc__, INPUTS, predictions=TOKENS)

    def _compute(self, predictions, vocab_size=10_000, n=8):
        usage = codebook_usage(np.concatenate([np.array(tokens) for tokens in predictions]), vocab_size)
        runs = np.concatenate([run_lengths(np.array(tokens)) for tokens in predictions])
        repeated = [repetition_share(np.array(tokens), n) for tokens in predictions]
        return {
            "used_tokens": usage.used,
            "used_share": usage.share,
            "entropy_bits": usage.entropy_bits,
            "mean_run_length": float(runs.mean()),
            "longest_run": int(runs.max()),
            "repetition_share": float(np.mean(repeated)),
        }
