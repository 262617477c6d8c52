"""Running a decoder's own recurrence over captions of many lengths, without the padding.

Captions are ordered by length, the longest first; step t computes only the rows that have a
token there. What is computed of a word alone is computed before, for the words of all captions
at once. Knows nothing of attention.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

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


def pack(tokens: Tensor) -> PackedSequence:
    """(B, T) ids, padded after their end -> the N real ones, step by step.

    When it is being compiled the padding stays, as the shapes may not depend on the lengths.
    """
    if torch.compiler.is_compiling():
        lengths = torch.full((tokens.shape[0],), tokens.shape[1])
    else:
        lengths = (tokens != PAD).sum(dim=1).clamp_min(1).cpu()
    return pack_padded_sequence(tokens, lengths, batch_first=True, enforce_sorted=False)


def unpack(values: Tensor, packed: PackedSequence, num_steps: int) -> Tensor:
    """(N, ...) values in the order of ``packed.data`` -> (B, T, ...), zero on padding."""
    padded, _ = pad_packed_sequence(
        packed._replace(data=values), batch_first=True, total_length=num_steps
    )
    return padded


def unroll(
    step: Callable[[Tensor, State], State],
    inputs: Tensor,
    packed: PackedSequence,
    state: State,
    features: Features,
    keep: tuple[str, ...],
) -> dict[str, Tensor]:
    """Feed the captions of a batch through ``step``.

    Args:
        step: (n, E) inputs of the rows that are still there, and their state -> the new state.
        inputs: (N, E) in the order of ``packed.data``.
        packed: of the captions' tokens.
        state: before the first token, one row for each of the P pictures.
        features: say which picture each caption is about.
        keep: entries of the state that are wanted.

    Returns:
        These entries after each step, each (N, ...) in the order of ``packed.data``.
    """
    rows = packed.sorted_indices
    assert rows is not None
    if features.picture_of is not None:
        rows = features.picture_of[rows]
    state = {name: part.index_select(0, rows) for name, part in state.items()}
    kept: dict[str, list[Tensor]] = {name: [] for name in keep}
    for part in torch.split(inputs, packed.batch_sizes.tolist()):
        if len(part) < len(rows):
            rows = rows[: len(part)]
            state = {name: entry[: len(part)] for name, entry in state.items()}
        state = step(part, state)
        for name in keep:
            kept[name].append(state[name])
    return {name: torch.cat(parts) for name, parts in kept.items()}
