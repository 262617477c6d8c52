"""What every way of decoding gives, and what it needs of a decoder.

Shapes: ``B`` pictures, ``K`` captions a picture, ``N`` rows of a step, ``T`` tokens, ``V``
vocabulary, ``R`` regions.

MERGED: The largest entries of long rows, faster than ``topk`` alone on a processor.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from showtell.decoders.base import State
from showtell.encoders.features import Features
from showtell.text.vocabulary import PAD

NEVER = float("-inf")
ATTENTION = "attention"  # the entry of a state where a decoder that attends leaves its weights


class Hypotheses(NamedTuple):
    """The ``K`` captions of each of ``B`` pictures, best first.

    Where fewer than ``K`` captions meet the constraints, the last places have no tokens and -inf
    for ``log_probs`` and ``scores``.

    Attributes:
        tokens: (B, K, T) ids without ``<start>``; ``<end>`` is kept, then ``<pad>``.
        token_log_probs: (B, K, T) the decoder's log-probability of each token in nats, 0 on
            padding. Constraints, temperature and diversity decide what is chosen and do not enter
            here.
        log_probs: (B, K) their sum, ``<end>`` included.
        scores: (B, K) log_probs / number of tokens ** length_penalty.
        attention: (B, K, T, R) where the decoder looked for each token, 0 on padding; None where
            it was not asked for or the decoder does not attend.
    """

    tokens: Tensor
    token_log_probs: Tensor
    log_probs: Tensor
    scores: Tensor
    attention: Tensor | None = None


class Steps(Protocol):
    """What decoding needs of a decoder. Dim 0 of every entry of a state is the batch.

    A decoder may name, as ``picture_state``, entries that follow from the picture alone (projected
    regions, say); beam search leaves these at a row a picture. Other entries that ``step`` hands
    back as the very tensor that it was given are taken for such, too, and not reordered; so
    ``step`` must not write into a tensor of its state. The log-probabilities are the caller's:
    constraints write into them. A decoder that has no positions for longer captions may say, as
    ``max_tokens``, how many tokens one may have without ``<end>``; captions then keep to it.
    One that attends has ``ATTENTION`` in its first state, and gives it where it gets it: a search
    that does not want it takes it out.
    """

    def init_state(self, features: Features) -> State:
        """The state before the first token."""

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(N,) ids -> (N, V) log-probabilities in nats, and the new state."""


def reorder(state: State, rows: Tensor) -> State:
    """Rows (N',) of every entry."""
    return {name: part.index_select(0, rows) for name, part in state.items()}


def cut_to_longest(found: Hypotheses) -> Hypotheses:
    """Blank the places that no caption took, and drop the positions that no caption reaches."""
    empty = (found.log_probs == NEVER)[:, :, None]
    tokens = found.tokens.masked_fill(empty, PAD)
    longest = int((tokens != PAD).sum(dim=-1).max()) if tokens.numel() else 0
    attention = found.attention
    if attention is not None:
        attention = attention[:, :, :longest] * (tokens[:, :, :longest, None] != PAD)
    return Hypotheses(
        tokens=tokens[:, :, :longest],
        token_log_probs=found.token_log_probs.masked_fill(empty, 0.0)[:, :, :longest],
        log_probs=found.log_probs,
        scores=found.scores,
        attention=attention,
    )


BLOCK = 32


def top_entries(values: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """``values.topk(num)`` along the last of two dimensions, in two exact steps.

    The ``num`` largest entries of a row lie in the ``num`` blocks that have the largest maxima
    (were one of them in another block, each of these would hold a larger entry). A maximum
    vectorises, a heap does not. Among equal entries either may be taken, as with ``topk``.

    Args:
        values: (N, V).
        num: of entries, at most V.

    Returns:
        (N, num) the largest first, and where in the row they are.
    """
    num_rows, size = values.shape
    num_blocks = size // BLOCK
    if values.is_cuda or num_blocks < 4 * num:
        return values.topk(num, dim=1)
    head = num_blocks * BLOCK
    maxima = values[:, :head].reshape(num_rows, num_blocks, BLOCK).amax(dim=-1)
    blocks = maxima.topk(num, dim=1, sorted=False).indices
    index = (blocks[:, :, None] * BLOCK + torch.arange(BLOCK, device=values.device)).flatten(1)
    if head < size:
        tail = torch.arange(head, size, device=values.device).expand(num_rows, -1)
        index = torch.cat([index, tail], dim=1)
    best, place = values.gather(1, index).topk(num, dim=1)
    return best, index.gather(1, place)
