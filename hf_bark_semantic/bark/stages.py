"""The four stages of Bark for many rows at once. Each stage takes items and returns them with a new value.

    StageItem      a request on its way through the stages
    run_stage      one stage over any number of items, in any order, with smaller batches when memory runs out
    text_stage     text ids -> semantic tokens      rows enter as others leave
    coarse_stage   semantic tokens -> coarse codes  window by window, rows enter between windows
    fine_stage     coarse codes -> codes            windows of one length, so rows need no padding
    codec_stage    codes -> waveform                padded on the right, which a causal decoder never reads

`prompting` computes the inputs of the stages, with their lengths, windows and paddings.
"""

import contextlib
import gc
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from transformers.models.bark.generation_configuration_bark import BarkFineGenerationConfig

from .prompting import (
    coarse_codes,
    coarse_columns,
    coarse_history,
    coarse_inputs,
    coarse_window,
    fine_history,
    num_fine_windows,
    semantic_columns,
    text_prefix,
)
from .request import SynthesisRequest
from .sampling import Sampling, Temperatures, View, pick_tokens
from .setup import BarkSetup
from .steps import STEPS_PER_READ, Head, HostSteps, steps_for
from .transformer import DecodingBatch, FineDecoder, legal_head
from .voice_prompt import VoicePrompt

OUT_OF_MEMORY = ("out of memory", "not enough memory", "allocate memory")  # CUDA, CPU on Windows, CPU elsewhere
CODEC_PADDING = 1.2  # clips are decoded together if the longest is at most this many times as long as the shortest


class StageItem(NamedTuple):
    """A request between two stages; `value` is the input of the next one (text ids, tokens, coarse codes, codes)."""

    index: int
    request: Any  # the SynthesisRequest; `None` if tokens or codes were given
    value: Any


def run_stage(name: str, setup: BarkSetup, items: list[StageItem]) -> Iterator[StageItem]:
    """Run a stage.

    Args:
        name (`str`): `"semantic"`, `"coarse"`, `"fine"` or `"codec"`.
        setup (`BarkSetup`): the Bark, and how to run it.
        items (`list[StageItem]`): their values are the stage's input.

    Returns:
        `Iterator[StageItem]`: the items, each as soon as its value, the stage's output, is ready.

    Raises:
        MemoryError: there is not enough memory for a single item.
    """
    stage, model = {
        "semantic": (text_stage, setup.bark.semantic),
        "coarse": (coarse_stage, setup.bark.coarse_acoustics),
        "fine": (fine_stage, setup.bark.fine_acoustics),
        "codec": (codec_stage, setup.bark.codec_model),
    }[name]
    by_sampling: dict[Sampling | None, dict[int, StageItem]] = {}  # rows of a batch differ only in temperature
    for item in items:
        sampling = setup.sampling(name, item.request)
        shared = None if sampling is None else replace(sampling, temperature=None)
        by_sampling.setdefault(shared, {})[item.index] = item
    with _on_accelerator(model, setup.offload):
        for sampling, pending in by_sampling.items():
            batch_size = setup.batch_size
            while pending:
                batch_size = min(batch_size, len(pending))
                try:
                    for item in stage(setup, sampling, list(pending.values()), batch_size):
                        del pending[item.index]
                        yield item
                except (RuntimeError, MemoryError) as error:
                    if not _is_out_of_memory(error):
                        raise
                    if batch_size == 1:
                        raise MemoryError(
                            f"There is not enough memory for the {name} stage of a single utterance (request "
                            f"{next(iter(pending))}). Use a smaller Bark, load it with dtype=torch.bfloat16, or "
                            "split the text."
                        ) from error
                    batch_size //= 2
                if pending:  # memory ran out; the failed batch is no longer referenced
                    _free_memory()


def _free_memory():
    gc.collect()
    if torch.accelerator.is_available():  # torch.accelerator.empty_cache is newer than torch 2.7
        torch.get_device_module(torch.accelerator.current_accelerator()).empty_cache()


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(phrase in str(error).lower() for phrase in OUT_OF_MEMORY)


@contextlib.contextmanager
def _on_accelerator(model: nn.Module, offload: bool):
    if not offload:
        yield
        return
    home = next(model.parameters()).device
    model.to(torch.accelerator.current_accelerator())
    try:
        yield
    finally:
        model.to(home)


def _generator(request: SynthesisRequest, stage: int) -> torch.Generator:
    """The generator of a row's random numbers in a stage; on the CPU, so that they are the same for every device."""
    seed = np.random.SeedSequence([request.seed, stage]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(seed >> np.uint64(1)))


def _prompt_for(item: StageItem, *modes: str) -> VoicePrompt | None:
    """The voice prompt of a request, if its mode is one of these."""
    return item.request.voice_prompt if item.request.prompt_mode in modes else None


def _leave(batch: DecodingBatch, rows: list, place: int) -> None:
    """Remove a row from a batch; the last row moves into its slots, one for each of its views."""
    last, views = len(rows) - 1, len(rows[place].views)
    if place != last:
        for view in range(views):
            batch.move(last * views + view, place * views + view)
        rows[place] = rows[last]
    rows.pop()


class _TextRow:
    def __init__(self, setup: BarkSetup, item: StageItem, views: list[View]):
        self.setup, self.item, self.tokens, self.views = setup, item, [], views
        self.limit = setup.token_limit(item.request)
        self.num_required = item.request.min_semantic_tokens
        self.temperature = setup.temperature("semantic", item.request)
        self.uniforms = torch.rand(self.limit, generator=_generator(item.request, 0)).tolist()
        prompt = _prompt_for(item, "full", "semantic")
        self.prefixes = [  # each (2, max_input_semantic_length)
            text_prefix(item.value if view.content else (), prompt if view.voice else None, setup.configs)
            for view in views
        ]

    @property
    def num_generated(self) -> int:
        return len(self.tokens)

    @property
    def last_ids(self) -> list[int]:
        return [self.tokens[-1] if self.tokens else self.setup.semantic.semantic_infer_token] * len(self.views)

    @property
    def finished(self) -> bool:
        return self.num_generated == self.limit or self.tokens[-1:] == [self.setup.semantic.semantic_vocab_size]

    def append(self, token: int) -> None:
        self.tokens.append(token)

    def value(self) -> np.ndarray:
        return np.array(self.tokens, np.int64)


@torch.inference_mode()
def text_stage(setup: BarkSetup, sampling: Sampling, items: list[StageItem], batch_size: int) -> Iterator[StageItem]:
    """Text ids to semantic tokens, `(num_tokens,)`, followed by `semantic_vocab_size` if the model ended."""
    model = setup.bark.semantic
    if setup.savings.sort_by_length:  # a longer text takes longer
        items = sorted(items, key=lambda item: (-len(item.value), -setup.token_limit(item.request)))
    queue, rows = deque(items), []
    guidance = setup.guidance("semantic", sampling)
    views = guidance.views
    length = setup.semantic.max_input_semantic_length
    limit = max(setup.token_limit(item.request) for item in items)
    batch = DecodingBatch(model, len(views) * batch_size, length + limit, setup.savings, len(views))
    head = Head(legal_head(model.lm_head, semantic_columns(setup.configs), setup.savings), 0)  # the end comes last
    steps = steps_for(setup, sampling, guidance, batch, [head], predicts_end=True, most=STEPS_PER_READ)
    while queue or rows:
        first_new = len(rows)
        if setup.savings.refill or not rows:
            while queue and len(rows) < batch_size:
                rows.append(_TextRow(setup, queue.popleft(), views))
        if len(rows) > first_new:
            prefixes = np.stack([prefix for row in rows[first_new:] for prefix in row.prefixes])
            prefixes = torch.from_numpy(prefixes).to(batch.device)
            embeds = model.input_embeds_layer(prefixes)  # (num_slots, 2, length, hidden_size)
            slots = range(len(views) * first_new, len(views) * len(rows))
            batch.prefill(slots, embeds.sum(1), [length] * len(slots))
        num_steps = min(steps.most, max(row.limit - row.num_generated for row in rows))
        yield from _take_steps("semantic", setup, steps, rows, num_steps)


def _take_steps(
    stage: str, setup: BarkSetup, steps: HostSteps, rows: list, num_steps: int, turn: int = 0
) -> Iterator[StageItem]:
    """Take steps of all rows, see [`HostSteps.run`]; remove the finished rows, and yield their items."""
    for _ in range(num_steps):
        setup.announce(stage)
    for row, ids in zip(rows, steps.run(rows, num_steps, turn), strict=True):
        for id_ in ids:
            if not row.finished:
                row.append(id_)
    for place in reversed(range(len(rows))):
        row = rows[place]
        if row.finished:
            _leave(steps.batch, rows, place)
            yield row.item._replace(value=row.value())


class _CoarseRow:
    """A row of the coarse stage, whose input is a window of semantic tokens, then a window of coarse ids."""

    def __init__(self, setup: BarkSetup, item: StageItem, views: list[View]):
        self.setup, self.item = setup, item
        history, ids = coarse_history(_prompt_for(item, "full", "acoustic"), setup.configs)
        if item.request.prompt_mode == "acoustic":
            history = np.full_like(history, setup.coarse.coarse_semantic_pad_token)
        self.ids, self.num_history_ids = ids.tolist(), len(ids)
        self.limit = setup.configs.num_frames(len(item.value)) * setup.coarse.n_coarse_codebooks
        self.num_required = 0
        self.temperature = setup.temperature("coarse", item.request)
        self.uniforms = torch.rand(self.limit, generator=_generator(item.request, 1)).tolist()
        self.views = [_CoarseView(setup, self, view, history) for view in views]

    @property
    def num_generated(self) -> int:
        return len(self.ids) - self.num_history_ids

    @property
    def last_ids(self) -> list[int]:
        return [view.last_id for view in self.views]

    @property
    def finished(self) -> bool:
        return self.num_generated == self.limit

    def append(self, id_: int) -> None:
        self.ids.append(id_)

    def value(self) -> np.ndarray:
        return coarse_codes(self.ids[self.num_history_ids :], self.setup.configs)


class _CoarseView:
    """One view of a row: with or without its voice, with or without its semantic tokens."""

    def __init__(self, setup: BarkSetup, row: _CoarseRow, view: View, history: np.ndarray):
        self.setup, self.row, self.content = setup, row, view.content
        history = history if view.voice else history[:0]
        self.num_history_tokens = len(history)
        self.first_id = 0 if view.voice else row.num_history_ids
        self.semantic = np.concatenate([history, row.item.value])
        self.cached_window = None

    def window(self) -> tuple[int, int]:
        """The first semantic token and the first coarse id of the model's input for the next ids."""
        row, num_history_ids = self.row, self.row.num_history_ids - self.first_id
        first_token, first_id = coarse_window(
            self.num_history_tokens, num_history_ids, row.num_generated, self.setup.configs
        )
        return first_token if self.content else 0, self.first_id + first_id

    def prefix(self) -> np.ndarray:
        first_token, first_id = self.window()
        tokens = self.semantic[first_token:] if self.content else ()
        return coarse_inputs(tokens, self.row.ids[first_id:], self.setup.configs)

    @property
    def last_id(self) -> int:
        ids = self.row.ids
        return ids[-1] if len(ids) > self.first_id else self.setup.coarse.coarse_infer_token


@torch.inference_mode()
def coarse_stage(setup: BarkSetup, sampling: Sampling, items: list[StageItem], batch_size: int) -> Iterator[StageItem]:
    """Semantic tokens to coarse codes, `(n_coarse_codebooks, num_frames)`; rows enter at window boundaries."""
    model, config = setup.bark.coarse_acoustics, setup.coarse
    legal = coarse_columns(setup.configs)
    if setup.transformers_rules:
        legal[-1] = slice(legal[-1].start, model.config.output_vocab_size)
    heads = [Head(legal_head(model.lm_head, columns, setup.savings), columns.start) for columns in legal]
    if setup.savings.sort_by_length:
        items = sorted(items, key=lambda item: -len(item.value))
    queue, rows = deque(items), []
    guidance = setup.guidance("coarse", sampling)
    longest = config.max_coarse_input_length + 1 + config.max_coarse_history + config.sliding_window_len
    num_views = len(guidance.views)
    batch = DecodingBatch(model, num_views * batch_size, longest, setup.savings, num_views)
    steps = steps_for(setup, sampling, guidance, batch, heads, most=config.sliding_window_len)
    while queue or rows:
        if setup.savings.refill or not rows:
            while queue and len(rows) < batch_size:
                rows.append(_CoarseRow(setup, queue.popleft(), guidance.views))
        views = [view for row in rows for view in row.views]
        _prefill_moved_windows(setup, model, batch, views)
        offset = 0
        while rows and offset < config.sliding_window_len:
            left = max(row.limit - row.num_generated for row in rows)
            num_steps = min(steps.most, config.sliding_window_len - offset, left)
            yield from _take_steps("coarse", setup, steps, rows, num_steps, offset % len(heads))
            offset += num_steps


def _prefill_moved_windows(setup: BarkSetup, model: nn.Module, batch: DecodingBatch, views: list[_CoarseView]) -> None:
    """Recompute keys and values of views whose window has moved, except for the last id, which the next step adds."""
    moved = [
        slot for slot, view in enumerate(views) if not setup.savings.keep_cache or view.window() != view.cached_window
    ]
    if not moved:
        return
    prefixes = [views[slot].prefix()[:-1] for slot in moved]
    ids = np.zeros((len(moved), max(map(len, prefixes))), np.int64)
    for padded, prefix in zip(ids, prefixes, strict=True):
        padded[: len(prefix)] = prefix
    embeds = model.input_embeds_layer(torch.from_numpy(ids).to(batch.device))  # (num_moved, longest, hidden_size)
    batch.prefill(moved, embeds, [len(prefix) for prefix in prefixes])
    for slot in moved:
        views[slot].cached_window = views[slot].window()


class _FineRow:
    """The codes of a row, after those of its history. Windows of a fixed length complete them from left to right."""

    def __init__(self, setup: BarkSetup, item: StageItem, device: torch.device):
        config, self.item = setup.fine, item
        self.temperature = setup.temperature("fine", item.request)
        num_coarse, num_frames = item.value.shape
        self.generator = _generator(item.request, 2)
        history = fine_history(_prompt_for(item, "full", "acoustic"), setup.configs)
        self.clip = slice(history.shape[1], history.shape[1] + num_frames)
        length = max(self.clip.stop, config.max_fine_input_length)
        codes = np.full((length, config.n_fine_codebooks), setup.codebook_size, np.int64)
        codes[: self.clip.start] = history.T
        codes[self.clip, :num_coarse] = item.value.T
        self.codes = torch.from_numpy(codes).to(device)  # (length, n_fine_codebooks)
        self.num_windows, self.num_done = num_fine_windows(self.clip.stop, setup.configs), 0

    def window(self, config: BarkFineGenerationConfig) -> tuple[int, int, int]:
        """The first frame of the next window; within the window, the first frame to predict and the clip's end."""
        start = min(self.num_done * config.max_fine_history_length, len(self.codes) - config.max_fine_input_length)
        fill = min(
            self.clip.start + self.num_done * config.max_fine_history_length,
            len(self.codes) - config.max_fine_history_length,
        )
        return start, fill - start, min(self.clip.stop - start, config.max_fine_input_length)


@torch.inference_mode()
def fine_stage(setup: BarkSetup, sampling: Sampling, items: list[StageItem], batch_size: int) -> Iterator[StageItem]:
    """Coarse codes to all codes, `(n_fine_codebooks, num_frames)`."""
    device = setup.bark.fine_acoustics.position_embeds_layer.weight.device
    decoder = FineDecoder(setup.bark.fine_acoustics, setup.codebook_size, setup.savings)
    queue, rows = deque(items), []
    while queue or rows:
        while queue and len(rows) < batch_size:
            rows.append(_FineRow(setup, queue.popleft(), device))
        _fill_windows(setup, decoder, sampling, rows)
        for row in rows:
            if row.num_done == row.num_windows:
                yield row.item._replace(value=row.codes[row.clip].T.cpu().numpy().copy())
        rows = [row for row in rows if row.num_done < row.num_windows]


def _fill_windows(setup: BarkSetup, decoder: FineDecoder, sampling: Sampling, rows: list[_FineRow]) -> None:
    """Fill the next window of each row, codebook after codebook.

    The padding after a clip gets codes as well, because later codebooks read them. Only the last codebook is not read.
    """
    config, num_coarse = setup.fine, setup.coarse.n_coarse_codebooks
    layers = setup.bark.fine_acoustics.input_embeds_layers
    length = config.max_fine_input_length
    windows = [row.window(config) for row in rows]
    # (num_rows, length, n_fine_codebooks)
    codes = torch.stack([row.codes[start : start + length] for row, (start, _, _) in zip(rows, windows, strict=True)])
    fills = torch.tensor([fill for _, fill, _ in windows], device=codes.device)
    first, ends = min(fill for _, fill, _ in windows), max(end for _, _, end in windows)
    temperatures = [row.temperature for row in rows]
    if any(temperatures):  # (num_rows, codebooks to fill, length)
        shape = (config.n_fine_codebooks - num_coarse, length)
        uniforms = torch.stack([torch.rand(shape, generator=row.generator) for row in rows]).to(codes.device)

    embeds = sum(layers[codebook](codes[..., codebook]) for codebook in range(num_coarse))
    for codebook in range(num_coarse, config.n_fine_codebooks):
        setup.announce("fine")
        last = ends if codebook == config.n_fine_codebooks - 1 and setup.savings.needed_positions else length
        embed, wanted = layers[codebook], slice(first, last)
        logits = decoder.logits(codebook, embeds + embed(codes[..., codebook]), wanted)
        of_positions = [temperature for temperature in temperatures for _ in range(logits.shape[1])]
        picked = pick_tokens(
            logits.flatten(0, 1),
            sampling,
            uniforms[:, codebook - num_coarse, wanted].flatten() if any(temperatures) else None,
            temperatures=Temperatures.of(of_positions, logits.device),
            transformers_rules=setup.transformers_rules,
        ).view(len(rows), -1)
        filled = torch.arange(first, last, device=codes.device) >= fills[:, None]
        codes[:, wanted, codebook] = picked.where(filled, codes[:, wanted, codebook])
        embeds = embeds + embed(codes[..., codebook])
    for row, (start, _, _), window_codes in zip(rows, windows, codes, strict=True):
        row.codes[start : start + length] = window_codes
        row.num_done += 1


@torch.inference_mode()
def codec_stage(setup: BarkSetup, sampling: None, items: list[StageItem], batch_size: int) -> Iterator[StageItem]:
    """Codes to waveforms, `(num_samples,)`.

    A causal decoder never reads what follows a clip, so padding on the right changes nothing. But it pads a clip on
    the left with a reflection of its first frames, so a clip that is not longer than the kernel is decoded alone.
    """
    codec, config = setup.bark.codec_model, setup.bark.codec_model.config
    device = next(codec.parameters()).device
    causal = (
        config.model_type == "encodec"
        and config.use_causal_conv
        and config.norm_type == "weight_norm"
        and config.trim_right_ratio == 1.0
    )
    alone = [item for item in items if not causal or item.value.shape[1] <= config.kernel_size]
    together = [item for item in items if causal and item.value.shape[1] > config.kernel_size]
    together.sort(key=lambda item: item.value.shape[1])
    size = batch_size if setup.savings.batched_codec else 1
    if setup.savings.few_rows and device.type == "cpu":
        size = 1
    chunks = [[item] for item in alone]
    for item in together:
        fits = len(chunks) > len(alone) and len(chunks[-1]) < size
        if fits and item.value.shape[1] <= CODEC_PADDING * chunks[-1][0].value.shape[1]:
            chunks[-1].append(item)
        else:
            chunks.append([item])
    for chunk in chunks:
        setup.announce("codec")
        num_frames = max(item.value.shape[1] for item in chunk)
        if num_frames == 0:
            yield chunk[0]._replace(value=np.zeros(0, np.float32))
            continue
        codes = np.zeros((setup.fine.n_fine_codebooks, len(chunk), num_frames), np.int64)
        for row, item in enumerate(chunk):
            codes[:, row, : item.value.shape[1]] = item.value
        embeds = codec.quantizer.decode(torch.from_numpy(codes).to(device))  # (num_rows, hidden_size, num_frames)
        decoded = codec.decoder(embeds)[:, 0].float().cpu().numpy()  # (num_rows, num_samples)
        hop_length = decoded.shape[1] // num_frames
        for item, waveform in zip(chunk, decoded, strict=True):
            yield item._replace(value=waveform[: item.value.shape[1] * hop_length].copy())


__all__ = ["StageItem", "run_stage"]
