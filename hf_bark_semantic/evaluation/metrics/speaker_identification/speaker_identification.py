"""N-way speaker identification: how often the right voice is the most similar of several."""

import evaluate
import numpy as np
from datasets import Sequence

from hf_bark_semantic.evaluation.metric_scripts import EMBEDDING, metric_info
from hf_bark_semantic.evaluation.significance import ratio_estimate
from hf_bark_semantic.evaluation.speech import identify

INPUTS = """
Args:
    predictions: speaker embeddings of speech, (size,).
    references: embeddings of the candidates for each, (num_candidates, size), the right voice first.
    groups (list of `str`, optional): the voice of each clip, for intervals over voices.
Returns:
    identified, identified_low, identified_high (95 % interval), mean_rank, and the mean cosine similarities
    similarity and best_distractor.
"""


class SpeakerIdentification(evaluate.Metric):
    def _info(self):
        return metric_info(__doc__, INPUTS, predictions=EMBEDDING, references=Sequence(EMBEDDING))

    def _compute(self, predictions, references, groups=None):
        pairs = zip(predictions, references, strict=True)
        results = [identify(np.array(p), np.array(r[0]), [np.array(other) for other in r[1:]]) for p, r in pairs]
        names = {"mean_rank": "rank", "similarity": "similarity", "best_distractor": "best_distractor"}
        means = {name: float(np.mean([getattr(result, key) for result in results])) for name, key in names.items()}
        return ratio_estimate([result.correct for result in results], groups=groups).named("identified") | means
