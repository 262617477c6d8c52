"""What decoding returns, and what it needs from a decoder.

Shapes: ``B`` pictures, ``K`` captions a picture, ``N`` rows of a step, ``T`` tokens, ``V``
vocabulary, ``R`` regions.
"""

from typing import NamedTuple, Protocol

from torch import Tensor

from showtell.decoders.base import State
from showtell.encoders.features import Features
from showtell.text.vocabulary import PAD

NEVER = float("-inf")
ATTENTION = "attention"  # the entry of a state with the weights of a decoder that attends


class Hypotheses(NamedTuple):
    """The ``K`` captions of each of ``B`` pictures, best first.

    Where fewer than ``K`` captions meet the constraints, the last places have no tokens and -inf
    for ``log_probs`` and ``scores``.

    Attributes:
        tokens: (B, K, T) ids without ``<start>``; ``<end>`` is kept, then ``<pad>``.
        token_log_probs: (B, K, T) the decoder's log-probability of each token in nats, 0 on
            padding. Constraints, temperature and diversity affect which tokens are chosen, not
            these numbers.
        log_probs: (B, K) their sum, ``<end>`` included.
        scores: (B, K) log_probs / number of tokens ** length_penalty.
        attention: (B, K, T, R) where the decoder looked for each token, 0 on padding; None
            if it was not asked for or the decoder does not attend.
    """

    tokens: Tensor
    token_log_probs: Tensor
    log_probs: Tensor
    scores: Tensor
    attention: Tensor | None = None


class Steps(Protocol):
    """What decoding needs from a decoder: a first state, and steps from one state to the next.

    Dim 0 of every entry of a state is the batch. Search reorders every entry after each step, so
    that row n belongs to hypothesis n. The exception is entries that a decoder names in
    ``picture_state``, a set of names: they follow from the picture alone (its projected regions,
    for example) and keep one row a picture, whatever the number of hypotheses.

    - ``step`` must not write into the tensors of its state. It may return them.
    - The log-probabilities belong to the caller: constraints write into them.
    - A decoder with a limited number of positions says in ``max_tokens`` how many tokens a caption
      may have, ``<end>`` not counted.
    - A decoder that attends has an ``ATTENTION`` entry in its first state, and returns one from
      each step that is given one. Search removes the entry where attention is not wanted.
    """

    def init_state(self, features: Features) -> State:
        """The state before the first token."""

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(N,) ids -> (N, V) log-probabilities in nats, and the new state."""


def reorder(state: State, rows: Tensor) -> State:
    """Rows (N',) of every entry of a state."""
    return {name: part.index_select(0, rows) for name, part in state.items()}


def cut_to_longest(found: Hypotheses) -> Hypotheses:
    """Clear the places without a caption, and drop the positions that no caption reaches."""
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
