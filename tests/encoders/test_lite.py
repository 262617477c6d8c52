"""EfficientNet-Lite's own gradients of depthwise convolutions, against torch's."""

from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from showtell.encoders.lite import Block, SameConv2d

SHAPES = [(3, 1, 9), (5, 1, 8), (5, 2, 9), (3, 2, 10)]  # kernel, stride, side


def layer(kernel: int, stride: int, dtype: torch.dtype) -> SameConv2d:
    torch.manual_seed(0)
    return SameConv2d(16, 16, kernel, stride=stride, groups=16).to(dtype)


def by_torch(module: SameConv2d, inputs: Tensor) -> Tensor:
    """The same output; torch's own function has the gradients."""
    with patch.object(SameConv2d, "_trains_on_processor", lambda *_: False):
        outputs: Tensor = module(inputs)
    return outputs


@pytest.mark.parametrize(("kernel", "stride", "side"), SHAPES)
def test_gradients_are_right(kernel: int, stride: int, side: int) -> None:
    module = layer(kernel, stride, torch.float64)
    inputs = torch.randn(2, 16, side, side, dtype=torch.float64, requires_grad=True)
    outputs = [module(inputs), by_torch(module, inputs)]
    weights = torch.randn_like(outputs[0])
    assert module.bias is not None
    wanted = (inputs, module.weight, module.bias)
    ours, theirs = (torch.autograd.grad(out, wanted, weights) for out in outputs)
    torch.testing.assert_close(outputs[0], outputs[1])
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("kernel", "stride", "side"), SHAPES)
def test_gradients_in_bf16_are_those_of_fp32_but_for_rounding(
    kernel: int, stride: int, side: int
) -> None:
    module = layer(kernel, stride, torch.float32)
    inputs = torch.randn(2, 16, side, side, requires_grad=True)
    exact = torch.autograd.grad(module(inputs).square().sum(), (inputs, module.weight))
    with torch.autocast("cpu", torch.bfloat16):
        outputs = module(inputs)
    rounded = torch.autograd.grad(outputs.float().square().sum(), (inputs, module.weight))
    for ours, theirs in zip(rounded, exact, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() < 0.02 * theirs.norm()


def test_what_does_not_train_gets_no_gradient() -> None:
    block = Block(8, 8, kernel=3, stride=1, expansion=2)
    block.depthwise.weight.requires_grad_(False)
    block(torch.randn(1, 8, 5, 5)).sum().backward()
    assert block.depthwise.weight.grad is None
    assert block.depthwise.bias is not None and block.depthwise.bias.grad is not None
    assert block.expand is not None and block.expand.weight.grad is not None
    with torch.no_grad():
        assert not block(torch.randn(1, 8, 5, 5)).requires_grad
