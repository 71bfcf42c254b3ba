"""Quality of an encoder's tokens: against the true tokens, by Bark's likelihood, and without true tokens.

    score_clips, summarize      accuracy of an encoder on clips with known tokens
    top_k_accuracy              accuracy of arrays
    embedding_cosine            similarity of predicted and true tokens in Bark's embeddings
    semantic_likelihood         likelihood of tokens under Bark's semantic model, given the text
    unigram_distance, agreement, front_end_agreement    measures without true tokens

Accuracy is free-running: each clip is encoded as in use, and every token of the clip counts. Intervals come from a
bootstrap over groups (voices), because tokens of one clip depend on each other. Sequences of different lengths are
compared in sequences.py, speech in speech.py and judges.py.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from ..bark.configs import bark_generation_configs
from ..bark.examples import Utterance, semantic_example
from ..bark.examples import collate as collate_examples
from ..bark.losses import SemanticLoss
from ..corpus.rows import Clip
from ..trainers.encoder_batches import collate
from .calibration import ClipStatistics, clip_statistics

TOP_K = 5
INPUTS = {
    "audio": ("input_values", "attention_mask"),
    "codes": ("audio_codes", "audio_codes_mask"),
    "audio+codes": ("input_values", "attention_mask", "audio_codes", "audio_codes_mask"),
}


@dataclass(frozen=True)
class ClipScore:
    """Hits of one clip for one kind of input, and statistics of its confidence (`calibration.py`).

    `top_5` is `None` if only the top-1 prediction is known.
    """

    id: str
    group: str
    kind: str
    inputs: str
    num_tokens: int
    top_1: int
    top_5: int | None
    statistics: ClipStatistics | None = None

    def as_row(self) -> dict:
        """A row of all values but the statistics."""
        return {name: value for name, value in asdict(self).items() if name != "statistics"}


def score_clips(model, clips: Iterable[Clip], known_codebooks: int = 8) -> list[ClipScore]:
    """Encode every clip from each kind of input (`INPUTS`) that clip and model allow, and count the hits.

    Args:
        model ([`BarkSemanticEncoderModel`]): an encoder in evaluation mode.
        clips (`Iterable[Clip]`): clips with their true tokens.
        known_codebooks (`int`): use at most this number of codebooks.
    """
    scores = []
    for clip in clips:
        truth = torch.from_numpy(clip.semantic_tokens).to(model.device)
        for name, inputs in readable_inputs(model, clip, known_codebooks).items():
            whole = model.config.vocab_size  # the statistics need the probability of every token
            result = model.encode(**inputs, top_k=whole)
            tokens = result.top_k_tokens[0]
            hits = tokens[:, :TOP_K] == truth[:, None]  # (num_tokens, TOP_K)
            top_1, top_5 = int(hits[:, 0].sum()), int(hits.any(-1).sum())
            statistics = clip_statistics(tokens, result.top_k_confidence[0], truth)
            score = ClipScore(clip.id, clip.voice, clip.kind, name, clip.num_tokens, top_1, top_5, statistics)
            scores.append(score)
    return scores


def readable_inputs(model, clip: Clip, known_codebooks: int = 8) -> dict[str, dict[str, torch.Tensor]]:
    """The arguments of `encode` for each kind of input (`INPUTS`) that the clip has and the model can read."""
    inputs = collate([clip], model.config.codebook_size)
    if "audio_codes" in inputs:
        inputs["audio_codes"] = inputs["audio_codes"][:, :known_codebooks]
    legible = {"audio": model.backbone is not None, "codes": model.codec_front_end is not None}
    return {
        name: {key: inputs[key].to(model.device) for key in wanted}
        for name, wanted in INPUTS.items()
        if set(wanted) <= set(inputs) and all(legible[kind] for kind in name.split("+"))
    }


def front_end_agreement(model, clips: Iterable[Clip]) -> float:
    """Share of tokens that are equal from the audio and from the codes, for clips that have both."""
    same = total = 0
    for clip in clips:
        inputs = collate([clip], model.config.codebook_size)
        of_audio, of_codes = (
            model.encode(**{key: inputs[key].to(model.device) for key in INPUTS[name]}).semantic_tokens[0]
            for name in ("audio", "codes")
        )
        same, total = same + int((of_audio == of_codes).sum()), total + len(of_audio)
    return same / total


def accuracy(scores: Sequence[ClipScore], field: str = "top_1") -> float:
    """Share of correct tokens, over all tokens of all clips."""
    return sum(getattr(s, field) for s in scores) / sum(s.num_tokens for s in scores)


def bootstrap_interval(
    scores: Sequence, statistic: Callable[[list], float], samples: int = 2_000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of `statistic(scores)` under resampling of whole groups (`score.group`).

    If there is only one group, its members are resampled instead.
    """
    groups = {}
    for score in scores:
        groups.setdefault(score.group, []).append(score)
    units = list(groups.values()) if len(groups) > 1 else [[score] for score in scores]
    rng = np.random.default_rng(seed)
    values = [
        statistic([score for i in rng.integers(len(units), size=len(units)) for score in units[i]])
        for _ in range(samples)
    ]
    return tuple(np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist())


def summarize(scores: Sequence[ClipScore]) -> dict[str, dict]:
    """Top-1 and, where known, top-5 accuracy with 95 % intervals, for each kind of clip and input."""
    table = {}
    for kind in dict.fromkeys(score.kind for score in scores):
        for inputs in INPUTS:
            chosen = [score for score in scores if (score.kind, score.inputs) == (kind, inputs)]
            if not chosen:
                continue
            row = {"clips": len({s.id for s in chosen}), "groups": len({s.group for s in chosen})}
            row["tokens"] = sum({s.id: s.num_tokens for s in chosen}.values())
            for field in ("top_1", "top_5"):
                if any(getattr(score, field) is None for score in chosen):
                    continue
                low, high = bootstrap_interval(chosen, lambda part, field=field: accuracy(part, field))
                row[field] = {"mean": accuracy(chosen, field), "low": low, "high": high}
            table[f"{kind}, {inputs}"] = row
    return table


def unigram_distance(tokens: np.ndarray, reference: np.ndarray, vocab_size: int) -> float:
    """Jensen-Shannon divergence, in bits, of the two samples' token frequencies: 0 for equal ones, at most 1.

    Finite samples of one source differ, too, so compare with the value for two such samples of the same sizes.
    """
    p, q = (np.bincount(sample, minlength=vocab_size) / len(sample) for sample in (tokens, reference))
    middle = (p + q) / 2
    return float(sum((part[part > 0] * np.log2(part[part > 0] / middle[part > 0])).sum() for part in (p, q)) / 2)


def agreement(first: torch.Tensor, second: torch.Tensor) -> float:
    """Share of positions with equal tokens, over the length that both have."""
    length = min(len(first), len(second))
    return float((first[:length] == second[:length]).float().mean())


def top_k_accuracy(top_k_tokens: np.ndarray, semantic_tokens: np.ndarray, k: int = 1) -> float:
    """Share of tokens that are among the first `k` predictions.

    Args:
        top_k_tokens (`np.ndarray` of shape `(num_tokens, num_guesses)`): predictions, the best first; or of shape
            `(num_tokens,)` for one prediction each.
        semantic_tokens (`np.ndarray` of shape `(num_tokens,)`): the true tokens.
        k (`int`): at most `num_guesses`.

    Raises:
        ValueError: different lengths, no tokens, or fewer predictions than `k`.
    """
    guesses, truth = np.asarray(top_k_tokens), np.asarray(semantic_tokens)
    guesses = guesses[:, None] if guesses.ndim == 1 else guesses
    if len(guesses) != len(truth) or not len(truth):
        raise ValueError(
            f"There are {len(guesses)} predictions for {len(truth)} tokens; for different lengths, use error_counts."
        )
    if not 1 <= k <= guesses.shape[1]:
        raise ValueError(f"`k` is {k}; there are {guesses.shape[1]} predictions for each token.")
    return float((guesses[:, :k] == truth[:, None]).any(axis=1).mean())


def embedding_cosine(predicted: np.ndarray, semantic_tokens: np.ndarray, embeddings: np.ndarray) -> float:
    """Mean cosine similarity of predicted and true tokens in Bark's input embeddings.

    Args:
        predicted, semantic_tokens (`np.ndarray` of shape `(num_tokens,)`): ids.
        embeddings (`np.ndarray` of shape `(vocab_size, hidden_size)`): `bark.semantic.input_embeds_layer.weight`.

    Raises:
        ValueError: different lengths, or no tokens.
    """
    predicted, truth = np.asarray(predicted), np.asarray(semantic_tokens)
    if len(predicted) != len(truth) or not len(truth):
        raise ValueError(f"There are {len(predicted)} predicted tokens for {len(truth)} true ones.")
    first, second = (np.asarray(embeddings)[ids].astype(float) for ids in (predicted, truth))
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(((first * second).sum(axis=1) / np.maximum(norms, 1e-12)).mean())


@dataclass(frozen=True)
class TokenLikelihood:
    """The likelihood of a clip's tokens under Bark's semantic model.

    Args:
        nll (`float`): mean negative log-likelihood per token in nats; log(vocab_size) for a uniform distribution.
        num_targets (`int`): number of tokens, plus the end token if the clip is complete.
        num_correct (`int`): number of targets that are the model's top-1 prediction.
    """

    nll: float
    num_targets: int
    num_correct: int


def semantic_likelihood(
    bark, utterances: Sequence[Utterance], histories: Sequence[Utterance | None] | None = None
) -> list[TokenLikelihood]:
    """Teacher-forced likelihood of semantic tokens, given their text and a voice history, in the layout of inference.

    Bark's own tokens have a higher likelihood than an encoder's; the difference measures how the encoder's deviate.

    Args:
        bark (`BarkModel`): a Bark in evaluation mode.
        utterances (sequence of `Utterance`): `text_ids` (the tokenizer's, without offset) and `semantic_tokens`.
        histories (sequence of `Utterance`, *optional*): a history or `None` for each utterance.

    Raises:
        ValueError: an invalid utterance, or another number of histories.
    """
    histories = [None] * len(utterances) if histories is None else histories
    if len(histories) != len(utterances):
        raise ValueError(f"{len(histories)} histories were passed for {len(utterances)} utterances; pass one each.")
    configs = bark_generation_configs(bark)
    loss = SemanticLoss(bark.semantic, configs).eval()
    results = []
    for utterance, history in zip(utterances, histories, strict=True):
        batch = collate_examples([semantic_example(utterance, history, configs)], configs)
        with torch.no_grad():
            output = loss(**{name: tensor.to(bark.device) for name, tensor in batch.items()})
        results.append(TokenLikelihood(float(output.loss), int(output.num_targets), int(output.num_correct)))
    return results
