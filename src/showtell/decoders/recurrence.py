"""Recurrences over captions of different lengths, without computing the padding.

Captions are ordered by length, the longest first. Step t computes only the rows that have a token
there. ``pack`` finds those tokens, ``unroll`` feeds them through a decoder's step, and
``Packed.unpack`` puts the results back into place. What depends on a word alone is computed before
the recurrence, for the words of all captions at once.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from showtell.decoders import fast_cpu
from showtell.decoders.base import State
from showtell.decoders.fast_cpu import recurrence as fast
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
    if fast_cpu.takes("lstm_cell", gates.device):
        return fast.lstm_cell(gates, cell)
    input_gate, forget_gate, candidate, output_gate = gates.chunk(4, dim=-1)
    cell = forget_gate.sigmoid() * cell + input_gate.sigmoid() * candidate.tanh()
    return output_gate.sigmoid() * cell.tanh().to(gates.dtype), cell


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


def unrolled(layer: nn.Linear, num_rows: int) -> tuple[Product, Tensor]:
    """A linear layer to use at every step of a recurrence.

    Args:
        num_rows: N, the rows of all steps together.

    Returns:
        The product with the weight, and what to add to it, (N, out). Each step adds its own rows
        of that, in the order of the products. In training the layer gets its gradient through it.
    """
    weight = layer.weight
    dtype = weight.dtype
    if torch.is_autocast_enabled(weight.device.type):
        dtype = torch.get_autocast_dtype(weight.device.type)
    if fast_cpu.takes("deferred_weight_grads", weight.device):
        return fast.defer_weight_grad(layer, num_rows, dtype)
    return layer, weight.new_zeros(num_rows, 1, dtype=dtype)


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
