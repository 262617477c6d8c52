"""Decoding in blocks of one size, so that a caption does not depend on the other pictures.

Matrix products choose their kernel by the number of rows, and kernels differ in the order of their
sums, so in the last bit. A search then may take another word where two are nearly equal. ``InBlocks``
calls a decoder with the same number of rows each time, whatever the batch; the last block is filled
up with copies.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from showtell.decoders.base import State
from showtell.decoding.hypotheses import Steps
from showtell.encoders.features import Features

ROWS = 16  # about so many in a step: benchmarks/batch_invariance.py has the cost of other numbers
PICTURES = 4  # whose first state is computed together
PICTURE = "picture"  # an entry with a row for each picture, which tells their number


class InBlocks:
    """A decoder, every call of which has the same number of rows.

    The number follows from the hypotheses that a picture has (``ROWS`` of them in a block, or those
    of one picture where these are more), not from the number of pictures.

    Args:
        decoder: in eval mode.
    """

    def __init__(self, decoder: Steps) -> None:
        self.decoder = decoder
        own: frozenset[str] = getattr(decoder, "picture_state", frozenset())
        self.picture_state = own | {PICTURE}
        self.max_tokens: int | None = getattr(decoder, "max_tokens", None)

    def init_state(self, features: Features) -> State:
        """The decoder's state, one row for each of the P pictures."""
        assert features.picture_of is None, "search has one row a picture"
        num = len(features.pooled)
        states = [
            self.decoder.init_state(_pictures(features, block, PICTURES))
            for block in _blocks(num, PICTURES)
        ]
        return {**_joined(states, num), PICTURE: torch.zeros(num, device=features.pooled.device)}

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(N,) ids -> (N, V) log-probabilities, and the new state."""
        num_pictures, num_rows = len(state[PICTURE]), len(tokens)
        each = num_rows // num_pictures
        size = max(1, ROWS // each)  # pictures
        log_probs, states = [], []
        for block in _blocks(num_pictures, size):
            rows = slice(block.start * each, block.stop * each)
            own = {
                name: _filled(part[block], size)
                if name in self.picture_state
                else _filled(part[rows], size * each)
                for name, part in state.items()
                if name != PICTURE
            }
            found, new = self.decoder.step(_filled(tokens[rows], size * each), own)
            log_probs.append(found)
            states.append({k: v for k, v in new.items() if k not in self.picture_state})
        kept = {name: part for name, part in state.items() if name in self.picture_state}
        return _cat(log_probs, num_rows), {**kept, **_joined(states, num_rows)}


def _blocks(num: int, size: int) -> Iterator[slice]:
    """Consecutive slices of ``size``; the last may be shorter."""
    return (slice(start, min(start + size, num)) for start in range(0, num, size))


def _pictures(features: Features, block: slice, size: int) -> Features:
    """``size`` pictures: those of a block, filled up."""
    pooled, regions, mask, _, concepts = features
    return Features(
        _filled(pooled[block], size),
        None if regions is None else _filled(regions[block], size),
        None if mask is None else _filled(mask[block], size),
        concepts=None
        if concepts is None
        else type(concepts)(*(_filled(part[block], size) for part in concepts)),
    )


def _filled(values: Tensor, size: int) -> Tensor:
    """``size`` rows: those of (N, ...) values, then copies of the last."""
    missing = size - len(values)
    return torch.cat([values, values[-1:].expand(missing, *values.shape[1:])]) if missing else values


def _cat(parts: list[Tensor], num: int) -> Tensor:
    """The first ``num`` rows of all parts."""
    return parts[0][:num] if len(parts) == 1 else torch.cat(parts)[:num]


def _joined(states: list[State], num: int) -> State:
    return {name: _cat([state[name] for state in states], num) for name in states[0]}
