"""The losses that transformers' Bark lacks: its three models, unmodified, with a `.loss`.

    SemanticLoss, CoarseLoss, FineLoss    a model and a batch of `examples.collate` -> cross-entropy over legal classes
    block_states                          one block of a model, with fused attention

The models run through their own modules (so adapters and dropout work), but with fused attention, and nothing beyond
the last attention is computed for positions without a label.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers.utils import ModelOutput

from .configs import BarkGenerationConfigs
from .examples import IGNORED
from .prompting import coarse_columns

QUERY_SLICE = 192  # queries whose scores are in memory at once on a CPU


@dataclass
class BarkLossOutput(ModelOutput):
    """The mean loss over targets; how many they are; and, outside training, how many the model would say greedily.

    Args:
        loss (`torch.FloatTensor` of shape `()`), num_targets (`torch.LongTensor` of shape `()`), num_correct
            (`torch.LongTensor` of shape `()`).
    """

    loss: torch.FloatTensor | None = None
    num_targets: torch.LongTensor | None = None
    num_correct: torch.LongTensor | None = None


class _StageLoss(nn.Module):
    """A Bark model whose forward takes a batch with labels and returns the cross-entropy over legal classes.

    Args:
        model (`nn.Module`): transformers' model of the stage, with adapters or without.
        configs (`BarkGenerationConfigs`): of the Bark that it belongs to.
        label_smoothing (`float`): of the cross-entropy, over legal classes.
        gradient_checkpointing (`bool`): compute every layer twice to keep only its input.
    """

    def __init__(
        self,
        model: nn.Module,
        configs: BarkGenerationConfigs,
        *,
        label_smoothing: float = 0.0,
        gradient_checkpointing: bool = False,
    ):
        super().__init__()
        self.model, self.configs = model, configs
        self.label_smoothing, self.gradient_checkpointing = label_smoothing, gradient_checkpointing

    def gradient_checkpointing_enable(self) -> None:
        self.gradient_checkpointing = True

    def forward(self, **batch: torch.Tensor) -> BarkLossOutput:
        logits, classes = self.target_logits(**batch)
        if not len(classes):
            raise ValueError("No position of the batch has a label, so there is nothing to learn from it.")
        loss = F.cross_entropy(logits.float(), classes, label_smoothing=self.label_smoothing)
        num_correct = None if self.training else (logits.argmax(-1) == classes).sum()
        return BarkLossOutput(loss, torch.tensor(len(classes), device=loss.device), num_correct)

    def target_states(self, embeddings: torch.Tensor, labels: torch.LongTensor) -> torch.Tensor:
        """Final hidden states `(num_targets, hidden_size)` of the positions that have a label, row by row."""
        model, length = self.model, embeddings.shape[1]
        if length > model.config.block_size:
            raise ValueError(f"An example has {length} positions; the model has {model.config.block_size}.")
        positions = model.position_embeds_layer(torch.arange(length, device=embeddings.device))
        hidden = model.drop(embeddings + positions)  # (batch, length, hidden_size)
        targets = labels != IGNORED
        for index, block in enumerate(model.layers):
            kept = targets if index == len(model.layers) - 1 else None
            if self.gradient_checkpointing and self.training:
                hidden = checkpoint(block_states, block, hidden, kept, use_reentrant=False)
            else:
                hidden = block_states(block, hidden, kept)
        return model.layernorm_final(hidden)


class SemanticLoss(_StageLoss):
    def target_logits(self, text_ids, history_ids, input_ids, labels) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits `(num_targets, semantic_vocab_size + 1)`, the end last, and the right classes `(num_targets,)`."""
        embed, config = self.model.input_embeds_layer, self.configs.semantic
        embeddings = torch.cat([embed(text_ids) + embed(history_ids), embed(input_ids)], dim=1)
        labels = F.pad(labels, (text_ids.shape[1], 0), value=IGNORED)
        states, classes = self.target_states(embeddings, labels), labels[labels != IGNORED]
        num_tokens, end = config.semantic_vocab_size, config.eos_token_id
        if end == num_tokens:
            return _head_logits(self.model.lm_head, states, 0, num_tokens + 1), classes
        logits = [_head_logits(self.model.lm_head, states, *columns) for columns in ((0, num_tokens), (end, end + 1))]
        return torch.cat(logits, -1), classes.where(classes != end, num_tokens)


class CoarseLoss(_StageLoss):
    def target_logits(self, input_ids, labels) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits `(num_targets, codebook_size)` of each target's own codebook, and the right codes."""
        states = self.target_states(self.model.input_embeds_layer(input_ids), labels)
        ids = labels[labels != IGNORED] - self.configs.semantic.semantic_vocab_size
        size = self.configs.codebook_size
        heads = [(self.model.lm_head, columns.start, columns.stop) for columns in coarse_columns(self.configs)]
        return _logits_by_head(states, ids // size, heads), ids % size


class FineLoss(_StageLoss):
    def target_logits(self, codes, codebook, labels) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits `(num_targets, codebook_size)` of every row's codebook, and the right codes."""
        model, config = self.model, self.model.config
        embeddings = 0
        for index, embed in enumerate(model.input_embeds_layers):
            embeddings = embeddings + embed(codes[:, :, index]) * (index <= codebook)[:, None, None]
        states = self.target_states(embeddings, labels)
        targets = labels != IGNORED
        heads = [(head, 0, self.configs.codebook_size) for head in model.lm_heads]
        groups = (codebook - config.n_codes_given)[:, None].expand_as(labels)[targets]
        return _logits_by_head(states, groups, heads), labels[targets]


def block_states(block: nn.Module, hidden: torch.Tensor, kept: torch.BoolTensor | None = None) -> torch.Tensor:
    """One `BarkBlock` with fused attention.

    Args:
        block (`BarkBlock`): its modules are called, not its forward.
        hidden (`torch.FloatTensor` of shape `(batch, length, hidden_size)`): the block's input.
        kept (`torch.BoolTensor` of shape `(batch, length)`, *optional*): positions that go on behind the attention.

    Returns:
        `torch.FloatTensor` of the input's shape, or `(num_kept, hidden_size)`.
    """
    attention, (batch, length, _) = block.attn, hidden.shape
    projected = attention.att_proj(block.layernorm_1(hidden))
    projected = projected.view(batch, length, 3, attention.num_heads, attention.head_dim)
    query, key, value = projected.permute(2, 0, 3, 1, 4)  # each (batch, num_heads, length, head_dim)
    dropout = attention.attn_dropout.p if attention.training else 0.0
    mixed = _attended(query, key, value, is_causal=attention.is_causal, dropout=dropout)
    mixed = mixed.transpose(1, 2).reshape(batch, length, -1)
    if kept is not None:
        hidden, mixed = hidden[kept], mixed[kept]  # (num_kept, hidden_size)
    hidden = hidden + attention.resid_dropout(attention.out_proj(mixed))
    return hidden + block.mlp(block.layernorm_2(hidden))


def _attended(query, key, value, *, is_causal: bool, dropout: float) -> torch.Tensor:
    """Softmax attention over `(batch, num_heads, length, head_dim)`.

    PyTorch's fused kernel is half as fast on a CPU in bfloat16 as plain products of slices of the queries.
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=is_causal)
    length, query, mixed = query.shape[2], query * query.shape[3] ** -0.5, []
    future = query.new_full((QUERY_SLICE, QUERY_SLICE), -torch.inf).triu(1)
    for start in range(0, length, QUERY_SLICE):
        stop = min(length, start + QUERY_SLICE)
        num_keys = stop if is_causal else length
        scores = query[:, :, start:stop] @ key[:, :, :num_keys].transpose(2, 3)
        if is_causal:
            scores[..., start:] += future[: stop - start, : stop - start]
        mixed.append(F.dropout(scores.softmax(-1), dropout) @ value[:, :, :num_keys])
    return torch.cat(mixed, dim=2)


def _logits_by_head(states: torch.Tensor, groups: torch.Tensor, heads: list[tuple]) -> torch.Tensor:
    """Row `i` of `states` times the columns of `heads[groups[i]]`: `(num_rows, num_columns)`.

    Heads without a row take part too, so that every parameter has a gradient on every process.
    """
    order = groups.argsort(stable=True)
    counts = groups.bincount(minlength=len(heads)).tolist()
    parts = states[order].split(counts)
    logits = torch.cat([_head_logits(head[0], part, *head[1:]) for head, part in zip(heads, parts, strict=True)])
    return logits[order.argsort()]


def _head_logits(head: nn.Module, states: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    if type(head) is nn.Linear and head.bias is None:
        return F.linear(states, head.weight[start:stop])
    return head(states)[:, start:stop]


LOSSES = {"semantic": SemanticLoss, "coarse": CoarseLoss, "fine": FineLoss}

__all__ = ["LOSSES", "BarkLossOutput", "CoarseLoss", "FineLoss", "SemanticLoss"]
