"""What decoding returns, and what it needs from a decoder.

Shapes: ``B`` pictures, ``K`` captions a picture, ``N`` rows of a step, ``T`` tokens, ``V``
vocabulary, ``R`` regions.
"""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from showtell.decoding.arrays import NEVER, Array, Arrays, Floats, Ids, State
from showtell.encoders.features import Features
from showtell.text.vocabulary import PAD

ATTENTION = "attention"  # the entry of a state with the weights of a decoder that attends


class Hypotheses(NamedTuple):
    """The ``K`` captions of each of ``B`` pictures, best first, as NumPy arrays.

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
        signs: (B, K, F) what a reranker compares captions by (``reranking.SIGNS``); None where
            the model has none.
        doubted: (B, K, T) which tokens say something that the picture does not bear out
            (``doubt.py``); None where it was not asked for.
    """

    tokens: Ids
    token_log_probs: Floats
    log_probs: Floats
    scores: Floats
    attention: Floats | None = None
    signs: NDArray[np.float64] | None = None
    doubted: NDArray[np.bool_] | None = None


class Steps(Protocol):
    """What decoding needs from a decoder: a first state, and steps from one state to the next.

    Arrays are NumPy's or torch's, the same in features, tokens, states and log-probabilities.

    Dim 0 of every entry of a state is the batch. Search reorders every entry after each step, so
    that row n belongs to hypothesis n. The exception is entries that a decoder names in
    ``picture_state``, a set of names: they follow from the picture alone (its projected regions,
    for example) and keep one row a picture, whatever the number of hypotheses.

    - ``step`` must not write into the arrays of its state. It may return them.
    - The log-probabilities belong to the caller: constraints write into them.
    - A decoder with a limited number of positions says in ``max_tokens`` how many tokens a caption
      may have, ``<end>`` not counted.
    - A decoder that attends has an ``ATTENTION`` entry in its first state, and returns one from
      each step that is given one. Search removes the entry where attention is not wanted.
    - A decoder that reads its encoder's classifier has the reader as ``concepts`` (``naming.py``).
    """

    def init_state(self, features: Features) -> State:
        """The state before the first token."""

    def step(self, tokens: Array, state: State) -> tuple[Array, State]:
        """(N,) ids -> (N, V) log-probabilities in nats, fp32, and the new state."""


def reorder(arrays: Arrays, state: State, rows: Ids) -> State:
    """Rows (N',) of every entry of a state."""
    index = arrays.from_host(rows)
    return {name: arrays.take(part, index) for name, part in state.items()}


def cut_to_longest(found: Hypotheses) -> Hypotheses:
    """Clear the places without a caption, and drop the positions that no caption reaches."""
    empty = (found.log_probs == NEVER)[:, :, None]
    tokens = np.where(empty, PAD, found.tokens)
    is_token = tokens != PAD
    longest = int(is_token.sum(axis=2).max(initial=0))
    attention = found.attention
    if attention is not None:
        attention = attention[:, :, :longest] * is_token[:, :, :longest, None]
    return Hypotheses(
        tokens=tokens[:, :, :longest],
        token_log_probs=np.where(empty, np.float32(0), found.token_log_probs)[:, :, :longest],
        log_probs=found.log_probs,
        scores=found.scores,
        attention=attention,
    )
