"""Autoregressive encoders: `.pt` files with a HuBERT of their own (github.com/huynhnhathao)."""

import os

import torch
from torch import nn
from transformers import (
    HubertModel,
    PretrainedConfig,
    PreTrainedModel,
)

from ..configuration_bark_semantic import SEMANTIC_VOCAB_SIZE, BarkSemanticEncoderConfig
from ..heads_bark_semantic import AutoregressiveHead
from ..modeling_bark_semantic import BarkSemanticEncoderModel
from .checkpoint import (
    CheckpointError,
    below,
    check_shapes,
    count_layers,
    dimension,
    error_about,
    new_weight_norm,
    shapes_of,
)
from .formats import open_archive
from .hubert import read_hubert_config

AUTOREGRESSIVE_LAYER = 11  # github.com/huynhnhathao: hidden_states[11] of HuBERT-base
AUTOREGRESSIVE_HEADS = 8
AUTOREGRESSIVE_SPECIAL_TOKENS = 3  # start, end and padding follow the vocabulary


def convert_autoregressive(
    path: str | os.PathLike, backbone: str | os.PathLike | PreTrainedModel | PretrainedConfig | None = None
) -> BarkSemanticEncoderModel:
    """Convert an autoregressive encoder (github.com/huynhnhathao) with its own HuBERT.

    The original samples until an end token; the converted encoder is greedy, and the audio determines the number of
    tokens.

    Args:
        path (`str` or `os.PathLike`): the `.pt` file.
        backbone (`str`, `os.PathLike`, `PreTrainedModel` or `PretrainedConfig`, *optional*): a HuBERT with the
            architecture of the one in the file, by default HuBERT-base. The weights are those in the file.

    Raises:
        CheckpointError: the file is damaged, or not a checkpoint of this kind.
    """
    archive = open_archive(path, "autoregressive")
    shapes = archive.shapes(_autoregressive_name)
    hubert_config = read_hubert_config(backbone)
    vocab_size = dimension(archive.path, shapes, "head.fc.weight", 0) - AUTOREGRESSIVE_SPECIAL_TOKENS
    if not 1 <= vocab_size <= SEMANTIC_VOCAB_SIZE:
        raise error_about(
            archive.path,
            f"predicts {vocab_size} tokens besides start, end and padding; Bark has {SEMANTIC_VOCAB_SIZE:,}. It "
            "was trained for something else.",
        )
    head = {
        "head_type": "autoregressive",
        "hidden_size": dimension(archive.path, shapes, "head.decoder_embedding.weight", 1),
        "num_hidden_layers": count_layers(archive.path, shapes, r"head\.decoder\.layers\.(\d+)\.linear1\.weight"),
        "num_attention_heads": AUTOREGRESSIVE_HEADS,
        "intermediate_size": dimension(archive.path, shapes, "head.decoder.layers.0.linear1.weight", 0),
        "vocab_size": vocab_size,
    }
    if head["hidden_size"] != hubert_config.hidden_size or head["hidden_size"] % AUTOREGRESSIVE_HEADS:
        raise error_about(
            archive.path,
            f"has a decoder of width {head['hidden_size']}; it must be that of its HuBERT "
            f"({hubert_config.hidden_size}), and a multiple of {AUTOREGRESSIVE_HEADS}. If its HuBERT is not "
            "the base model, name it with `backbone`.",
        )
    if hubert_config.num_hidden_layers < AUTOREGRESSIVE_LAYER:
        raise CheckpointError(
            f"The HuBERT that `backbone` describes has {hubert_config.num_hidden_layers} layers; this format reads "
            f"layer {AUTOREGRESSIVE_LAYER}. Leave `backbone` out for HuBERT-base."
        )
    config = BarkSemanticEncoderConfig(backbone_config=hubert_config, backbone_layers=[AUTOREGRESSIVE_LAYER], **head)
    with torch.device("meta"):
        whole = nn.ModuleDict({"hubert": HubertModel(hubert_config), "head": AutoregressiveHead(config)})
    check_shapes(archive.path, shapes, shapes_of(whole))
    weights = archive.weights(_autoregressive_name)
    hubert = HubertModel(hubert_config)
    hubert.load_state_dict(below("hubert.", weights))
    model = BarkSemanticEncoderModel.from_backbone(hubert, backbone_layers=[AUTOREGRESSIVE_LAYER], **head)
    model.head.load_state_dict(below("head.", weights))
    return model.eval()


def _autoregressive_name(name: str) -> str:
    """`hubert.model.*` -> `hubert.*` with the current names of transformers, all others -> `head.*`."""
    if not name.startswith("hubert.model."):
        return f"head.{name}"
    return new_weight_norm(name.replace("hubert.model.", "hubert.", 1))


__all__ = ["convert_autoregressive"]
