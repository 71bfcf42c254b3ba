"""Checks for checkpoints of other programs, and their error."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..files import foreign_content

HUBERT_OF_FAIRSEQ = {  # the same weights, published by the same authors
    "hubert_base_ls960.pt": "facebook/hubert-base-ls960",
    "hubert_large_ll60k.pt": "facebook/hubert-large-ll60k",
    "hubert_xtralarge_ll60k.pt": "facebook/hubert-xlarge-ll60k",
}
LEGACY_TORCH_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch.serialization.MAGIC_NUMBER, pickled
LEGACY_HEAD_BYTES = 4 * 2**20  # a legacy file starts with its pickle, which has the names of the weights
MAX_WIDTH = 2**16  # of any layer; the largest in these formats is 10,003
MAX_LAYERS = 128


class CheckpointError(ValueError):
    """The checkpoint cannot be converted; the message has the reason and the remedy."""


def error_about(path: Path, text: str) -> CheckpointError:
    return CheckpointError(f"{str(path)!r} {text}")


def check_file(path: str | os.PathLike) -> tuple[Path, bytes]:
    """Check that a path is a file that may be a checkpoint; return the file and its first 512 bytes."""
    path = Path(path)
    if "\0" in str(path):
        raise error_about(path, "contains a zero byte, which no path can have. Check its origin.")
    if os.path.isfile(path / "model.bin"):  # unlike Path's methods, this returns False for invalid names
        path = path / "model.bin"
    if os.path.isdir(path):
        raise error_about(path, "is a folder without a `model.bin`. Name the checkpoint's file.")
    if not os.path.exists(path):
        raise CheckpointError(f"No such file: {str(path)!r}. Check the path, or download the checkpoint first.")
    if not path.is_file():
        raise error_about(path, "is a device or a pipe, not a file. Copy the checkpoint to a file.")
    with open(path, "rb") as file:
        head = file.read(512)
    if head[:1] == b"\x80" and len(head) > 1 and head[1] <= 5:
        raise CheckpointError(_why_no_pickle(path))
    problem = foreign_content(head)
    if problem is not None:
        raise error_about(path, f"is not a checkpoint: {problem}.")
    return path, head


def _why_no_pickle(path: Path) -> str:
    with open(path, "rb") as file:
        head = file.read(LEGACY_HEAD_BYTES)
    if b"feature_extractor.conv_layers.0.0.weight" in head:
        return why_no_fairseq(path)
    if head.startswith(LEGACY_TORCH_MAGIC):
        return (
            f"{str(path)!r} was written in PyTorch's format from before version 1.6, whose sizes cannot be checked "
            "before it is loaded. Save it again: `torch.save(torch.load(old, weights_only=True), new)`."
        )
    return (
        f"{str(path)!r} is a Python pickle, which is never opened because it can run code. Ask its author for a "
        "state dict saved by `torch.save`."
    )


def why_no_fairseq(path: Path) -> str:
    same = ", ".join(f"{file} -> {repo}" for file, repo in HUBERT_OF_FAIRSEQ.items())
    return (
        f"{str(path)!r} is a HuBERT checkpoint of fairseq, which needs no conversion: the same weights are on the "
        f"Hub. Give the `backbone` by its id: {same}."
    )


def count_layers(path: Path, names: Iterable[str], pattern: str) -> int:
    """Count the layers that `pattern` finds in names of weights; they must be numbered 0, 1, 2 and so on."""
    found = {int(match[1]) for match in (re.fullmatch(pattern, name) for name in names) if match and len(match[1]) < 6}
    if not found or len(found) > MAX_LAYERS or found != set(range(len(found))):
        raise error_about(
            path,
            f"has the layers {some(sorted(found))} of `{pattern}`; they must count 0, 1, 2, … up to at most "
            f"{MAX_LAYERS - 1}. Get it from its author again.",
        )
    return len(found)


def dimension(path: Path, shapes: Mapping[str, tuple[int, ...]], name: str, axis: int) -> int:
    """One dimension of a weight, after checking that the weight exists and that the size is sensible."""
    shape = shapes.get(name)
    if shape is None:
        raise error_about(path, f"lacks {name}. It is incomplete; get it from its author again.")
    if len(shape) <= axis or not 1 <= shape[axis] <= MAX_WIDTH:
        raise error_about(
            path, f"has {name} of shape {short(tuple(shape))}; dimension {axis} must be from 1 to {MAX_WIDTH:,}."
        )
    return shape[axis]


def check_shapes(path: Path, found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]):
    """Refuse weights that are missing, left over or of another shape."""
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    wrong = [
        f"{name} is {tuple(found[name])}, not {tuple(shape)}"
        for name, shape in expected.items()
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    problems = [("lacks", missing), ("has unexpected", unexpected), ("has other shapes:", wrong)]
    if any(names for _, names in problems):
        text = "; ".join(f"{verb} {some(names)}" for verb, names in problems if names)
        raise error_about(
            path,
            f"{text}. It must contain all weights of the model that it declares, and no others. Get the file from its "
            "author again, or check its size and version.",
        )


def check_finite(path: Path, weights: Mapping[str, torch.Tensor]):
    broken = [name for name, weight in weights.items() if not torch.isfinite(weight).all()]
    if broken:
        raise error_about(
            path,
            f"holds NaN or infinity in {some(broken)}: its training diverged, or its numbers do not fit into "
            "float32. Use an earlier checkpoint.",
        )


def below(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def new_weight_norm(name: str) -> str:
    """The name of a weight that torch renamed when it made weight norm a parametrization."""
    for old, number in (("weight_g", 0), ("weight_v", 1)):
        name = re.sub(rf"\.{old}$", f".parametrizations.weight.original{number}", name)
    return name


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in module.state_dict().items()}


def some(names: list) -> str:
    """The first three of a list of names, and the number of the others."""
    shown = ", ".join(short(name, quote=False) for name in names[:3]) or "nothing"
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def short(value: Any, quote: bool = True) -> str:
    text = repr(value) if quote or not isinstance(value, str) else value
    return text if len(text) <= 120 else f"{text[:100]}… ({len(text)} characters)"


__all__ = ["CheckpointError"]
