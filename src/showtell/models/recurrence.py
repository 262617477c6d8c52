"""Running a decoder's own recurrence over captions of many lengths, without the padding.

Captions are ordered by length, the longest first; step t computes only the rows that have a
token there. What is computed of a word alone is computed before, for the words of all captions
at once. Knows nothing of attention.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from showtell.models.base import Features, State
from showtell.text.vocabulary import PAD


def lstm_cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """One step of an LSTM (Hochreiter and Schmidhuber 1997, with the forget gate of Gers 2000).

    Args:
        gates: (B, 4 H) inputs of the input, forget, candidate and output gates.
        cell: (B, H) in fp32, as it is summed over many steps.

    Returns:
        hidden (B, H) in the type of ``gates``, and the new cell.
    """
    input_gate, forget_gate, candidate, output_gate = gates.chunk(4, dim=-1)
    cell = forget_gate.sigmoid() * cell + input_gate.sigmoid() * candidate.tanh()
    return output_gate.sigmoid() * cell.tanh().to(gates.dtype), cell


def remember_at_first(bias: Tensor) -> None:
    """Start the forget gates (of a bias of 4 H) open (Jozefowicz et al. 2015, section 2.2)."""
    with torch.no_grad():
        bias.chunk(4)[1].fill_(1.0)


class Packed(NamedTuple):
    """The N real tokens of B captions, step by step, the longest captions first.

    Attributes:
        tokens: (N,) ids.
        place: (N,) where each is among the B T of the batch.
        order: (B,) the captions, the longest first.
        sizes: how many of them have a token at each step.
        shape: (B, T).
    """

    tokens: Tensor
    place: Tensor
    order: Tensor
    sizes: list[int]
    shape: torch.Size

    def unpack(self, values: Tensor) -> Tensor:
        """(N, ...) in the order of ``tokens`` -> (B, T, ...), zero on padding."""
        padded = values.new_zeros(self.shape.numel(), *values.shape[1:])
        return padded.index_copy(0, self.place, values).view(*self.shape, *values.shape[1:])


def pack(tokens: Tensor) -> Packed:
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
    return Packed(tokens.flatten()[place], place, order, sizes, tokens.shape)


def unroll(
    step: Callable[[Tensor, State], State],
    inputs: Tensor,
    packed: Packed,
    state: State,
    features: Features,
    keep: tuple[str, ...],
) -> dict[str, Tensor]:
    """Feed the captions of a batch through ``step``.

    Args:
        step: (n, E) inputs of the rows that are still there, and their state -> the new state.
        inputs: (N, E) in the order of ``packed.tokens``.
        packed: of the captions' tokens.
        state: before the first token, one row for each of the P pictures.
        features: say which picture each caption is about.
        keep: entries of the state that are wanted.

    Returns:
        These entries after each step, each (N, ...) in the order of ``packed.tokens``.
    """
    rows = packed.order
    if features.picture_of is not None:
        rows = features.picture_of[rows]
    state = {name: part.index_select(0, rows) for name, part in state.items()}
    kept: dict[str, list[Tensor]] = {name: [] for name in keep}
    for part in torch.split(inputs, packed.sizes):
        if len(part) < len(rows):
            rows = rows[: len(part)]
            state = {name: entry[: len(part)] for name, entry in state.items()}
        state = step(part, state)
        for name in keep:
            kept[name].append(state[name])
    return {name: torch.cat(parts) for name, parts in kept.items()}
