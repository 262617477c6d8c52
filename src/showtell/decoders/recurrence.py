"""Running a decoder's own recurrence over captions of many lengths, without the padding.

Captions are ordered by length, the longest first; step t computes only the rows that have a
token there. What is computed of a word alone is computed before, for the words of all captions
at once; what a weight's gradient needs is kept, and the gradient computed after, for all steps at
once. Knows nothing of attention.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from showtell.decoders.base import State
from showtell.encoders.features import Features
from showtell.text.vocabulary import PAD

Product = Callable[[Tensor], Tensor]


def lstm_cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """One step of an LSTM (Hochreiter and Schmidhuber 1997, with the forget gate of Gers 2000).

    Args:
        gates: (B, 4 H) inputs of the input, forget, candidate and output gates.
        cell: (B, H) in fp32, as it is summed over many steps.

    Returns:
        hidden (B, H) in the type of ``gates``, and the new cell.
    """
    if puts_off_gradients():
        new_hidden, new_cell = _LstmCell.apply(gates, cell)  # type: ignore[no-untyped-call]
        return new_hidden, new_cell
    input_gate, forget_gate, candidate, output_gate = gates.chunk(4, dim=-1)
    cell = forget_gate.sigmoid() * cell + input_gate.sigmoid() * candidate.tanh()
    return output_gate.sigmoid() * _tanh(cell).to(gates.dtype), cell


def _tanh(values: Tensor) -> Tensor:
    """2 sigmoid(2 x) - 1, on a processor in a third of the time of torch's."""
    return 2 * (2 * values).sigmoid() - 1


class _LstmCell(Function):
    """The same in two thirds of the time of a training step: its gradient written down.

    For c' = f c + i g and h' = o tanh(c'), with i, f, o = sigmoid and g = tanh of the gates.
    """

    @staticmethod
    def forward(ctx: Any, gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 4 H), (B, H) -> (B, H), (B, H)."""
        width = cell.shape[1]
        opened = gates.sigmoid()
        candidate = torch.tanh(gates[:, 2 * width : 3 * width])
        opened[:, 2 * width : 3 * width] = candidate
        input_gate, forget_gate, _, output_gate = opened.chunk(4, dim=1)
        new_cell = torch.addcmul(input_gate * candidate, forget_gate, cell)
        shown = _tanh(new_cell).to(gates.dtype)
        ctx.save_for_backward(opened, cell, shown)
        return output_gate * shown, new_cell

    @staticmethod
    def backward(ctx: Any, hidden_gradient: Tensor, cell_gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Of the gates and the cell."""
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


def init_gates(*layers: nn.Linear) -> None:
    """Weights and biases as ``nn.LSTM`` starts them, U(-H**-0.5, H**-0.5).

    Args:
        layers: the parts of one cell's gates, each (4 H, in) with its own input; the forget gate
            of the last starts open (Jozefowicz et al. 2015, section 2.2).
    """
    bound = (layers[0].out_features // 4) ** -0.5
    with torch.no_grad():
        for parameter in (p for layer in layers for p in layer.parameters()):
            parameter.uniform_(-bound, bound)
        layers[-1].bias.chunk(4)[1].fill_(1.0)


def puts_off_gradients() -> bool:
    """Whether what all steps add to a gradient is computed at the end: in eager training."""
    return torch.is_grad_enabled() and not torch.compiler.is_compiling()


def unrolled(layer: nn.Linear, num_rows: int) -> tuple[Product, Tensor]:
    """A linear layer for use at every step of a recurrence, its gradient taken once.

    Left to autograd, each step multiplies a few rows into a gradient as large as the weight and
    adds it to the sum: half of the time of a step.

    Args:
        num_rows: N, of all steps together.

    Returns:
        The product with the weight; and what is to be added to it, (N, out), of which each step
        takes its rows, in the order of the products: by way of it the layer gets its gradient.
    """
    dtype = layer.weight.dtype
    if torch.is_autocast_enabled(layer.weight.device.type):
        dtype = torch.get_autocast_dtype(layer.weight.device.type)
    if not puts_off_gradients():
        return layer, layer.weight.new_zeros(num_rows, 1, dtype=dtype)
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
        """All steps' inputs are there: autograd comes here after the last of them."""
        return gradient.T @ torch.cat(ctx.seen), gradient.sum(dim=0), None, None, None


class Packed(NamedTuple):
    """The N real tokens of B captions, step by step, the longest captions first.

    Attributes:
        tokens: (N,) ids.
        place: (N,) where each is among the B T of the batch.
        pictures: (B,) the picture of each caption, the longest caption first.
        sizes: how many captions have a token at each step.
        shape: (B, T).
    """

    tokens: Tensor
    place: Tensor
    pictures: Tensor
    sizes: list[int]
    shape: torch.Size

    def unpack(self, values: Tensor) -> Tensor:
        """(N, ...) in the order of ``tokens`` -> (B, T, ...), zero on padding."""
        padded = values.new_zeros(self.shape.numel(), *values.shape[1:])
        return padded.index_copy(0, self.place, values).view(*self.shape, *values.shape[1:])


def pack(tokens: Tensor, features: Features) -> Packed:
    """Leave out the padding of (B, T) ids; when compiled it stays, as shapes must be fixed."""
    num_rows, num_steps = tokens.shape
    order = torch.arange(num_rows, device=tokens.device)
    steps = torch.arange(num_steps, device=tokens.device)[:, None]
    if torch.compiler.is_compiling():
        sizes, place = [num_rows] * num_steps, (order * num_steps + steps).flatten()
    else:
        lengths, order = (tokens != PAD).sum(dim=1).sort(descending=True, stable=True)
        real = lengths > steps
        sizes = [size for size in real.sum(dim=1).tolist() if size]
        place = (order * num_steps + steps)[real]
    pictures = order if features.picture_of is None else features.picture_of[order]
    return Packed(tokens.flatten()[place], place, pictures, sizes, tokens.shape)


def unroll(
    step: Callable[..., State],
    inputs: Sequence[Tensor],
    packed: Packed,
    state: State,
    *,
    keep: Sequence[str],
) -> dict[str, Tensor]:
    """Feed the captions of a batch through ``step``.

    Args:
        step: inputs (n, ...) of the rows that are still there, and their state (n, ...) -> their
            new state.
        inputs: each (N, ...) in the order of ``packed.tokens``.
        packed: of the captions' tokens.
        state: before the first token, one row for each of the P pictures.
        keep: entries of the state that are wanted.

    Returns:
        These entries after each step, each (N, ...) in the order of ``packed.tokens``.
    """
    state = {name: part.index_select(0, packed.pictures) for name, part in state.items()}
    kept: dict[str, list[Tensor]] = {name: [] for name in keep}
    by_step = [torch.split(values, packed.sizes) for values in inputs]
    for size, *parts in zip(packed.sizes, *by_step, strict=True):
        state = step(*parts, {name: entry[:size] for name, entry in state.items()})
        for name in keep:
            kept[name].append(state[name])
    return {name: torch.cat(entries) for name, entries in kept.items()}
