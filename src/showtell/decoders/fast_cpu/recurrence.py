"""An LSTM cell with a hand-written gradient, and a weight's gradient taken once for all steps.

What each gains is in its docstring: benchmarks/up_down.py, one thread, bf16, 150 captions.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F


def lstm_cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """As the plain form in ``recurrence.lstm_cell``, with the gradient of ``_LstmCell``.

    With the torch of today it gains nothing: a step of up_down with the plain form takes 0.97 times
    as long. It stays for one reason: runs of the attention decoders, those of 0.1.0 included,
    resume to the same numbers to the bit.
    """
    new_hidden, new_cell = _LstmCell.apply(gates, cell)  # type: ignore[no-untyped-call]
    return new_hidden, new_cell


class _LstmCell(Function):
    """For c' = f c + i g and h' = o tanh(c'), with i, f, o = sigmoid and g = tanh of the gates."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 4 H), (B, H) -> (B, H), (B, H)."""
        width = cell.shape[1]
        opened = gates.sigmoid()
        candidate = torch.tanh(gates[:, 2 * width : 3 * width])
        opened[:, 2 * width : 3 * width] = candidate
        input_gate, forget_gate, _, output_gate = opened.chunk(4, dim=1)
        new_cell = torch.addcmul(input_gate * candidate, forget_gate, cell)
        # tanh(c) = 2 sigmoid(2 c) - 1, in a third of the time of torch's tanh.
        shown = (2 * (2 * new_cell).sigmoid() - 1).to(gates.dtype)
        ctx.save_for_backward(opened, cell, shown)
        return output_gate * shown, new_cell

    @staticmethod
    def backward(ctx: Any, hidden_gradient: Tensor, cell_gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of the gates and of the cell."""
        opened, cell, shown = ctx.saved_tensors
        input_gate, forget_gate, candidate, output_gate = opened.chunk(4, dim=1)
        # d tanh(c) = 1 - tanh(c)^2
        through = hidden_gradient * output_gate
        change = cell_gradient + torch.addcmul(through, through, shown * shown, value=-1)
        gradient = torch.empty_like(opened)
        parts = gradient.chunk(4, dim=1)
        torch.mul(change, candidate, out=parts[0])
        torch.mul(change, cell, out=parts[1])
        torch.mul(change, input_gate, out=parts[2])
        torch.mul(hidden_gradient, shown, out=parts[3])
        # d sigmoid = s (1 - s), d tanh = 1 - g^2
        slope = torch.addcmul(opened, opened, opened, value=-1)
        width = cell.shape[1]
        slope[:, 2 * width : 3 * width] = 1 - candidate * candidate
        return gradient.mul_(slope), change * forget_gate


def defer_weight_grad(
    layer: nn.Linear, num_rows: int, dtype: torch.dtype
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """A linear layer for every step of a recurrence; arguments and result as ``unrolled``'s.

    With autograd, each step multiplies a few rows into a gradient as large as the weight and adds
    it to the sum. Here the weight's gradient is one product over the rows of all steps. Without it
    a step of up_down takes 1.07 times as long (rounds 1.01 to 1.09).

    Args:
        dtype: what the product is computed in.
    """
    weight, seen = layer.weight.detach().to(dtype), []

    def product(inputs: Tensor) -> Tensor:
        inputs = inputs.to(dtype)
        seen.append(inputs.detach())
        return F.linear(inputs, weight)

    bias = layer.weight.new_zeros(len(weight)) if layer.bias is None else layer.bias
    rest: Tensor = _OneGradient.apply(layer.weight, bias, dtype, num_rows, seen)  # type: ignore[no-untyped-call]
    return product, rest


class _OneGradient(Function):
    """The bias, to be added to the products with a weight; its gradient gives the weight's."""

    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        bias: Tensor,
        dtype: torch.dtype,
        num_rows: int,
        seen: list[Tensor],
    ) -> Tensor:
        """-> (N, out)."""
        ctx.seen = seen
        return bias.to(dtype)[None].expand(num_rows, -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        """Autograd comes here after the last step, so the inputs of all steps are there."""
        return gradient.T @ torch.cat(ctx.seen), gradient.sum(dim=0), None, None, None
