"""Edits between token sequences of any lengths, per true token."""

import evaluate

from hf_bark_semantic.evaluation.metric_scripts import TOKENS, metric_info
from hf_bark_semantic.evaluation.sequences import error_counts
from hf_bark_semantic.evaluation.significance import ratio_estimate

INPUTS = """
Args:
    predictions: predicted tokens of every clip, (num_tokens,).
    references: true tokens of every clip, of any length.
    groups (list of `str`, optional): the voice of each clip, for intervals over voices.
Returns:
    unit_error_rate, unit_error_rate_low, unit_error_rate_high (95 % interval), substitutions, deletions, insertions,
    num_reference.
"""


class UnitErrorRate(evaluate.Metric):
    def _info(self):
        return metric_info(__doc__, INPUTS, predictions=TOKENS, references=TOKENS)

    def _compute(self, predictions, references, groups=None):
        counts = [error_counts(reference, p) for p, reference in zip(predictions, references, strict=True)]
        names = ("substitutions", "deletions", "insertions", "num_reference")
        totals = {name: sum(getattr(count, name) for count in counts) for name in names}
        errors, lengths = [count.errors for count in counts], [count.num_reference for count in counts]
        return ratio_estimate(errors, lengths, groups=groups).named("unit_error_rate") | totals
