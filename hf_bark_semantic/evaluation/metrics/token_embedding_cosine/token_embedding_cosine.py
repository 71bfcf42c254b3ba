"""Cosine similarity of predicted and true tokens in Bark's input embeddings."""

import evaluate
import numpy as np

from hf_bark_semantic.evaluation.metric_scripts import TOKENS, metric_info
from hf_bark_semantic.evaluation.significance import ratio_estimate
from hf_bark_semantic.evaluation.tokens import embedding_cosine

INPUTS = """
Args:
    predictions: predicted tokens of every clip, (num_tokens,).
    references: true tokens of every clip, (num_tokens,).
    embeddings (array of shape (vocab_size, hidden_size)): `bark.semantic.input_embeds_layer.weight`.
    groups (list of `str`, optional): the voice of each clip, for intervals over voices.
Returns:
    cosine, cosine_low, cosine_high (95 % interval).
"""


class TokenEmbeddingCosine(evaluate.Metric):
    def _info(self):
        return metric_info(__doc__, INPUTS, predictions=TOKENS, references=TOKENS)

    def _compute(self, predictions, references, embeddings, groups=None):
        lengths = [len(tokens) for tokens in references]
        pairs = zip(predictions, references, strict=True)
        cosines = [embedding_cosine(np.array(p), np.array(r), np.asarray(embeddings)) for p, r in pairs]
        return ratio_estimate(np.multiply(cosines, lengths), lengths, groups=groups).named("cosine")
