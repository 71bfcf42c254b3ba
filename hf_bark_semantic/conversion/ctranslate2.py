"""Whisper models in CTranslate2 format: the `model.bin` of faster-whisper (OpenNMT/CTranslate2)."""

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    WhisperConfig,
    WhisperModel,
)

from .checkpoint import (
    below,
    check_file,
    check_finite,
    check_shapes,
    count_layers,
    dimension,
    error_about,
    shapes_of,
    short,
)
from .formats import CTRANSLATE2_VERSION, ctranslate2_spec

CTRANSLATE2_DTYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2", 5: "<u2"}  # include/ctranslate2/types.h
CTRANSLATE2_BFLOAT16 = 5
CTRANSLATE2_MAX_RANK = 5
CTRANSLATE2_MAX_GROWTH = 8  # int8 to float32 is 4; equal biases are stored once


def convert_whisper_ctranslate2(path: str | os.PathLike) -> WhisperModel:
    """Convert the encoder of a Whisper model in CTranslate2 format to a backbone, for `from_backbone(model)`.

    The decoder is a stub without layers, so that `AutoModel.from_pretrained` can load the model; it cannot transcribe.
    Float weights are copied; int8 weights are dequantized.

    Args:
        path (`str` or `os.PathLike`): `model.bin`, or its folder.

    Raises:
        CheckpointError: the file is incomplete, damaged, of another version or of another model.
    """
    path, head = check_file(path)
    if ctranslate2_spec(path, head) is None:
        raise error_about(
            path,
            f"is not a CTranslate2 model: it does not start with version {CTRANSLATE2_VERSION} and a model name. "
            "`detect_format` returns its format.",
        )
    stored = below("encoder/", _read_ctranslate2(path))
    sizes = {name: values.shape for name, values in stored.items() if name != "num_heads"}
    num_layers = count_layers(path, sizes, r"layer_(\d+)/ffn/linear_0/weight")
    width = dimension(path, sizes, "conv1/weight", 0)
    num_heads = _ctranslate2_heads(path, stored.pop("num_heads", None), width)
    config = WhisperConfig(
        d_model=width,
        encoder_layers=num_layers,
        encoder_attention_heads=num_heads,
        encoder_ffn_dim=dimension(path, sizes, "layer_0/ffn/linear_0/weight", 0),
        num_mel_bins=dimension(path, sizes, "conv1/weight", 1),
        max_source_positions=dimension(path, sizes, "position_encodings/encodings", 0),
        **_empty_decoder(num_heads),
    )
    with torch.device("meta"):
        shapes = shapes_of(WhisperModel(config))
    names = _whisper_names(num_layers)
    stacked = {theirs: (len(ours), shapes[f"encoder.{ours[0]}"]) for theirs, ours in names.items()}
    sizes = {name: shape for name, shape in sizes.items() if not name.endswith("/weight_scale")}
    check_shapes(path, sizes, {name: (number * shape[0], *shape[1:]) for name, (number, shape) in stacked.items()})
    _check_growth(path, sizes)
    weights = _ctranslate2_floats(path, stored)
    check_finite(path, weights)
    state = {name: torch.zeros(shape) for name, shape in shapes.items() if name.startswith("decoder.")}
    for theirs, ours in names.items():
        parts = weights[theirs].chunk(len(ours))
        state |= {f"encoder.{name}": part for name, part in zip(ours, parts, strict=True) if name is not None}
    model = WhisperModel(config)
    model.load_state_dict(state)
    return model.eval()


@dataclass
class _ByteReader:
    """Reads a memory-mapped file from the start, never beyond its end."""

    path: Path
    content: np.ndarray = field(repr=False)
    offset: int = 0

    def take(self, num_bytes: int, what: str) -> np.ndarray:
        left = len(self.content) - self.offset
        if num_bytes > left:
            raise error_about(
                self.path, f"is cut off: {what} takes {num_bytes:,} bytes, but {left:,} are left. Download it again."
            )
        self.offset += num_bytes
        return self.content[self.offset - num_bytes : self.offset]

    def number(self, kind: str, what: str) -> int:
        return struct.unpack("<" + kind, self.take(struct.calcsize(kind), what).tobytes())[0]

    def count(self, what: str, least_bytes: int) -> int:
        """Read the number of entries that follow, each of at least `least_bytes`."""
        count = self.number("I", f"the number of {what}")
        if count > (len(self.content) - self.offset) // least_bytes:
            raise error_about(
                self.path,
                f"is cut off or damaged: it declares {count:,} {what}, more than fit into the file. Download it "
                "again.",
            )
        return count

    def name(self) -> str:
        content = self.take(self.number("H", "the length of a name"), "a name").tobytes()
        try:
            return content.removesuffix(b"\0").decode("ascii")
        except UnicodeDecodeError as error:
            raise error_about(self.path, f"is damaged: a name is {content[:20]!r}. Download it again.") from error


def _read_ctranslate2(path: Path) -> dict[str, np.ndarray]:
    """Every variable of a CTranslate2 model by its name, memory-mapped."""
    reader = _ByteReader(path, np.memmap(path, np.uint8, mode="r"))
    reader.number("I", "the version")
    reader.name()
    reader.number("I", "the revision")
    variables = {}
    for _ in range(reader.count("variables", least_bytes=8)):
        name = reader.name()
        if name in variables:
            raise error_about(path, f"is damaged: it has {short(name)} twice. Download it again.")
        variables[name] = _read_variable(reader, name)
    for _ in range(reader.count("aliases", least_bytes=4)):  # equal variables are stored once
        alias, name = reader.name(), reader.name()
        if name not in variables or alias in variables:
            raise error_about(
                path, f"is damaged: {short(alias)} is to be the same as {short(name)}. Download it again."
            )
        variables[alias] = variables[name]
    return variables


def _read_variable(reader: _ByteReader, name: str) -> np.ndarray:
    rank = reader.number("B", "a rank")
    if rank > CTRANSLATE2_MAX_RANK:
        raise error_about(reader.path, f"is damaged: {short(name)} has {rank} dimensions. Download it again.")
    shape = tuple(reader.number("I", "a dimension") for _ in range(rank))
    kind, num_bytes = reader.number("B", "a type"), reader.number("I", "a size")
    if kind not in CTRANSLATE2_DTYPES:
        raise error_about(
            reader.path,
            f"has {short(name)} of type {kind}; 0 to {max(CTRANSLATE2_DTYPES)} are known. Convert Whisper again "
            "with `--quantization float16`.",
        )
    dtype = np.dtype(CTRANSLATE2_DTYPES[kind])
    if prod(shape) * dtype.itemsize != num_bytes:
        raise error_about(
            reader.path,
            f"is damaged: {short(name)} of shape {shape} takes {prod(shape) * dtype.itemsize:,} bytes, not "
            f"{num_bytes:,}. Download it again.",
        )
    values = reader.take(num_bytes, name).view(dtype).reshape(shape)
    return (values.astype("<u4") << 16).view("<f4") if kind == CTRANSLATE2_BFLOAT16 else values


def _ctranslate2_heads(path: Path, stored: np.ndarray | None, width: int) -> int:
    """The stored number of attention heads; by default, heads of 64 dimensions, as in all Whisper models."""
    if stored is not None and (stored.shape or stored.dtype.kind != "i"):
        raise error_about(path, f"has `num_heads` of type {stored.dtype}, shape {stored.shape}. Download it again.")
    num_heads = width // 64 if stored is None else int(stored)
    if num_heads < 1 or width % num_heads:
        raise error_about(
            path, f"has {num_heads} attention heads; they must divide the width of {width}. Download it again."
        )
    return num_heads


def _check_growth(path: Path, shapes: Mapping[str, tuple[int, ...]]):
    """Limit the total size of all weights, because a hostile file may have any number of aliases for one weight."""
    floats, held = 4 * sum(prod(shape) for shape in shapes.values()), path.stat().st_size
    if floats > CTRANSLATE2_MAX_GROWTH * held:
        raise error_about(
            path,
            f"of {held:,} bytes declares weights of {floats:,} bytes; at most {CTRANSLATE2_MAX_GROWTH} times its "
            "size is sensible. It may be made to exhaust memory; get it from its author.",
        )


def _ctranslate2_floats(path: Path, stored: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """The weights in float32. CTranslate2 scales int8 weights by 127 over the maximum of their row."""
    weights = {}
    for name, values in stored.items():
        if name.endswith("weight_scale"):
            continue
        scale = stored.get(f"{name}_scale")
        if values.dtype == np.int8 and scale is not None and values.ndim and scale.shape == values.shape[:1]:
            values = values.astype(np.float32) / scale.astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
        elif values.dtype.kind != "f" or scale is not None:
            raise error_about(
                path,
                f"has {short(name)} of type {values.dtype}, which is neither float nor int8 with a scale per row. "
                "Convert Whisper again with `--quantization float16`.",
            )
        weights[name] = torch.from_numpy(values.astype(np.float32))
    return weights


def _whisper_names(num_layers: int) -> dict[str, list[str | None]]:
    """Names of CTranslate2's weights, each with the names in transformers' `WhisperEncoder` that it stacks.

    `None` is the bias of the keys, which transformers leaves out because it has no effect: it would add a constant to
    all scores of a query, which the softmax cancels.
    """
    names = {"position_encodings/encodings": ["embed_positions.weight"]}
    modules = {name: name for name in ("conv1", "conv2", "layer_norm")}
    for layer in range(num_layers):
        theirs, ours = f"layer_{layer}", f"layers.{layer}"
        modules[f"{theirs}/self_attention/layer_norm"] = f"{ours}.self_attn_layer_norm"
        modules[f"{theirs}/self_attention/linear_1"] = f"{ours}.self_attn.out_proj"
        modules[f"{theirs}/ffn/layer_norm"] = f"{ours}.final_layer_norm"
        modules[f"{theirs}/ffn/linear_0"], modules[f"{theirs}/ffn/linear_1"] = f"{ours}.fc1", f"{ours}.fc2"
        projections = [f"{ours}.self_attn.{part}_proj" for part in "qkv"]
        names[f"{theirs}/self_attention/linear_0/weight"] = [f"{name}.weight" for name in projections]
        names[f"{theirs}/self_attention/linear_0/bias"] = [f"{projections[0]}.bias", None, f"{projections[2]}.bias"]
    for theirs, ours in modules.items():
        weight, bias = ("gamma", "beta") if theirs.endswith("layer_norm") else ("weight", "bias")
        names[f"{theirs}/{weight}"], names[f"{theirs}/{bias}"] = [f"{ours}.weight"], [f"{ours}.bias"]
    return names


def _empty_decoder(num_heads: int) -> dict[str, Any]:
    """Fields of a `WhisperConfig` for a decoder without layers."""
    tokens = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
    sizes = {"decoder_layers": 0, "decoder_attention_heads": num_heads, "vocab_size": 1, "max_target_positions": 1}
    return sizes | dict.fromkeys(tokens, 0)


__all__ = ["convert_whisper_ctranslate2"]
