"""Training losses for transformers' three Bark models, which have none themselves.

    SemanticLoss, CoarseLoss, FineLoss    a model and a batch of `examples.collate` -> cross-entropy over legal classes
    block_states                          the output of one block, with fused attention

The models' own modules are called, so adapters and dropout work, but with fused attention; after the last attention,
positions without a label are not computed.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers.utils import ModelOutput

from .configs import BarkGenerationConfigs
from .examples import IGNORED
from .prompting import coarse_columns, semantic_columns
from .transformer import Block, Savings, attend, embed_positions, legal_head

TRAINING = Savings(packed_weights=False)  # packed weights have no gradient


@dataclass
class BarkLossOutput(ModelOutput):
    """The mean loss over targets, their number and, outside training, the number of correct top-1 predictions.

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
        configs (`BarkGenerationConfigs`): of the model's Bark.
        label_smoothing (`float`): label smoothing of the cross-entropy, over legal classes.
        gradient_checkpointing (`bool`): compute every layer twice and store only its input.
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
        """Final hidden states `(num_targets, hidden_size)` of the positions with a label, row by row."""
        model, length = self.model, embeddings.shape[1]
        if length > model.config.block_size:
            raise ValueError(f"An example has {length} positions; the model has {model.config.block_size}.")
        hidden = embed_positions(model, embeddings)  # (batch, length, hidden_size)
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
        """Logits `(num_targets, semantic_vocab_size + 1)`, the end token last, and target classes `(num_targets,)`."""
        embed, config = self.model.input_embeds_layer, self.configs.semantic
        embeddings = torch.cat([embed(text_ids) + embed(history_ids), embed(input_ids)], dim=1)
        labels = F.pad(labels, (text_ids.shape[1], 0), value=IGNORED)
        states, classes = self.target_states(embeddings, labels), labels[labels != IGNORED]
        logits = legal_head(self.model.lm_head, semantic_columns(self.configs), TRAINING)(states)
        return logits, classes.where(classes != config.eos_token_id, config.semantic_vocab_size)


class CoarseLoss(_StageLoss):
    def target_logits(self, input_ids, labels) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits `(num_targets, codebook_size)` of each target's codebook, and the target codes."""
        states = self.target_states(self.model.input_embeds_layer(input_ids), labels)
        ids = labels[labels != IGNORED] - self.configs.semantic.semantic_vocab_size
        size = self.configs.codebook_size
        heads = [(self.model.lm_head, columns) for columns in coarse_columns(self.configs)]
        return _logits_by_head(states, ids // size, heads), ids % size


class FineLoss(_StageLoss):
    def target_logits(self, codes, codebook, labels) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits `(num_targets, codebook_size)` of each row's codebook, and the target codes."""
        model, config = self.model, self.model.config
        embeddings = 0
        for index, embed in enumerate(model.input_embeds_layers):
            embeddings = embeddings + embed(codes[:, :, index]) * (index <= codebook)[:, None, None]
        states = self.target_states(embeddings, labels)
        targets = labels != IGNORED
        heads = [(head, slice(0, self.configs.codebook_size)) for head in model.lm_heads]
        groups = (codebook - config.n_codes_given)[:, None].expand_as(labels)[targets]
        return _logits_by_head(states, groups, heads), labels[targets]


def block_states(block: nn.Module, hidden: torch.Tensor, kept: torch.BoolTensor | None = None) -> torch.Tensor:
    """The output of one `BarkBlock`, as of [`Block.finish`]."""
    attention, functions = block.attn, Block.of(block, TRAINING)
    query, key, value = functions.heads(hidden)
    dropout = attention.attn_dropout.p if attention.training else 0.0
    attended = attend(query, key, value, causal=attention.is_causal, dropout=dropout)
    return functions.finish(hidden, attended, kept)


def _logits_by_head(states: torch.Tensor, groups: torch.Tensor, heads: list[tuple[nn.Module, slice]]) -> torch.Tensor:
    """Row `i` of `states` times the columns of `heads[groups[i]]`: `(num_rows, num_columns)`.

    Heads without a row are included, so that every parameter has a gradient on every process.
    """
    order = groups.argsort(stable=True)
    parts = states[order].split(groups.bincount(minlength=len(heads)).tolist())
    logits = [legal_head(*head, TRAINING)(part) for head, part in zip(heads, parts, strict=True)]
    return torch.cat(logits)[order.argsort()]


LOSSES = {"semantic": SemanticLoss, "coarse": CoarseLoss, "fine": FineLoss}

__all__ = ["LOSSES", "BarkLossOutput", "CoarseLoss", "FineLoss", "SemanticLoss"]
