"""Batched synthesis with transformers' `BarkModel`: text to semantic tokens to codes to waveform.

    synthesize          run all stages for any number of requests
    text_to_semantic    run the text stage
    semantic_to_codes   run the coarse and the fine stage
    codes_to_waveform   run the codec

    SynthesisRequest ──> text stage ──> coarse stage ──> fine stage ──> codec ──> SynthesisResult
                         rows enter as others leave      window by window         padded on the right

A request's result does not depend on the other rows of its batch: every row has its own prompt, lengths and random
numbers. Ids, rates and window lengths come from `bark.generation_config`, so a Bark with other values works, too.

If the rules of Suno's program and of transformers differ, Suno's apply, unless `transformers_rules=True`:

    | rule                         | Suno (default)                        | transformers                      |
    | ---------------------------- | ------------------------------------- | --------------------------------- |
    | `min_eos_p`                  | >=, after temperature and filters     | >, before them                    |
    | `top_k=None`                 | all tokens                            | 50                                |
    | order of filters             | top_p, top_k, temperature             | temperature, top_k, top_p         |
    | second coarse codebook       | its own ids                           | also the special ids above them   |
    | fine stage, temperature 1    | samples                               | takes the likeliest               |
    | guidance, see [`Sampling`]   | by our keys of the generation config  | none                              |

Each row and stage has its own random generator, so sampling is repeatable; transformers draws other random numbers.
Float16, bfloat16 and int8 layers are those of the model that is passed; only float32 is exactly repeatable.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from transformers import BarkModel

from .request import FLAWS, SynthesisRequest, SynthesisResult, checked_tokens, flaw_of
from .setup import BarkSetup
from .stages import StageItem, run_stage
from .transformer import Savings

ALL_SAVINGS = Savings()
Retry = Callable[[int, SynthesisRequest, str], SynthesisRequest | None]


class _Said(NamedTuple):
    item: StageItem  # its value is the semantic tokens, (num_tokens,)
    finish_reason: Any  # of `SynthesisResult`


def synthesize(
    bark: BarkModel,
    requests: Iterable[SynthesisRequest],
    *,
    tokenizer: Any = None,
    batch_size: int = 8,
    look_ahead: int = 8,
    savings: Savings = ALL_SAVINGS,
    transformers_rules: bool = False,
    offload: bool = False,
    on_step: Callable[[str], Any] | None = None,
    retry: Retry | None = None,
) -> Iterator[SynthesisResult]:
    """Speak requests, and yield the results in their order as they become ready.

    ```python
    import hf_bark_semantic

    bark, processor = hf_bark_semantic.load_bark("nano")
    requests = [hf_bark_semantic.SynthesisRequest(text=text) for text in ("The dog runs.", "The cat sleeps.")]
    for result in hf_bark_semantic.synthesize(bark, requests, tokenizer=processor.tokenizer):
        hf_bark_semantic.save_audio(f"{result.index}.wav", result.waveform, result.sampling_rate)
    ```

    Args:
        bark (`BarkModel`): from `BarkModel.from_pretrained`; it is not changed.
        requests (`Iterable[SynthesisRequest]`): any number; `look_ahead` batches are read at a time.
        tokenizer: Bark's, or its processor; needed for texts.
        batch_size (`int`): utterances that are computed at once; halved when memory runs out.
        look_ahead (`int`): batches that are read ahead, so that short and long utterances fill them evenly.
        savings (`Savings`): computations that are saved; none changes a token.
        transformers_rules (`bool`): choose tokens as transformers does, see the table of this module.
        offload (`bool`): move each stage to the accelerator only while it computes.
        on_step (`Callable[[str], Any]`, *optional*): is called before every step of a stage with the stage's name:
            `"semantic"`, `"coarse"`, `"fine"` or `"codec"`. An exception that it raises ends the synthesis.
        retry (`Callable[[int, SynthesisRequest, str], SynthesisRequest | None]`, *optional*): called before the coarse
            stage of each text of which words may be missing ([`FLAWS`]), with its index, request and finish reason.
            It returns another request for the text stage, or `None`. Of the two results, the one with the milder flaw
            is used, or the first if both have the same flaw.

    Returns:
        `Iterator[SynthesisResult]`: tokens, codes and waveform of each request.

    Raises:
        ValueError: a request that this Bark cannot speak, such as a text that is too long; the requests before it are
            spoken first.
        MemoryError: there is not enough memory for a single utterance.
    """
    if look_ahead < 1:
        raise ValueError(f"`look_ahead` is {look_ahead}; it must be 1 or more.")
    setup = BarkSetup(
        bark,
        batch_size,
        savings=savings,
        transformers_rules=transformers_rules,
        offload=offload,
        on_step=on_step,
    )
    return _synthesize(setup, iter(requests), tokenizer, batch_size * look_ahead, retry)


def _synthesize(
    setup: BarkSetup, requests: Iterator[SynthesisRequest], tokenizer: Any, window_size: int, retry: Retry | None
) -> Iterator[SynthesisResult]:
    position, failure = 0, None
    while failure is None:
        window, finished = [], {}
        try:
            for index, request in enumerate(islice(requests, window_size), position):
                window.append(_read_request(setup, request, index, tokenizer))
        except (ValueError, TypeError) as error:
            failure = error
        if not window:
            break
        try:
            said = _semantic_tokens(setup, window)
            if retry is not None:
                _try_again(setup, said, retry, tokenizer)
            for result in _speak(setup, said):
                finished[result.index] = result
                while position in finished:
                    yield finished.pop(position)
                    position += 1
        except KeyboardInterrupt:  # return all finished results, although others are missing between them
            for index in sorted(finished):
                yield finished[index]
            raise
    if failure is not None:
        raise failure


def _speak(setup: BarkSetup, said: dict[int, _Said]) -> Iterator[SynthesisResult]:
    """Run the coarse and the fine stage and the codec; a result is returned as soon as it is ready."""

    def result(item: StageItem, codes: np.ndarray, waveform: np.ndarray) -> SynthesisResult:
        tokens, reason = said[item.index].item.value, said[item.index].finish_reason
        return SynthesisResult(tokens, codes, waveform, setup.sampling_rate, reason, item.request, item.index)

    items = [said[index].item for index in sorted(said)]
    for item in items:
        if not len(item.value):
            yield result(item, _no_codes(setup), np.zeros(0, np.float32))
    items = [item for item in items if len(item.value)]
    # An offloaded stage runs once per window of requests.
    group_size = len(items) + 1 if setup.offload else setup.batch_size
    coarse = run_stage("coarse", setup, items)
    while group := list(islice(coarse, group_size)):
        fine = {item.index: item for item in run_stage("fine", setup, group)}
        for item in run_stage("codec", setup, list(fine.values())):
            yield result(item, fine[item.index].value, item.value)


def text_to_semantic(
    bark: BarkModel,
    requests: Sequence[SynthesisRequest],
    *,
    tokenizer: Any,
    batch_size: int = 8,
    savings: Savings = ALL_SAVINGS,
    transformers_rules: bool = False,
    offload: bool = False,
) -> list[tuple[np.ndarray, str]]:
    """Run the text stage.

    Args:
        requests (`Sequence[SynthesisRequest]`): of those with tokens, the tokens are returned.
        bark, tokenizer, batch_size, savings, transformers_rules, offload: see [`synthesize`].

    Returns:
        `list[tuple[np.ndarray, str]]`: int64 tokens, `(num_tokens,)`, and the finish reason of each request.
    """
    setup = BarkSetup(bark, batch_size, savings=savings, transformers_rules=transformers_rules, offload=offload)
    items = [_read_request(setup, request, index, tokenizer) for index, request in enumerate(requests)]
    said = _semantic_tokens(setup, items)
    return [(said[index].item.value, said[index].finish_reason) for index in range(len(items))]


def semantic_to_codes(
    bark: BarkModel,
    semantic_tokens: Sequence[np.ndarray],
    requests: Sequence[SynthesisRequest] | None = None,
    *,
    batch_size: int = 8,
    savings: Savings = ALL_SAVINGS,
    transformers_rules: bool = False,
    offload: bool = False,
) -> list[np.ndarray]:
    """Run the coarse and the fine stage.

    Args:
        semantic_tokens (`Sequence[np.ndarray]`): `(num_tokens,)` each; empty ones give empty codes.
        requests (`Sequence[SynthesisRequest]`, *optional*): voice, seed and sampling of each; its text or tokens are
            not read. The defaults without any.
        bark, batch_size, savings, transformers_rules, offload: see [`synthesize`].

    Returns:
        `list[np.ndarray]`: int64 codes of shape `(8, num_frames)`.
    """
    setup = BarkSetup(bark, batch_size, savings=savings, transformers_rules=transformers_rules, offload=offload)
    tokens = [checked_tokens(row, may_be_empty=True) for row in semantic_tokens]
    if requests is not None and len(requests) != len(tokens):
        raise ValueError(
            f"{len(tokens)} rows of tokens and {len(requests)} requests were passed; pass one request for each row."
        )
    items = []
    for index, row in enumerate(tokens):
        if len(row):
            request = SynthesisRequest(semantic_tokens=row) if requests is None else requests[index]
            _check_request(setup, request, index, row)
            items.append(StageItem(index, request, row))
    coarse = list(run_stage("coarse", setup, items))
    codes = {item.index: item.value for item in run_stage("fine", setup, coarse)}
    return [codes.get(index, _no_codes(setup)) for index in range(len(tokens))]


def codes_to_waveform(
    bark: BarkModel,
    audio_codes: Sequence[np.ndarray],
    *,
    batch_size: int = 8,
    savings: Savings = ALL_SAVINGS,
    offload: bool = False,
) -> list[np.ndarray]:
    """Run the codec.

    Args:
        audio_codes (`Sequence[np.ndarray]`): `(8, num_frames)` each; empty ones give empty waveforms.
        bark, batch_size, savings, offload: see [`synthesize`].

    Returns:
        `list[np.ndarray]`: float32 waveforms of shape `(num_samples,)`.
    """
    setup = BarkSetup(bark, batch_size, savings=savings, offload=offload)
    items = [StageItem(index, None, np.asarray(codes)) for index, codes in enumerate(audio_codes)]
    for index, _, codes in items:
        shape, num_codebooks = codes.shape, setup.fine.n_fine_codebooks
        if len(shape) != 2 or shape[0] != num_codebooks or codes.dtype.kind not in "iu":
            raise ValueError(
                f"audio_codes {index} are {codes.dtype} of shape {shape}; this Bark's are integers of shape "
                f"({num_codebooks}, num_frames)."
            )
        if codes.size and not 0 <= codes.min() <= codes.max() < setup.codebook_size:
            raise ValueError(
                f"audio_codes {index} range from {codes.min()} to {codes.max()}; this Bark's lie in "
                f"[0, {setup.codebook_size})."
            )
    waveforms = {item.index: item.value for item in run_stage("codec", setup, items)}
    return [waveforms[index] for index in range(len(items))]


def _read_request(setup: BarkSetup, request: SynthesisRequest, index: int, tokenizer: Any) -> StageItem:
    if not isinstance(request, SynthesisRequest):
        raise TypeError(f"Request {index} is a {type(request).__name__}; make it a SynthesisRequest(text=...).")
    _check_request(setup, request, index, request.semantic_tokens)
    if request.text is None:
        return StageItem(index, request, request.semantic_tokens)
    if tokenizer is None:
        raise ValueError(f"Request {index} has a text; pass Bark's `tokenizer`.")
    return StageItem(index, request, setup.text_ids(request.text, tokenizer, f"Request {index}: the text"))


def _check_request(setup: BarkSetup, request: SynthesisRequest, index: int, tokens: np.ndarray | None) -> None:
    vocab_size = setup.semantic.semantic_vocab_size
    prompt, most = request.voice_prompt, setup.max_semantic_tokens
    if prompt is not None and prompt.semantic_vocab_size > vocab_size:
        raise ValueError(
            f"Request {index}: the voice prompt has {prompt.semantic_vocab_size} kinds of semantic tokens and this "
            f"Bark {vocab_size}, so it is for another Bark. Make one with the encoder of this Bark."
        )
    if prompt is not None and (
        prompt.codebook_size > setup.codebook_size or len(prompt.audio_codes) != setup.fine.n_fine_codebooks
    ):
        raise ValueError(
            f"Request {index}: the voice prompt has {len(prompt.audio_codes)} codebooks of {prompt.codebook_size} and "
            f"this Bark {setup.fine.n_fine_codebooks} of {setup.codebook_size}, so it is for another Bark."
        )
    if tokens is not None and len(tokens) and not 0 <= tokens.min() <= tokens.max() < vocab_size:
        raise ValueError(
            f"Request {index}: semantic tokens range from {tokens.min()} to {tokens.max()}; this Bark's lie in "
            f"[0, {vocab_size})."
        )
    if request.max_semantic_tokens is not None and not 1 <= request.max_semantic_tokens <= most:
        raise ValueError(
            f"Request {index}: `max_semantic_tokens` is {request.max_semantic_tokens}; it must be from 1 to {most}."
        )
    if request.min_semantic_tokens > (request.max_semantic_tokens or most):
        raise ValueError(
            f"Request {index}: `min_semantic_tokens` is {request.min_semantic_tokens}, above the maximum of "
            f"{request.max_semantic_tokens or most}."
        )


def _semantic_tokens(setup: BarkSetup, items: list[StageItem]) -> dict[int, _Said]:
    """The semantic tokens of all requests, by index; the text stage runs for requests with a text."""
    said = {item.index: _Said(item, "given") for item in items if item.request.text is None}
    texts = [item for item in items if item.request.text is not None]
    for item in run_stage("semantic", setup, texts):
        tokens = item.value
        if tokens[-1] != setup.semantic.semantic_vocab_size:
            said[item.index] = _Said(item, "length")
        else:
            said[item.index] = _Said(item._replace(value=tokens[:-1]), "eos" if len(tokens) > 1 else "empty")
    return said


def _try_again(setup: BarkSetup, said: dict[int, _Said], retry: Retry, tokenizer: Any) -> None:
    """Run the text stage for the requests of `retry`, and store the results in `said` that are better."""
    again = []
    for index, (item, finish_reason) in sorted(said.items()):
        if finish_reason in FLAWS:
            request = retry(index, item.request, finish_reason)
            if request is not None:
                again.append(_read_request(setup, request, index, tokenizer))
    for index, attempt in _semantic_tokens(setup, again).items():
        said[index] = min(said[index], attempt, key=lambda attempted: flaw_of(attempted.finish_reason))


def _no_codes(setup: BarkSetup) -> np.ndarray:
    return np.zeros((setup.fine.n_fine_codebooks, 0), np.int64)


__all__ = [
    "codes_to_waveform",
    "semantic_to_codes",
    "synthesize",
    "text_to_semantic",
]
