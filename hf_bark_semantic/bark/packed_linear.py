"""Linear layers on a CPU, computed by oneDNN from weights in its fastest memory layout.

Without packing, PyTorch computes float32 products with another library, which takes twice the time on some CPUs, and
packs bfloat16 weights again at every call. A packed copy is as large as the weights; it pays off after a few calls.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

Linear = Callable[[torch.Tensor], torch.Tensor]


def is_plain_linear(module: nn.Module) -> bool:
    """Whether `module(x)` equals `F.linear`; False for adapters, quantized layers and modules with hooks."""
    hooks = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return type(module) is nn.Linear and not hooks


def packed_linear(weight: torch.Tensor, bias: torch.Tensor | None = None) -> Linear:
    """A function that computes `F.linear` with a packed copy of weights, if they can be packed; for inference only.

    Args:
        weight (`torch.Tensor` of shape `(num_outputs, num_inputs)`), bias (`torch.Tensor` of shape `(num_outputs,)`).

    Returns:
        A function from `(..., num_inputs)` to `(..., num_outputs)`.
    """
    if not _can_be_packed(weight):
        return lambda inputs: F.linear(inputs, weight, bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
    return lambda inputs: torch.ops.mkldnn._linear_pointwise(inputs, packed, bias, "none", [], "")


def _can_be_packed(weight: torch.Tensor) -> bool:
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return weight.dtype == torch.float32


__all__ = ["Linear", "is_plain_linear", "packed_linear"]
