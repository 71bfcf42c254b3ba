import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hf_bark_semantic.bark.packed_linear import is_plain_linear, packed_linear


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1, 48), (2, 48), (3, 5, 48), (0, 48)])
@pytest.mark.parametrize("has_bias", [True, False])
@torch.inference_mode()
def test_it_is_the_linear_layer_of_these_weights(dtype, shape, has_bias):
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(70, 48, generator=generator), torch.randn(70, generator=generator)
    inputs = torch.randn(shape, generator=generator).to(dtype)
    weight, bias = weight.to(dtype), bias.to(dtype) if has_bias else None
    outputs = packed_linear(weight, bias)(inputs)
    assert outputs.dtype == dtype and outputs.shape == (*shape[:-1], 70)
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(outputs, F.linear(inputs, weight, bias), atol=tolerance, rtol=tolerance)


@torch.inference_mode()
def test_rows_of_a_weight_can_be_packed():
    weight, inputs = torch.randn(70, 48), torch.randn(2, 48)
    columns = torch.tensor([3, 9, 69])
    torch.testing.assert_close(packed_linear(weight[10:30])(inputs), F.linear(inputs, weight[10:30]))
    torch.testing.assert_close(packed_linear(weight[columns])(inputs), F.linear(inputs, weight[columns]))


def test_only_a_linear_layer_that_is_nothing_else_is_plain():
    class Adapter(nn.Linear):
        pass

    moved, watched = nn.Linear(2, 2), nn.Linear(2, 2)
    moved.forward = lambda inputs: inputs  # as accelerate does, to bring weights from elsewhere
    watched.register_forward_hook(lambda module, inputs, outputs: outputs + 1)
    assert is_plain_linear(nn.Linear(2, 2))
    assert not any(map(is_plain_linear, (Adapter(2, 2), moved, watched, nn.Identity())))
