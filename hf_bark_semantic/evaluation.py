"""How good an encoder is: token accuracy against the truth, and what can be known without one.

Accuracy is free-running: each clip is encoded as a user would, and every token of the clip counts. Intervals come from
a bootstrap over groups (voices), because tokens of one clip are anything but independent.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .data import Clip, collate

TOP_K = 5
INPUTS = {
    "audio": ("input_values", "attention_mask"),
    "codes": ("audio_codes", "audio_codes_mask"),
    "audio+codes": ("input_values", "attention_mask", "audio_codes", "audio_codes_mask"),
}


@dataclass(frozen=True)
class ClipScore:
    """Hits of one clip, read one way."""

    id: str
    group: str
    kind: str
    inputs: str
    num_tokens: int
    top_1: int
    top_5: int


def score_clips(model, clips: Iterable[Clip], known_codebooks: int = 8) -> list[ClipScore]:
    """Encode every clip in each way that clip and model allow (`INPUTS`), and count the hits.

    Args:
        model ([`BarkSemanticEncoderModel`]): in evaluation mode.
        clips (`Iterable[Clip]`): with their true tokens.
        known_codebooks (`int`): read no more than so many codebooks of the codes.
    """
    scores = []
    for clip in clips:
        inputs = collate([clip], model.config.codebook_size)
        labels = inputs.pop("labels")
        if "audio_codes" in inputs:
            inputs["audio_codes"] = inputs["audio_codes"][:, :known_codebooks]
        for name, wanted in INPUTS.items():
            if not set(wanted) <= set(inputs):
                continue
            if ("codes" in name and model.codec_front_end is None) or ("audio" in name and model.backbone is None):
                continue
            result = model.encode(**{key: inputs[key].to(model.device) for key in wanted}, top_k=TOP_K)
            hits = result.top_k_tokens[0].cpu() == labels[0][:, None]  # (num_tokens, TOP_K)
            top_1, top_5 = int(hits[:, 0].sum()), int(hits.any(-1).sum())
            scores.append(ClipScore(clip.id, clip.voice, clip.kind, name, clip.num_tokens, top_1, top_5))
    return scores


def front_end_agreement(model, clips: Iterable[Clip]) -> float:
    """Share of tokens that the encoder reads alike from the audio and from the codes of clips that have both."""
    same = total = 0
    for clip in clips:
        inputs = collate([clip], model.config.codebook_size)
        heard, read = (
            model.encode(**{key: inputs[key].to(model.device) for key in INPUTS[name]}).semantic_tokens[0]
            for name in ("audio", "codes")
        )
        same, total = same + int((heard == read).sum()), total + len(heard)
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
    """Top-1 and top-5 accuracy with 95 % intervals, for each kind of clip and way of reading it."""
    table = {}
    for kind in dict.fromkeys(score.kind for score in scores):
        for inputs in INPUTS:
            chosen = [score for score in scores if (score.kind, score.inputs) == (kind, inputs)]
            if not chosen:
                continue
            row = {"clips": len({s.id for s in chosen}), "groups": len({s.group for s in chosen})}
            row["tokens"] = sum({s.id: s.num_tokens for s in chosen}.values())
            for field in ("top_1", "top_5"):
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
