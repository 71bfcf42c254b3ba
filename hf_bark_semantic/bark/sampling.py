"""How a stage chooses tokens from logits.

Sampling       the rule by which a stage chooses tokens
Guidance       classifier-free guidance by the content and by the voice
Temperatures   one temperature per row of a batch
pick_tokens    from logits and one random number per row to one token per row
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch

TRANSFORMERS_TOP_K = 50  # transformers, GenerationConfig: what an unset top_k means


@dataclass(frozen=True)
class Sampling:
    """How a stage chooses a token from its logits.

    ```python
    import hf_bark_semantic

    greedy = hf_bark_semantic.Sampling(temperature=0)
    request = hf_bark_semantic.SynthesisRequest(text="The dog runs.", semantic=greedy, coarse=greedy)
    ```

    Args:
        temperature (`float`, *optional*): 0 always chooses the likeliest token. `None`: `speech_temperature` of this
            stage in the Bark's generation config; if it has none, as Suno's, 0.7, 0.7 and 0.5, as in Suno's program.
        top_k (`int`, *optional*): sample among this number of tokens; `None` or 0: among all.
        top_p (`float`, *optional*): sample among the likeliest tokens that together have this probability.
        min_eos_p (`float`, *optional*): end the text stage as soon as the end token has this probability. The other
            stages have no end token and ignore it.
        guidance_scale (`float`, *optional*): scale of classifier-free guidance by the content: the text in the text
            stage, the semantic tokens in the coarse stage. 1 for none, more for clearer words, see [`Guidance`].
            `None`: `condition_guidance_scale` of the Bark's generation config; if it has none, as Suno's, 1.
        voice_guidance_scale (`float`, *optional*): the same for the voice prompt, with `voice_guidance_scale` of the
            config.

    Raises:
        ValueError: a value outside of its range.
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_eos_p: float | None = 0.2  # suno-ai/bark, generation.py: generate_text_semantic
    guidance_scale: float | None = None
    voice_guidance_scale: float | None = None

    def __post_init__(self):
        rules = [
            ("temperature", self.temperature is None or 0 <= self.temperature < math.inf, "0 or more, or None"),
            ("top_k", self.top_k is None or self.top_k >= 0, "a count, or None for all"),
            ("top_p", self.top_p is None or 0 < self.top_p <= 1, "above 0 and at most 1, or None"),
            ("min_eos_p", self.min_eos_p is None or 0 < self.min_eos_p <= 1, "above 0 and at most 1, or None"),
        ]
        for name in ("guidance_scale", "voice_guidance_scale"):
            scale = getattr(self, name)
            rules.append((name, scale is None or 1 <= scale < math.inf, "1 or more, or None"))
        for name, holds, rule in rules:
            if not holds:
                raise ValueError(f"`{name}` is {getattr(self, name)!r}; it must be {rule}.")


class View(NamedTuple):
    """The parts of a request that the model receives in a row of a batch, and the weight of its log-probabilities."""

    content: bool  # the text or the semantic tokens
    voice: bool  # the voice prompt
    weight: float


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance (Ho and Salimans, 2022, arXiv:2207.12598) by two conditions: content and voice.

    Every row is computed as up to three views: with both conditions, without the voice prompt, and with neither. Their
    log-probabilities are combined as in Brooks et al., 2023, arXiv:2211.09800:
    `nothing + content * (no_voice - nothing) + voice * (all - no_voice)`.

    Args:
        content (`float`), voice (`float`): the two scales; 1 and 1: no guidance, and only one view.
    """

    content: float = 1.0
    voice: float = 1.0

    @cached_property
    def views(self) -> list[View]:
        """The views whose weight is not 0."""
        everything = View(True, True, self.voice)
        rest = (View(True, False, self.content - self.voice), View(False, False, 1 - self.content))
        return [everything, *(view for view in rest if view.weight)]

    def logits(self, logits: torch.Tensor) -> torch.Tensor:
        """From logits of all views, `(num_rows * num_views, num_columns)`, to `(num_rows, num_columns)`."""
        if len(self.views) == 1:
            return logits
        known = logits.float().log_softmax(-1).unflatten(0, (-1, len(self.views)))  # (rows, views, columns)
        return torch.stack([view.weight * known[:, place] for place, view in enumerate(self.views)]).sum(0)


class Temperatures(NamedTuple):
    """One temperature per row, as [`pick_tokens`] reads them.

    Args:
        divisor (`float` or `torch.Tensor` of shape `(num_rows, 1)`): of the scores; 1 for a greedy row.
        greedy (`bool` or `torch.BoolTensor` of shape `(num_rows,)`): whether rows take their likeliest token.
    """

    divisor: float | torch.Tensor
    greedy: bool | torch.Tensor

    @classmethod
    def of(cls, temperatures: Sequence[float], device: torch.device) -> "Temperatures":
        """From one temperature per row, 0 for greedy; tensors only if rows differ."""
        distinct = set(temperatures)
        if len(distinct) == 1:
            (only,) = distinct
            return cls(only or 1.0, not only)
        column = torch.tensor(temperatures, device=device)[:, None]
        return cls(column.masked_fill(column == 0, 1.0), column[:, 0] == 0 if 0 in distinct else False)


def pick_tokens(
    logits: torch.Tensor,
    sampling: Sampling,
    uniforms: torch.Tensor | None,
    *,
    temperatures: Temperatures | None = None,
    predicts_end: bool = False,
    transformers_rules: bool = False,
) -> torch.Tensor:
    """Choose one token per row.

    Args:
        logits (`torch.Tensor` of shape `(num_rows, num_columns)`): of the tokens that may be chosen.
        sampling (`Sampling`): the rule, with a temperature.
        uniforms (`torch.Tensor` of shape `(num_rows,)`, *optional*): random numbers in `[0, 1)`; not needed if greedy.
        temperatures (`Temperatures`, *optional*): of the rows, instead of the rule's.
        predicts_end (`bool`): the last column is the end of a row, so `min_eos_p` applies.
        transformers_rules (`bool`): see the table in [`synthesis`].

    Returns:
        `torch.LongTensor` of shape `(num_rows,)`: columns.
    """
    logits = logits.float()
    min_eos_p = sampling.min_eos_p if predicts_end else None
    if temperatures is None:
        assert sampling.temperature is not None
        temperatures = Temperatures.of([sampling.temperature], logits.device)
    divisor, greedy = temperatures
    if greedy is True:
        picked = logits.argmax(-1)
    else:
        if transformers_rules:
            top_k = TRANSFORMERS_TOP_K if sampling.top_k is None else sampling.top_k
            scores = _keep_likeliest(logits / divisor, top_k=top_k)
            probabilities = _keep_likeliest(scores, top_p=sampling.top_p).softmax(-1)
        else:
            scores = _keep_likeliest(_keep_likeliest(logits, top_p=sampling.top_p), top_k=sampling.top_k)
            probabilities = (scores / divisor).softmax(-1)
        assert uniforms is not None  # only greedy rows need none
        cumulative = probabilities.cumsum(-1)
        # below the total even after rounding, so that the chosen token has a probability above 0
        thresholds = uniforms[:, None] * cumulative[:, -1:] * (1 - 1e-6)
        picked = torch.searchsorted(cumulative, thresholds, right=True)[:, 0]
        if greedy is not False:
            picked = picked.where(~greedy, logits.argmax(-1))
    if min_eos_p is not None:
        if transformers_rules or greedy is True:
            probabilities = logits.softmax(-1)
        elif greedy is not False:
            probabilities = probabilities.where(~greedy[:, None], logits.softmax(-1))
        end = probabilities[:, -1]
        ends = end > min_eos_p if transformers_rules else end >= min_eos_p
        picked = picked.masked_fill(ends, logits.shape[-1] - 1)
    return picked


def _keep_likeliest(scores: torch.Tensor, *, top_k: int | None = None, top_p: float | None = None) -> torch.Tensor:
    if top_k and top_k < scores.shape[-1]:
        scores = scores.masked_fill(scores < scores.topk(top_k).values[:, -1:], float("-inf"))
    if top_p is not None and top_p < 1:
        ordered, order = scores.sort(descending=True)
        probabilities = ordered.softmax(-1)
        # a token is kept if the tokens before it have at most the probability top_p
        removed = probabilities.cumsum(-1) - probabilities > top_p
        scores = scores.masked_fill(torch.empty_like(removed).scatter_(-1, order, removed), float("-inf"))
    return scores


__all__ = ["Guidance", "Sampling", "Temperatures", "View", "pick_tokens"]
