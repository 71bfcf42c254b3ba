"""The transformers of Bark's stages, run on the weights of an unmodified `BarkModel`.

    Savings              computations that can be left out without changing a token
    Block, attend        one block, and the attention in it; training runs them, too
    DecodingBatch        rows of a causal stage with their keys and values: prefill, step, move
    FineDecoder          the fine stage, in which every position attends to all positions
    legal_head           the rows of a language model head whose ids may be chosen

Blocks are run through their own modules, so adapters and quantized layers work. Only the attention is replaced, and on
a CPU plain linear layers are replaced by packed ones. A row's result depends neither on its place in a batch nor on
the other rows.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.bark.modeling_bark import BarkMLP

from .packed_linear import Linear, is_plain_linear, packed_linear

POSITIONS_PER_THREAD = 512  # that a CPU computes at once; with fewer, threads have too little to do
QUERY_SLICE = 192  # queries whose scores are in memory at once when a CPU attends in bfloat16
SMALL_LAYER = 2**20  # weights of a linear layer, and
SMALL_PRODUCT = 2**23  # weights times rows: up to both, one CPU thread is faster than several that wait for each other


@dataclass(frozen=True)
class Savings:
    """Computations that are saved. None of them changes a token; tests switch each off to prove it.

    Args:
        keep_cache (`bool`): the coarse stage reuses its keys and values until its window has moved.
        legal_rows (`bool`): language model heads compute only the ids that may be chosen.
        needed_positions (`bool`): the last block and the head run only at positions where a token is chosen.
        refill (`bool`): the next row takes the place of a finished row at once.
        sort_by_length (`bool`): the longest rows of the text and coarse stages start first.
        batched_codec (`bool`): the codec decodes several rows at once, where it is causal.
        fused_attention (`bool`): `scaled_dot_product_attention` instead of matrix products and a softmax. It is slow
            in bfloat16 on a CPU. There, many positions are computed by products of slices of the queries, and a single
            position by the fused kernel on keys and values in float32.
        few_rows (`bool`): on a CPU, rows of many positions are computed a few at a time, so that the activations stay
            in the cache and no fresh memory is needed; and the codec decodes one clip at a time.
        packed_weights (`bool`): on a CPU, linear layers use a copy of their weights in oneDNN's layout, which takes
            the memory of one more stage.
        one_thread (`bool`): on a CPU, a step of a small model runs on one thread.
        device_steps (`bool`, *optional*): the host reads the chosen ids only once in several steps. `None`: only on an
            accelerator, which would otherwise wait for the host. On a CPU it costs more than it saves.
    """

    keep_cache: bool = True
    legal_rows: bool = True
    needed_positions: bool = True
    refill: bool = True
    sort_by_length: bool = True
    batched_codec: bool = True
    fused_attention: bool = True
    few_rows: bool = True
    packed_weights: bool = True
    one_thread: bool = True
    device_steps: bool | None = None


class Block(NamedTuple):
    """The functions of a `BarkBlock`: packed ones for plain linear layers, otherwise its modules, such as adapters."""

    layernorm_1: nn.Module
    att_proj: Linear
    out_proj: Linear
    layernorm_2: nn.Module
    mlp: Callable[[torch.Tensor], torch.Tensor]
    num_heads: int

    @classmethod
    def of(cls, block: nn.Module, savings: Savings) -> "Block":
        """Make a block from a `BarkBlock`; `savings.packed_weights` is used."""
        attention, mlp = block.attn, block.mlp
        feed_forward = mlp
        if type(mlp) is BarkMLP:
            inside, outside = _linear(mlp.in_proj, savings), _linear(mlp.out_proj, savings)
            feed_forward = _dropped(lambda hidden: outside(mlp.gelu(inside(hidden))), mlp.dropout)
        return cls(
            block.layernorm_1,
            _linear(attention.att_proj, savings),
            _dropped(_linear(attention.out_proj, savings), attention.resid_dropout),
            block.layernorm_2,
            feed_forward,
            attention.num_heads,
        )

    def heads(
        self, hidden: torch.Tensor, dtype: torch.dtype | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query, key and value, each `(num_rows, num_heads, num_positions, head_dim)`, of the block's input."""
        projected = self.att_proj(self.layernorm_1(hidden)).to(dtype or hidden.dtype)
        return projected.view(*hidden.shape[:2], 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)

    def finish(self, hidden: torch.Tensor, attended: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the rest of the block, after the attention.

        Args:
            hidden (`torch.Tensor` of shape `(num_rows, num_positions, hidden_size)`): the block's input.
            attended (`torch.Tensor` of shape `(num_rows, num_heads, num_positions, head_dim)`): see [`attend`].
            kept (`torch.BoolTensor` of shape `(num_rows, num_positions)`, *optional*): positions to compute.

        Returns:
            `torch.Tensor`: of the input's shape, or `(num_kept, hidden_size)`.
        """
        attended = attended.transpose(1, 2).reshape(hidden.shape)
        if kept is not None:
            hidden, attended = hidden[kept], attended[kept]
        hidden = hidden + self.out_proj(attended)
        return hidden + self.mlp(self.layernorm_2(hidden))


def _linear(module: nn.Module, savings: Savings) -> Linear:
    if savings.packed_weights and is_plain_linear(module):
        return packed_linear(module.weight, module.bias)
    return module


def _dropped(function: Linear, dropout: nn.Dropout) -> Linear:
    return (lambda hidden: dropout(function(hidden))) if dropout.training else function


def embed_positions(model: nn.Module, inputs_embeds: torch.Tensor) -> torch.Tensor:
    """The input of a stage's first block, `(num_rows, num_positions, hidden_size)`, from embeddings of this shape."""
    positions = torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device)
    return model.drop(inputs_embeds + model.position_embeds_layer(positions))


def rows_at_once(num_rows: int, num_positions: int, device: torch.device, savings: Savings) -> int:
    """The number of rows of `num_positions` positions that are computed at once, by `savings.few_rows`."""
    if not savings.few_rows or device.type != "cpu":
        return max(1, num_rows)
    return max(1, POSITIONS_PER_THREAD * torch.get_num_threads() // num_positions)


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    causal: bool = False,
    mask: torch.Tensor | None = None,
    dropout: float | None = None,
    fused: bool = True,
) -> torch.Tensor:
    """Softmax attention, by the fastest kernel for the case.

    PyTorch's fused kernel is slow in bfloat16 on a CPU. Products of slices of the queries take 0.5 to 0.7 of its time
    in inference, three quarters in training, and a third in training with dropout. They round scores to bfloat16, as
    transformers does.

    Args:
        query, key, value (`torch.Tensor` of shape `(num_rows, num_heads, num_positions, head_dim)`).
        causal (`bool`): a position does not attend to later ones.
        mask (`torch.Tensor`, *optional*): added to the scores; for inference.
        dropout (`float`, *optional*): of the attention weights; `None` for inference.
        fused (`bool`): `False` for plain products and a softmax, the reference of the tests; for inference.

    Returns:
        `torch.Tensor`: of the query's shape.
    """
    if fused and query.device.type == "cpu" and query.dtype == torch.bfloat16 and mask is None:
        return _attend_in_slices(query, key, value, causal, dropout or 0.0)
    if fused:
        options = {"attn_mask": mask, "is_causal": causal, "dropout_p": dropout or 0.0}
        return F.scaled_dot_product_attention(query, key, value, **options)
    weights = query @ key.transpose(-1, -2) * (1.0 / math.sqrt(query.shape[-1]))
    if causal:
        hidden_from = torch.ones(weights.shape[-2:], dtype=torch.bool, device=weights.device).triu(1)
        weights = weights.masked_fill(hidden_from, float("-inf"))
    if mask is not None:
        weights = weights + mask
    return weights.softmax(-1) @ value


def _attend_in_slices(query, key, value, causal: bool, dropout: float) -> torch.Tensor:
    length, query, attended = query.shape[2], query * query.shape[3] ** -0.5, []
    key, value = key.contiguous(), value.contiguous()  # each is read by many products
    future = query.new_full((QUERY_SLICE, QUERY_SLICE), -torch.inf).triu(1)
    for start in range(0, length, QUERY_SLICE):
        stop = min(length, start + QUERY_SLICE)
        num_keys = stop if causal else length
        scores = query[:, :, start:stop] @ key[:, :, :num_keys].transpose(2, 3)
        if causal:
            scores[..., start:] += future[: stop - start, : stop - start]
        attended.append(F.dropout(scores.softmax(-1), dropout) @ value[:, :, :num_keys])
    return torch.cat(attended, dim=2)


class DecodingBatch:
    """Rows of a causal stage, each with its own length, in preallocated keys and values.

    Row `i` is in slot `i`; [`step`] advances the first `len(token_ids)` slots. Positions after a row's length have old
    values, which are overwritten before they are read. [`step_on_device`] advances all slots; its caller updates
    `lengths`.

    Args:
        model (`BarkCausalModel`): the text or coarse stage.
        batch_size (`int`): number of slots.
        capacity (`int`): positions per slot.
        savings (`Savings`): `needed_positions`, `fused_attention`, `few_rows`, `packed_weights` and `one_thread` are
            used.
        num_views (`int`): views of a request ([`Guidance`]), which are in neighbouring slots. Rows of one view have
            about the same length, so attention is computed separately for each view.

    For a Bark in bfloat16 on a CPU, keys and values are stored in float32, because a single position then attends to
    them in less time: 0.6 to 0.7 of it for one and eight rows, and a fifth for 32.
    """

    def __init__(self, model: nn.Module, batch_size: int, capacity: int, savings: Savings, num_views: int = 1):
        config = model.config
        self.model, self.savings, self.num_views = model, savings, num_views
        self.blocks = [Block.of(block, savings) for block in model.layers]
        self.device = model.position_embeds_layer.weight.device
        self.num_heads, self.head_dim = config.num_heads, config.hidden_size // config.num_heads
        self.largest_layer = max(weight.numel() for weight in model.layers.parameters())
        self.lengths, self.capacity = [0] * batch_size, capacity
        self.last_position = min(capacity, model.position_embeds_layer.num_embeddings) - 1
        shape = (config.num_layers, batch_size, self.num_heads, capacity, self.head_dim)
        in_float = savings.fused_attention and self.device.type == "cpu" and model.dtype == torch.bfloat16
        self.keys = torch.zeros(shape, dtype=torch.float32 if in_float else model.dtype, device=self.device)
        self.values = torch.zeros_like(self.keys)
        # where the positions of a row's heads begin in keys[layer].view(-1, head_dim): (batch_size, num_heads)
        rows_of_heads = torch.arange(batch_size * self.num_heads, device=self.device)
        self.first_position = (rows_of_heads * capacity).view(batch_size, self.num_heads)
        self.slots_of_positions = torch.arange(capacity, device=self.device)

    def prefill(self, slots: Sequence[int], inputs_embeds: torch.Tensor, lengths: Sequence[int]) -> None:
        """Start new rows in some slots.

        Args:
            slots (`Sequence[int]`): one per row, in ascending order.
            inputs_embeds (`torch.Tensor` of shape `(num_rows, num_positions, hidden_size)`): token embeddings, padded
                at the end with any values.
            lengths (`Sequence[int]`): positions of each row without padding.
        """
        for view in range(self.num_views):
            rows = [row for row, slot in enumerate(slots) if slot % self.num_views == view]
            size = rows_at_once(len(rows), max(lengths), self.device, self.savings)
            for group in (rows[start : start + size] for start in range(0, len(rows), size)):
                longest = max(lengths[row] for row in group)
                self._prefill([slots[row] for row in group], inputs_embeds[group, :longest])
        for slot, length in zip(slots, lengths, strict=True):
            self.lengths[slot] = length

    def _prefill(self, slots: list[int], inputs_embeds: torch.Tensor) -> None:
        num_positions = inputs_embeds.shape[1]
        step = slots[1] - slots[0] if len(slots) > 1 else 1
        # with a tensor as the index, a CPU takes 2 to 8 times as long
        evenly = slots == list(range(slots[0], slots[-1] + 1, step))
        index = slice(slots[0], slots[-1] + 1, step) if evenly else torch.tensor(slots, device=self.device)
        hidden = embed_positions(self.model, inputs_embeds)
        last = len(self.blocks) - 1
        for layer, block in enumerate(self.blocks):
            query, key, value = block.heads(hidden)
            self.keys[layer, index, :, :num_positions] = key.to(self.keys.dtype)
            self.values[layer, index, :, :num_positions] = value.to(self.keys.dtype)
            if layer == last and self.savings.needed_positions:
                break  # nothing reads the last block's output at these positions
            attended = attend(query, key, value, causal=True, fused=self.savings.fused_attention)
            hidden = block.finish(hidden, attended)

    def step(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Append one token to each of the first rows.

        Args:
            token_ids (`Sequence[int]`): one per row.

        Returns:
            `torch.Tensor` of shape `(num_rows, hidden_size)`: the head's input for the next tokens.
        """
        num_rows = len(token_ids)
        lengths = self.lengths[:num_rows]
        tokens, positions = torch.tensor([token_ids, lengths], device=self.device)  # (num_rows,) each
        longest = [max(lengths[kind]) + 1 for kind in self._kinds(num_rows)]
        uneven = [min(lengths[kind]) + 1 < last for kind, last in zip(self._kinds(num_rows), longest, strict=True)]
        hidden = self._step(tokens, positions, longest, uneven)
        for row in range(num_rows):
            self.lengths[row] += 1
        return hidden

    def step_on_device(self, token_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Append one token to each row, in constant shapes and without reading `lengths`.

        Args:
            token_ids, positions (`torch.LongTensor` of shape `(num_slots,)`): one per slot, on the model's device.

        Returns:
            `torch.Tensor` of shape `(num_slots, hidden_size)`: see [`step`].
        """
        return self._step(token_ids, positions, [self.capacity] * self.num_views, [True] * self.num_views)

    def _kinds(self, num_rows: int) -> list[slice]:
        """The slots of each view."""
        return [slice(view, num_rows, self.num_views) for view in range(self.num_views)]

    def _step(
        self, tokens: torch.Tensor, positions: torch.Tensor, longest: Sequence[int], uneven: Sequence[bool]
    ) -> torch.Tensor:
        """A step of the first rows, given the number of positions of each view, and whether its rows differ in it."""
        num_rows = len(tokens)
        written = (self.first_position[:num_rows] + positions[:, None]).view(-1)  # (num_rows * num_heads,)
        kinds = self._kinds(num_rows)
        masks = [
            self._mask(positions[kind], length) if differ else None
            for kind, length, differ in zip(kinds, longest, uneven, strict=True)
        ]
        hidden = self.model.input_embeds_layer(tokens) + self.model.position_embeds_layer(positions)
        hidden = hidden[:, None]  # (num_rows, 1, hidden_size)
        for layer, block in enumerate(self.blocks):
            query, key, value = block.heads(hidden, self.keys.dtype)
            keys, values = self.keys[layer], self.values[layer]
            keys.view(-1, self.head_dim).index_copy_(0, written, key.reshape(-1, self.head_dim))
            values.view(-1, self.head_dim).index_copy_(0, written, value.reshape(-1, self.head_dim))
            attended = [  # of each kind, (num_rows / num_views, num_heads, 1, head_dim)
                attend(
                    query[kind], keys[kind, :, :length], values[kind, :, :length],
                    mask=mask, fused=self.savings.fused_attention,
                )
                for kind, mask, length in zip(kinds, masks, longest, strict=True)
            ]  # fmt: skip
            rows = attended[0] if self.num_views == 1 else torch.stack(attended, 1).flatten(0, 1)
            hidden = block.finish(hidden, rows.to(hidden.dtype))
        return self.model.layernorm_final(hidden)[:, 0]

    def _mask(self, positions: torch.Tensor, length: int) -> torch.Tensor:
        """Mask all that follows `positions`, one for each row: `(num_rows, 1, 1, length)`."""
        visible = self.slots_of_positions[:length] <= positions[:, None]
        mask = torch.zeros((), dtype=self.keys.dtype, device=self.device)
        return mask.where(visible, float("-inf"))[:, None, None]

    @contextmanager
    def threads(self, num_rows: int) -> Iterator[None]:
        """Run a step, with its head, on one thread or on all, whichever is faster for `num_rows` rows."""
        num_threads, layer = torch.get_num_threads(), self.largest_layer
        small = layer <= SMALL_LAYER and layer * num_rows <= SMALL_PRODUCT
        if not (small and num_threads > 1 and self.savings.one_thread and self.device.type == "cpu"):
            yield
            return
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(num_threads)

    def move(self, source: int, target: int) -> None:
        """Copy a row into another slot."""
        length = self.lengths[target] = self.lengths[source]
        for cache in (self.keys, self.values):
            cache[:, target, :, :length] = cache[:, source, :, :length]


class FineDecoder:
    """The fine stage.

    Args:
        model (`BarkFineModel`): the fine stage.
        num_codes (`int`): number of codes that may be chosen, from 0.
        savings (`Savings`): `needed_positions`, `legal_rows`, `fused_attention`, `few_rows` and `packed_weights` are
            used.
    """

    def __init__(self, model: nn.Module, num_codes: int, savings: Savings):
        self.model, self.savings = model, savings
        self.blocks = [Block.of(block, savings) for block in model.layers]
        self.heads = [legal_head(head, slice(0, num_codes), savings) for head in model.lm_heads]

    def logits(self, codebook: int, inputs_embeds: torch.Tensor, positions: slice) -> torch.Tensor:
        """Predict a codebook.

        Args:
            codebook (`int`): index of the codebook.
            inputs_embeds (`torch.Tensor` of shape `(num_rows, num_positions, hidden_size)`): sums of the embeddings
                of the codes up to this codebook.
            positions (`slice`): positions whose codes are predicted.

        Returns:
            `torch.Tensor` of shape `(num_rows, len(positions), num_codes)`.
        """
        size = rows_at_once(*inputs_embeds.shape[:2], inputs_embeds.device, self.savings)
        return torch.cat([self._logits(codebook, rows, positions) for rows in inputs_embeds.split(size)])

    def _logits(self, codebook: int, inputs_embeds: torch.Tensor, positions: slice) -> torch.Tensor:
        hidden = embed_positions(self.model, inputs_embeds)
        last = len(self.blocks) - 1
        for layer, block in enumerate(self.blocks):
            query, key, value = block.heads(hidden)
            if layer == last and self.savings.needed_positions:
                query, hidden = query[:, :, positions], hidden[:, positions]
            hidden = block.finish(hidden, attend(query, key, value, fused=self.savings.fused_attention))
        hidden = self.model.layernorm_final(hidden)
        if not self.savings.needed_positions:
            hidden = hidden[:, positions]
        return self.heads[codebook - self.model.config.n_codes_given](hidden)


def legal_head(head: nn.Module, columns: slice | np.ndarray, savings: Savings) -> Linear:
    """A function from hidden states, `(..., hidden_size)`, to the logits of only these `columns`."""
    if not savings.legal_rows or not is_plain_linear(head):
        if not isinstance(columns, slice):
            columns = torch.as_tensor(columns, device=next(head.parameters()).device)
        return lambda hidden: head(hidden)[..., columns]
    weight, bias = head.weight[columns], None if head.bias is None else head.bias[columns]
    if savings.packed_weights:
        return packed_linear(weight, bias)
    return lambda hidden: F.linear(hidden, weight, bias)


__all__ = ["DecodingBatch", "FineDecoder", "Savings", "legal_head"]
