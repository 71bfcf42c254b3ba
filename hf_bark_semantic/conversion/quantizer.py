"""Community quantizers: `.pth` files on HuBERT's features (github.com/gitmylo)."""

import json
import os
import re
from collections.abc import Mapping

import torch
from torch import nn
from transformers import (
    PreTrainedModel,
)

from ..configuration_bark_semantic import SEMANTIC_VOCAB_SIZE
from ..modeling_bark_semantic import BarkSemanticEncoderModel
from .archive import TorchArchive
from .checkpoint import MAX_WIDTH, check_shapes, count_layers, dimension, error_about, shapes_of, short
from .formats import open_archive
from .hubert import load_hubert

QUANTIZER_VERSIONS = (0, 1)
QUANTIZER_SIZES = {"input_size": 768, "hidden_size": 1_024, "output_size": SEMANTIC_VOCAB_SIZE, "version": 0}


def convert_quantizer(
    path: str | os.PathLike, backbone: str | os.PathLike | PreTrainedModel, *, layer: int = 9
) -> BarkSemanticEncoderModel:
    """Convert a community quantizer (github.com/gitmylo, version 0 or 1) and its HuBERT to one encoder.

    Version 1 has a second linear layer without an activation in between; it is folded into the last one. The original
    predicts a token for each frame; the converted encoder predicts one for each token position, which is the same in
    the first 4.99 s and skips one frame in 500 after that.

    Args:
        path (`str` or `os.PathLike`): the `.pth` file.
        backbone (`str`, `os.PathLike` or `PreTrainedModel`): Hub id, folder or loaded model of the HuBERT that it was
            trained on, mostly `"facebook/hubert-base-ls960"`.
        layer (`int`): index into HuBERT's `hidden_states`, which is fairseq's layer number; 9 in all public ones.

    Raises:
        CheckpointError: the file is damaged or not a quantizer, or its input size is not that of the backbone.
    """
    archive = open_archive(path, "quantizer")
    sizes = _quantizer_sizes(archive)
    shapes = archive.shapes()
    num_layers = count_layers(archive.path, shapes, r"lstm\.weight_ih_l(\d+)")
    intermediate_size = dimension(archive.path, shapes, "intermediate.weight", 0) if sizes["version"] else 0
    check_shapes(archive.path, shapes, _quantizer_shapes(sizes, num_layers, intermediate_size))
    weights = archive.weights()
    model = BarkSemanticEncoderModel.from_backbone(
        load_hubert(backbone, sizes["input_size"]),
        backbone_layers=[layer],
        head_type="recurrent",
        hidden_size=sizes["hidden_size"],
        num_hidden_layers=num_layers,
        intermediate_size=0,
        vocab_size=sizes["output_size"],
    )
    if intermediate_size:
        weights = fold_intermediate(weights)
    model.head.load_state_dict({re.sub(r"^fc\.", "output.", name): weight for name, weight in weights.items()})
    return model.eval()


def fold_intermediate(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Multiply two linear layers without an activation in between into one; 26 M of 61 M parameters remain."""
    folded = {name: weight for name, weight in weights.items() if not name.startswith(("intermediate.", "fc."))}
    outer = weights["fc.weight"].double()
    folded["fc.weight"] = (outer @ weights["intermediate.weight"].double()).float()
    folded["fc.bias"] = (outer @ weights["intermediate.bias"].double() + weights["fc.bias"].double()).float()
    return folded


def _quantizer_sizes(archive: TorchArchive) -> dict[str, int]:
    """Sizes and version of a quantizer from its `.info` record; a file without one has version 0."""
    if archive.info is None:
        return dict(QUANTIZER_SIZES)
    try:
        info = json.loads(archive.info)
    except (ValueError, RecursionError) as error:
        raise error_about(
            archive.path, f"has an `.info` record that is not JSON ({error}). Get the file from its author again."
        ) from error
    if not isinstance(info, dict):
        raise error_about(
            archive.path,
            f"has a JSON {type(info).__name__} as its `.info`; it must be an object with "
            f"{', '.join(QUANTIZER_SIZES)}.",
        )
    for name in QUANTIZER_SIZES:
        least, most = (0, max(QUANTIZER_VERSIONS)) if name == "version" else (1, MAX_WIDTH)
        most = SEMANTIC_VOCAB_SIZE if name == "output_size" else most
        value = info.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise error_about(
                archive.path,
                f"has {name} = {short(value)} in its `.info`; it must be a whole number from {least} to {most}. "
                "No other files are known; get it from its author again.",
            )
    return {name: info[name] for name in QUANTIZER_SIZES}


def _quantizer_shapes(sizes: Mapping[str, int], num_layers: int, intermediate_size: int) -> dict[str, tuple[int, ...]]:
    width = sizes["hidden_size"]
    with torch.device("meta"):
        layers = {
            "lstm": nn.LSTM(sizes["input_size"], width, num_layers),
            "fc": nn.Linear(intermediate_size or width, sizes["output_size"]),
        }
        if intermediate_size:
            layers["intermediate"] = nn.Linear(width, intermediate_size)
    return shapes_of(nn.ModuleDict(layers))


__all__ = ["convert_quantizer", "fold_intermediate"]
