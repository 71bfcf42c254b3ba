"""Negative log-likelihood per semantic token under Bark's semantic model, given the text, in nats."""

import evaluate
import numpy as np

from hf_bark_semantic.bark.examples import Utterance
from hf_bark_semantic.bark.loading import load_bark
from hf_bark_semantic.bark.prompting import text_to_ids
from hf_bark_semantic.evaluation.metric_scripts import TEXT, TOKENS, metric_info
from hf_bark_semantic.evaluation.significance import ratio_estimate
from hf_bark_semantic.evaluation.tokens import semantic_likelihood

INPUTS = """
Args:
    predictions: the semantic tokens of every clip, (num_tokens,).
    references: the text of every clip.
    bark: a `BarkModel` in evaluation mode, or "nano", a folder or a Hub id.
    tokenizer: Bark's tokenizer; needed if a model is passed.
    groups (list of `str`, optional): the voice of each clip, for intervals over voices.
Returns:
    nll, nll_low, nll_high (95 % interval), accuracy (share of tokens that are Bark's top-1 prediction), num_targets.
"""


class SemanticNll(evaluate.Metric):
    def _info(self):
        return metric_info(__doc__, INPUTS, predictions=TOKENS, references=TEXT)

    def _compute(self, predictions, references, bark="nano", tokenizer=None, groups=None):
        if not hasattr(bark, "semantic"):
            bark, processor = load_bark(bark)
            tokenizer = tokenizer or processor.tokenizer
        if tokenizer is None:
            raise ValueError("A BarkModel was passed without a `tokenizer`. Pass its processor's.")
        clips = [
            Utterance(text_to_ids(text, tokenizer), np.array(p))
            for text, p in zip(references, predictions, strict=True)
        ]
        scores = semantic_likelihood(bark, clips)
        lengths = [score.num_targets for score in scores]
        estimate = ratio_estimate([score.nll * score.num_targets for score in scores], lengths, groups=groups)
        correct = sum(score.num_correct for score in scores)
        return estimate.named("nll") | {"accuracy": correct / sum(lengths), "num_targets": sum(lengths)}
