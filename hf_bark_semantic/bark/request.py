"""A request to Bark, and its result.

SynthesisRequest    a text or semantic tokens, a voice, a seed and the sampling of each stage
SynthesisResult     tokens, codes and waveform
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .sampling import Sampling
from .voice_prompt import VoicePrompt

PROMPT_MODES = ("full", "acoustic", "semantic", "none")
FLAWS = ("length", "empty")  # finish reasons with which words may be missing, the milder one first


@dataclass(frozen=True, eq=False)
class SynthesisRequest:
    """One utterance to be spoken.

    ```python
    import hf_bark_semantic

    voice = hf_bark_semantic.VoicePrompt.load("voice.npz")
    request = hf_bark_semantic.SynthesisRequest(text="The dog runs.", voice_prompt=voice, seed=1)
    ```

    Args:
        text (`str`, *optional*): the text to speak.
        semantic_tokens (`np.ndarray` of shape `(num_tokens,)`, *optional*): Bark's tokens of the words to speak,
            instead of a text. Exactly one of `text` and `semantic_tokens` must be given.
        voice_prompt (`VoicePrompt`, *optional*): the voice; by default Bark chooses one.
        prompt_mode (`str`): `"full"`: every stage uses the prompt. `"acoustic"`: the coarse and the fine stage use its
            codes, and no stage uses its semantic tokens. `"semantic"`: only the text stage uses it. `"none"`.
        seed (`int`): the same request with the same seed gives the same result.
        semantic (`Sampling`), coarse (`Sampling`), fine (`Sampling`): how each stage samples its tokens.
        max_semantic_tokens (`int`, *optional*): by default as many as the generation config says; 768 for Suno's.
        min_semantic_tokens (`int`): the text stage may not end before.

    Raises:
        ValueError: not exactly one of text and tokens, either of them empty, or a value outside of its range.
        TypeError: a text, tokens or prompt of the wrong kind.
    """

    text: str | None = None
    semantic_tokens: np.ndarray | None = None
    voice_prompt: VoicePrompt | None = None
    prompt_mode: str = "full"
    seed: int = 0
    semantic: Sampling = Sampling()
    coarse: Sampling = Sampling()
    fine: Sampling = Sampling()
    max_semantic_tokens: int | None = None
    min_semantic_tokens: int = 0

    def __post_init__(self):
        if (self.text is None) == (self.semantic_tokens is None):
            raise ValueError("A request needs either a `text` or `semantic_tokens`, and not both.")
        if self.text is not None and not isinstance(self.text, str):
            raise TypeError(f"`text` must be a string, not {type(self.text).__name__}.")
        if self.text is not None and not self.text.strip():
            raise ValueError("`text` is empty; there is nothing to say.")
        if self.semantic_tokens is not None:
            object.__setattr__(self, "semantic_tokens", checked_tokens(self.semantic_tokens))
        if self.voice_prompt is not None and not isinstance(self.voice_prompt, VoicePrompt):
            raise TypeError(
                f"`voice_prompt` must be a VoicePrompt, not {type(self.voice_prompt).__name__}; VoicePrompt.load "
                "reads files and dicts."
            )
        if self.prompt_mode not in PROMPT_MODES:
            raise ValueError(f"`prompt_mode` is {self.prompt_mode!r}; it must be one of {', '.join(PROMPT_MODES)}.")
        if self.seed < 0:
            raise ValueError(f"`seed` is {self.seed}; it must be 0 or more.")
        if self.min_semantic_tokens < 0:
            raise ValueError(f"`min_semantic_tokens` is {self.min_semantic_tokens}; it must be 0 or more.")


@dataclass(frozen=True, eq=False)
class SynthesisResult:
    """A spoken request.

    ```python
    import hf_bark_semantic

    bark, processor = hf_bark_semantic.load_bark("nano")
    requests = [hf_bark_semantic.SynthesisRequest(text="The dog runs.")]
    (result,) = hf_bark_semantic.synthesize(bark, requests, tokenizer=processor.tokenizer)
    hf_bark_semantic.save_audio("dog.wav", result.waveform, result.sampling_rate)
    ```

    Args:
        semantic_tokens (`np.ndarray`): int64 of shape `(num_tokens,)`.
        audio_codes (`np.ndarray`): int64 of shape `(8, num_frames)`.
        waveform (`np.ndarray`): float32 of shape `(num_samples,)`.
        sampling_rate (`int`): of the waveform.
        finish_reason (`str`): `"eos"`: the text stage ended by itself; `"length"`: it was cut at the maximum;
            `"given"`: the request had the tokens; `"empty"`: it ended at once, without speech.
        request (`SynthesisRequest`): the request.
        index (`int`): the request's place among the requests.
    """

    semantic_tokens: np.ndarray
    audio_codes: np.ndarray
    waveform: np.ndarray
    sampling_rate: int
    finish_reason: Literal["eos", "length", "given", "empty"]
    request: SynthesisRequest
    index: int


def flaw_of(finish_reason: str) -> int:
    """The severity of a finish reason: 0 if nothing is missing, larger if more may be missing."""
    return 1 + FLAWS.index(finish_reason) if finish_reason in FLAWS else 0


def checked_tokens(semantic_tokens: Any, *, may_be_empty: bool = False) -> np.ndarray:
    """Semantic tokens as int64 of shape `(num_tokens,)`; a `ValueError` for anything else."""
    tokens = np.asarray(semantic_tokens)
    if may_be_empty and tokens.size == 0:
        return np.zeros(0, np.int64)
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu" or not len(tokens):
        raise ValueError(
            f"`semantic_tokens` are {tokens.dtype} of shape {tokens.shape}; they must be integers of shape "
            "(num_tokens,), one or more."
        )
    return tokens.astype(np.int64)


__all__ = ["FLAWS", "PROMPT_MODES", "SynthesisRequest", "SynthesisResult", "checked_tokens", "flaw_of"]
