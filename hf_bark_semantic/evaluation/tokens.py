"""Quality of an encoder's tokens: against the true tokens, by Bark's likelihood, and without true tokens.

    score_clips, summarize      hits of an encoder on clips whose tokens are known
    top_k_accuracy              the same for arrays
    embedding_cosine            how near a wrong token lies to the right one in Bark's embeddings
    semantic_likelihood         how likely Bark's text stage finds tokens, given the words
    unigram_distance, agreement, front_end_agreement    without truth

Accuracy is free-running: each clip is encoded as a user would, and every token of the clip counts. Intervals come from
a bootstrap over groups (voices), because tokens of one clip depend on each other. Sequences of other
lengths than the truth's: sequences.py; speech: speech.py and judges.py.
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
    """Hits of one clip, read one way, and what its confidence comes to (`calibration.py`).

    `top_5` is `None` where the first guess alone is known.
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
        """All but the statistics."""
        return {name: value for name, value in asdict(self).items() if name != "statistics"}


def score_clips(model, clips: Iterable[Clip], known_codebooks: int = 8) -> list[ClipScore]:
    """Encode every clip in each way that clip and model allow (`INPUTS`), and count the hits.

    Args:
        model ([`BarkSemanticEncoderModel`]): in evaluation mode.
        clips (`Iterable[Clip]`): with their true tokens.
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
    """The arguments of `encode` for each way (`INPUTS`) in which a clip is known and the model can read it."""
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
    """Share of tokens that the encoder reads alike from the audio and from the codes of clips that have both."""
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
    """Share of all tokens of all clips that were hit."""
    return sum(getattr(s, field) for s in scores) / sum(s.num_tokens for s in scores)


def bootstrap_interval(
    scores: Sequence, statistic: Callable[[list], float], samples: int = 2_000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of `statistic(scores)` under resampling of whole groups (`score.group`).

    With a single group there is nothing to resample but its members, which then are resampled.
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
    """Top-1 and, where it is known, top-5 accuracy with 95 % intervals, for each kind of clip and way of reading."""
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

    Both are finite samples; compare with the figure of two samples of one source of the same sizes.
    """
    p, q = (np.bincount(sample, minlength=vocab_size) / len(sample) for sample in (tokens, reference))
    middle = (p + q) / 2
    return float(sum((part[part > 0] * np.log2(part[part > 0] / middle[part > 0])).sum() for part in (p, q)) / 2)


def agreement(first: torch.Tensor, second: torch.Tensor) -> float:
    """Share of positions with equal tokens, over the length that both have."""
    length = min(len(first), len(second))
    return float((first[:length] == second[:length]).float().mean())


def top_k_accuracy(top_k_tokens: np.ndarray, semantic_tokens: np.ndarray, k: int = 1) -> float:
    """Share of tokens that are among the first `k` guesses.

    Args:
        top_k_tokens (`np.ndarray` of shape `(num_tokens, num_guesses)`): best first; `(num_tokens,)` for one guess.
        semantic_tokens (`np.ndarray` of shape `(num_tokens,)`): the truth.
        k (`int`): at most `num_guesses`.

    Raises:
        ValueError: other lengths, no tokens, or fewer guesses than `k`.
    """
    guesses, truth = np.asarray(top_k_tokens), np.asarray(semantic_tokens)
    guesses = guesses[:, None] if guesses.ndim == 1 else guesses
    if len(guesses) != len(truth) or not len(truth):
        raise ValueError(
            f"{len(guesses)} guesses and {len(truth)} tokens are not one clip; where lengths differ, use error_counts."
        )
    if not 1 <= k <= guesses.shape[1]:
        raise ValueError(f"`k` is {k}; there are {guesses.shape[1]} guesses for each token.")
    return float((guesses[:, :k] == truth[:, None]).any(axis=1).mean())


def embedding_cosine(predicted: np.ndarray, semantic_tokens: np.ndarray, embeddings: np.ndarray) -> float:
    """Mean cosine of predicted and true tokens' rows in Bark's input embeddings: a near miss scores near 1.

    Args:
        predicted, semantic_tokens (`np.ndarray` of shape `(num_tokens,)`): ids.
        embeddings (`np.ndarray` of shape `(vocab_size, hidden_size)`): `bark.semantic.input_embeds_layer.weight`.

    Raises:
        ValueError: other lengths, or no tokens.
    """
    predicted, truth = np.asarray(predicted), np.asarray(semantic_tokens)
    if len(predicted) != len(truth) or not len(truth):
        raise ValueError(f"{len(predicted)} predicted and {len(truth)} true tokens are not one clip.")
    first, second = (np.asarray(embeddings)[ids].astype(float) for ids in (predicted, truth))
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(((first * second).sum(axis=1) / np.maximum(norms, 1e-12)).mean())


@dataclass(frozen=True)
class TokenLikelihood:
    """How likely Bark's text stage finds a clip's tokens.

    Args:
        nll (`float`): mean negative log-likelihood per token in nats; a model that knows nothing has log(vocab_size).
        num_targets (`int`): tokens, and the end where the clip is complete.
        num_correct (`int`): those that it finds likeliest.
    """

    nll: float
    num_targets: int
    num_correct: int


def semantic_likelihood(
    bark, utterances: Sequence[Utterance], histories: Sequence[Utterance | None] | None = None
) -> list[TokenLikelihood]:
    """Teacher-forced likelihood of semantic tokens, given their text and a voice history, as inference lays them out.

    Bark's own tokens are likelier to it than an encoder's; the difference measures how unlike them the encoder's are.

    Args:
        bark (`BarkModel`): in evaluation mode.
        utterances (sequence of `Utterance`): `text_ids` (tokenizer's, without offset) and `semantic_tokens`.
        histories (sequence of `Utterance`, *optional*): one or `None` for each.

    Raises:
        ValueError: an utterance that Bark cannot read, or not one history for each.
    """
    histories = [None] * len(utterances) if histories is None else histories
    if len(histories) != len(utterances):
        raise ValueError(f"{len(histories)} histories were given for {len(utterances)} utterances; give one for each.")
    configs = bark_generation_configs(bark)
    loss = SemanticLoss(bark.semantic, configs).eval()
    results = []
    for utterance, history in zip(utterances, histories, strict=True):
        batch = collate_examples([semantic_example(utterance, history, configs)], configs)
        with torch.no_grad():
            output = loss(**{name: tensor.to(bark.device) for name, tensor in batch.items()})
        results.append(TokenLikelihood(float(output.loss), int(output.num_targets), int(output.num_correct)))
    return results
