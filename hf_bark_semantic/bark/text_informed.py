"""Semantic tokens of a recording with a known text: a beam search with Bark's text stage as the language model.

    TextInformedDecoder    `decode` searches for the tokens
    log_unigram            log-frequencies of tokens, as a prior to subtract

The beam search looks for the tokens t_1 ... t_n with the highest score, the sum over all positions of

    log p_encoder(t_i | audio) + weight * log p_bark(t_i | text, voice, t_1 ... t_i-1) - prior[t_i]

where the candidates of a position are the encoder's likeliest tokens. The audio determines the number of tokens, so
the end token is not a candidate, and Bark's probabilities are normalized over semantic tokens.
`evaluation.semantic_likelihood` measures the likelihood of the result under Bark.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import BarkModel

from .prompting import text_prefix
from .setup import BarkSetup
from .transformer import DecodingBatch, legal_head
from .voice_prompt import VoicePrompt

DEFAULT_WEIGHT = 0.5  # not measured on Suno's Bark; training/studies/evaluate_text_informed.py chooses one
DEFAULT_BEAM_SIZE = 6
DEFAULT_TOP_K = 16


@dataclass(frozen=True, eq=False)
class TextInformedDecoder:
    """A beam search over an encoder's candidates, scored by Bark's text stage.

    ```python
    import hf_bark_semantic
    from transformers import pipeline

    encode = pipeline("audio-to-bark-semantic", model=str(hf_bark_semantic.nano_encoder()))
    decoder = hf_bark_semantic.TextInformedDecoder(*hf_bark_semantic.load_bark("nano"), weight=0.5)
    result = encode("speech.wav", text="The dog runs.", bark=decoder)
    ```

    Args:
        bark (`BarkModel`): in evaluation mode, with the encoder's vocabulary.
        tokenizer: Bark's, or its processor.
        weight (`float`): of Bark's log-probabilities; 0 returns the encoder's tokens without running Bark.
        beam_size (`int`): hypotheses that are kept at every position; 1 is greedy.
        top_k (`int`): candidates of every position.
        prior (`np.ndarray` of shape `(vocab_size,)`, *optional*): subtracted from the score of every token, such as
            `0.3 * log_unigram(...)`: encoder and Bark both prefer common tokens, so their sum prefers them twice.

    Raises:
        ValueError: a value outside of its range.
    """

    bark: BarkModel
    tokenizer: Any
    weight: float = DEFAULT_WEIGHT
    beam_size: int = DEFAULT_BEAM_SIZE
    top_k: int = DEFAULT_TOP_K
    prior: np.ndarray | None = None

    def __post_init__(self):
        for name, holds, rule in (
            ("weight", 0 <= self.weight < math.inf, "0 or more"),
            ("beam_size", self.beam_size >= 1, "1 or more"),
            ("top_k", 1 <= self.top_k <= self.vocab_size, f"between 1 and {self.vocab_size}"),
        ):
            if not holds:
                raise ValueError(f"`{name}` is {getattr(self, name)!r}; it must be {rule}.")
        if self.prior is not None and (
            np.shape(self.prior) != (self.vocab_size,) or not np.isfinite(self.prior).all()
        ):
            raise ValueError(
                f"`prior` has the shape {np.shape(self.prior)}; it must be ({self.vocab_size},), all of it finite."
            )

    @property
    def vocab_size(self) -> int:
        """Semantic tokens of the Bark."""
        return self._setup.semantic.semantic_vocab_size

    @property
    def max_tokens(self) -> int:
        """The largest number of tokens that Bark generates at once."""
        return self._setup.max_semantic_tokens

    def description(self) -> dict[str, Any]:
        """The settings, apart from the Bark, that the tokens depend on, for corpus.json."""
        values: dict[str, Any] = {"weight": self.weight, "beam_size": self.beam_size, "top_k": self.top_k}
        if self.prior is not None:
            values["prior"] = hashlib.sha256(np.asarray(self.prior, np.float64).tobytes()).hexdigest()
        return values

    @property
    def _setup(self) -> BarkSetup:
        return BarkSetup(self.bark)

    def decode(
        self,
        candidates: np.ndarray,
        probabilities: np.ndarray,
        text: str,
        voice_prompt: VoicePrompt | None = None,
    ) -> np.ndarray:
        """Find the tokens of one recording.

        Args:
            candidates (`np.ndarray` of shape `(num_tokens, num_candidates)`): tokens, the likeliest of each position
                first: `top_k_tokens` of an encoder.
            probabilities (`np.ndarray` of the same shape): the encoder's; `top_k_confidence`.
            text (`str`): all of its words, and nothing else.
            voice_prompt (`VoicePrompt`, *optional*): speech of the same voice, as a prompt for Bark.

        Returns:
            `np.ndarray`: int64, `(num_tokens,)`.

        Raises:
            ValueError: the recording or the text is too long for one generation of Bark, the text is empty, or the
                candidates are not tokens of this Bark.
        """
        self._check(candidates, probabilities)
        candidates, probabilities = candidates[:, : self.top_k], probabilities[:, : self.top_k]
        scores = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny).astype(np.float64))
        if self.prior is not None:
            scores -= np.asarray(self.prior)[candidates]
        if not self.weight:
            return np.take_along_axis(candidates, scores.argmax(1)[:, None], 1)[:, 0].astype(np.int64)
        return self._beam_search(candidates, scores, self._prefix(text, voice_prompt))

    def _check(self, candidates: np.ndarray, probabilities: np.ndarray) -> None:
        if candidates.ndim != 2 or not candidates.size or probabilities.shape != candidates.shape:
            raise ValueError(
                f"`candidates` has the shape {candidates.shape} and `probabilities` {probabilities.shape}; both must "
                "be (num_tokens, num_candidates), with at least one of each."
            )
        if candidates.min() < 0 or candidates.max() >= self.vocab_size:
            raise ValueError(
                f"The candidates go up to {candidates.max()}, and this Bark has the tokens 0 to {self.vocab_size - 1}."
                " Use the encoder that was trained for it."
            )
        if len(candidates) > self.max_tokens:
            rate = self._setup.semantic.semantic_rate_hz
            raise ValueError(
                f"The recording has {len(candidates)} tokens ({len(candidates) / rate:.1f} s), and Bark generates "
                f"{self.max_tokens} ({self.max_tokens / rate:.1f} s) at once. Split it, and its text, at a pause."
            )

    def _prefix(self, text: str, voice_prompt: VoicePrompt | None) -> torch.Tensor:
        """Ids of text and history, whose embeddings Bark adds: `(2, max_input_semantic_length)`."""
        setup = self._setup
        return torch.from_numpy(text_prefix(setup.text_ids(text, self.tokenizer), voice_prompt, setup.configs))

    @torch.inference_mode()
    def _beam_search(self, candidates: np.ndarray, scores: np.ndarray, prefix: torch.Tensor) -> np.ndarray:
        """Tokens with the highest sum of `scores` `(num_tokens, num_candidates)` and Bark's log-probabilities."""
        setup, model = self._setup, self.bark.semantic
        num_tokens, length = len(candidates), prefix.shape[1]
        head = legal_head(model.lm_head, slice(0, self.vocab_size), setup.savings)
        batch = DecodingBatch(model, self.beam_size, length + num_tokens, setup.savings)
        batch.prefill([0], model.input_embeds_layer(prefix.to(batch.device)).sum(0)[None], [length])
        # the first hypothesis, whose last token stands for the one before its first
        hypotheses = np.full((1, num_tokens), setup.semantic.semantic_infer_token)
        totals = np.zeros(1)  # by hypothesis
        for position in range(num_tokens):
            hidden = batch.step(hypotheses[:, position - 1].tolist())
            columns = torch.from_numpy(candidates[position]).to(batch.device)
            expected = head(hidden).float().log_softmax(-1)[:, columns].cpu().double().numpy()
            continued = totals[:, None] + scores[position] + self.weight * expected  # (num_hypotheses, num_candidates)
            best = (-continued).argsort(axis=None, kind="stable")[: self.beam_size]
            parents, choices = np.unravel_index(best, continued.shape)
            parents, choices = _in_slots_of_parents(parents, choices, batch)
            hypotheses, totals = hypotheses[parents], continued[parents, choices]
            hypotheses[:, position] = candidates[position][choices]
        return hypotheses[totals.argmax()].astype(np.int64)


def _in_slots_of_parents(parents: np.ndarray, choices: np.ndarray, batch: DecodingBatch) -> tuple[np.ndarray, ...]:
    """Order hypotheses so that the first child of each parent keeps its slot; copy the key/value cache for others."""
    num_rows = len(parents)
    slots, others = [-1] * num_rows, []
    for child, parent in enumerate(parents):
        if slots[parent] < 0:
            slots[parent] = child
        else:
            others.append(child)
    for slot in range(num_rows):
        if slots[slot] < 0:
            slots[slot] = others.pop(0)
            batch.move(int(parents[slots[slot]]), slot)
    return parents[slots], choices[slots]


def log_unigram(tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    """Log-frequencies of tokens with add-one smoothing.

    Args:
        tokens (`np.ndarray` of shape `(num_tokens,)`): such as the encoder's training tokens.
        vocab_size (`int`): of the Bark.

    Returns:
        `np.ndarray`: float64, `(vocab_size,)`.
    """
    counts = 1 + np.bincount(tokens, minlength=vocab_size)
    return np.log(counts / counts.sum())


__all__ = ["DEFAULT_WEIGHT", "TextInformedDecoder", "log_unigram"]
