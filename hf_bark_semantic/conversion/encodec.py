"""The original EnCodec 24 kHz: `.th` files (facebookresearch/encodec)."""

import os
import re

import torch
from transformers import (
    EncodecConfig,
    EncodecModel,
)

from .checkpoint import check_shapes, new_weight_norm, shapes_of
from .formats import open_archive


def convert_encodec(path: str | os.PathLike, *, config: EncodecConfig | None = None) -> EncodecModel:
    """Convert the original EnCodec checkpoint (facebookresearch/encodec, `encodec_24khz-*.th`) to an `EncodecModel`.

    Args:
        path (`str` or `os.PathLike`): the `.th` file, a state dict of the `encodec` package's 24 kHz model.
        config (`EncodecConfig`, *optional*): for a model with other sizes; by default, the 24 kHz model.

    Raises:
        CheckpointError: the file is damaged, or not a checkpoint of that model.
    """
    archive = open_archive(path, "encodec")
    config = EncodecConfig() if config is None else config
    with torch.device("meta"):
        expected = shapes_of(EncodecModel(config))
    check_shapes(archive.path, archive.shapes(_encodec_name), expected)
    weights = archive.weights(_encodec_name)
    model = EncodecModel(config)
    model.load_state_dict(weights)
    return model.eval()


def _encodec_name(name: str) -> str:
    """Rename convolutions, weight norms and codebooks of the `encodec` package as in transformers."""
    name = re.sub(r"^(encoder|decoder)\.model\.", r"\1.layers.", name)
    name = re.sub(r"\.(conv|convtr)\.\1\.", ".conv.", name)
    name = re.sub(r"^quantizer\.vq\.layers\.(\d+)\._codebook\.", r"quantizer.layers.\1.codebook.", name)
    return new_weight_norm(name)


__all__ = ["convert_encodec"]
