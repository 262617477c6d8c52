"""The hypotheses of a beam search, as arrays: those in the beam, their continuations, the finished.

The search itself is in ``beam.py``, with what groups, banks and slots are, and the letters of the
shapes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from showtell.decoding.arrays import NEVER, Flags, Floats, Ids
from showtell.decoding.hypotheses import Hypotheses, cut_to_longest
from showtell.text.vocabulary import PAD


class Candidates(NamedTuple):
    """Continuations of hypotheses by one token; -inf in ``totals`` and ``scores`` marks an empty
    place.

    Attributes:
        scores: (A, S, P) what they are ranked by: ``totals`` less the penalty of diversity.
        totals: (A, S, P) log-probability of the hypothesis with its new token.
        token: (A, S, P) the new token.
        last: (A, S, P) log-probability of the new token.
        parent: (A, S, P) the hypothesis that is continued, counted through the picture's slots.
    """

    scores: Floats
    totals: Floats
    token: Ids
    last: Floats
    parent: Ids

    def best(self, num: int) -> "Candidates":
        """(A, S, num) the best by ``scores``, equal ones by place; empty places where there are
        fewer."""
        missing = num - self.scores.shape[2]
        candidates = self
        if missing > 0:
            empty = np.zeros((*self.scores.shape[:2], missing), np.int64)
            never, nothing = np.full(empty.shape, NEVER, np.float32), empty.astype(np.float32)
            others = Candidates(never, never, np.full_like(empty, PAD), nothing, empty)
            candidates = Candidates(*map(_append, self, others))
        index = np.argsort(-candidates.scores, axis=2, kind="stable")[..., :num]
        return candidates.each(lambda part: np.take_along_axis(part, index, axis=2))

    def without(self, places: Flags) -> "Candidates":
        """Empty the places where (A, S, P) ``places`` is True."""
        scores, totals = (np.where(places, np.float32(NEVER), part) for part in self[:2])
        return self._replace(scores=scores, totals=totals)

    def each(self, change: Callable[[Any], Any]) -> "Candidates":
        """The same change of each field."""
        return Candidates(*map(change, self))

    def of_slots(self, slots: slice) -> "Candidates":
        """Some of a picture's slots."""
        return self.each(lambda part: part[:, slots])


class Beam(NamedTuple):
    """The unfinished hypotheses of the active pictures; K is 1 before the first token.

    Attributes:
        log_probs: (A, S, K), -inf in an empty place.
        tokens: (A, S, K, T) ids, ``<pad>`` from the current length on.
        token_log_probs: (A, S, K, T).
        attention: (A, S, K, T, R), or None.
    """

    log_probs: Floats
    tokens: Ids
    token_log_probs: Floats
    attention: Floats | None

    @classmethod
    def start(cls, num: int, slots: int, banks: int, length: int) -> "Beam":
        """The empty hypothesis in the first bank of each group."""
        log_probs = np.full((num, slots, 1), NEVER, np.float32)
        log_probs[:, ::banks] = 0.0
        shape = (num, slots, 1, length)
        return cls(log_probs, np.full(shape, PAD), np.zeros(shape, np.float32), None)

    def last_tokens(self, length: int, start: int) -> Ids:
        """(A S K,) the token to feed next: the last one, ``start`` at first."""
        if length == 0:
            return np.full(self.log_probs.size, start)
        return self.tokens[..., length - 1].ravel()

    def prefixes(self, length: int) -> Ids:
        """(A S K, length) the tokens so far."""
        return self.tokens.reshape(-1, self.tokens.shape[-1])[:, :length]

    def rows(self, parent: Ids) -> Ids:
        """(A, S, P) parents as rows of the batch."""
        num, slots, size = self.log_probs.shape
        first: Ids = np.arange(num) * (slots * size)
        return first[:, None, None] + parent

    def with_attention(self, weights: Floats, position: int) -> "Beam":
        """With the (A S K, R) attention of the token at ``position``."""
        attention = self.attention
        if attention is None:
            attention = np.zeros((*self.tokens.shape, weights.shape[1]), weights.dtype)
        attention[..., position, :] = weights.reshape(*self.log_probs.shape, -1)
        return self._replace(attention=attention)

    def extend(
        self, candidates: Candidates, length: int, pictures: Flags | slice = slice(None)
    ) -> "Beam":
        """The hypotheses of ``candidates``, with their new token at position ``length``.

        Args:
            pictures: (A,) True for those that are wanted, (A', ...); all by default.
        """
        rows = self.rows(candidates.parent)[pictures]
        candidates = candidates.each(lambda part: part[pictures])

        def take(values: NDArray[Any]) -> NDArray[Any]:
            return np.take(values.reshape(-1, *values.shape[3:]), rows, axis=0)

        tokens, token_log_probs = take(self.tokens), take(self.token_log_probs)
        tokens[..., length] = candidates.token
        token_log_probs[..., length] = candidates.last
        attention = None if self.attention is None else take(self.attention)
        return Beam(candidates.totals, tokens, token_log_probs, attention)

    def of_pictures(self, kept: Ids) -> "Beam":
        """Only the pictures at the places (A',) ``kept``."""
        attention = None if self.attention is None else self.attention[kept]
        return Beam(self.log_probs[kept], self.tokens[kept], self.token_log_probs[kept], attention)


class Finished:
    """The best finished hypotheses of every picture and group: (B, G, K, ...).

    Attributes:
        num: (B, G) how many hypotheses have finished.
        parts: tokens, their log-probabilities, the log-probability of the whole, the score, and
            the attention once there is any.
    """

    def __init__(self, beam: Beam, groups: int, size: int, penalty: float) -> None:
        num, _, _, length = beam.tokens.shape
        shape = (num, groups, size)
        self.penalty = penalty
        self.parts: list[NDArray[Any]] = [
            np.full((*shape, length), PAD),
            np.zeros((*shape, length), np.float32),
            np.full(shape, NEVER, np.float32),
            np.full(shape, NEVER, np.float32),
        ]
        self.num = np.zeros((num, groups), np.int64)

    def add(self, active: Ids, beam: Beam, ended: Candidates, length: int) -> None:
        """Merge the hypotheses that end at this step into those that ended before.

        Args:
            active: (A,) the pictures of ``beam``.
            beam: before this step.
            ended: (A, G, P) its candidates that end.
            length: tokens before the new one.
        """
        real = ended.totals > NEVER
        changed = np.any(real, axis=(1, 2))
        if not changed.any():
            return
        active = active[changed]
        new = beam.extend(ended, length, changed)
        scores = new.log_probs / np.float32((length + 1) ** self.penalty)
        parts = [new.tokens, new.token_log_probs, new.log_probs, scores]
        if new.attention is not None:
            parts.append(new.attention)
            if len(self.parts) < len(parts):
                shape = (*self.parts[0].shape, new.attention.shape[-1])
                self.parts.append(np.zeros(shape, new.attention.dtype))
        merged = [
            np.concatenate([old[active], part], axis=2)
            for old, part in zip(self.parts, parts, strict=True)
        ]
        best = np.argsort(-merged[3], axis=2, kind="stable")[..., : self.parts[3].shape[2]]
        for target, part in zip(self.parts, merged, strict=True):
            target[active] = _gather(part, best)
        self.num[active] += real[changed].sum(axis=2)

    def best(self, num: int) -> Hypotheses:
        """(B, num) each group's best, then each group's second, and so on; no caption twice."""
        groups = self.num.shape[1]
        # Rank by rank, and within a rank by score.
        parts = [part.swapaxes(1, 2) for part in self.parts]
        if groups > 1:
            order = np.argsort(-parts[3], axis=2, kind="stable")
            parts = [_gather(part, order) for part in parts]
        parts = [join(part, 1) for part in parts]
        if groups > 1:
            parts = _without_repeats(parts)
        tokens, token_log_probs, log_probs, scores = (part[:, :num] for part in parts[:4])
        attention = parts[4][:, :num] if len(parts) > 4 else None
        found = Hypotheses(tokens, token_log_probs, log_probs, scores, attention)
        return cut_to_longest(found)


def _without_repeats(parts: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Move repeated captions and empty places to the end; keep the order of the others."""
    tokens, _, log_probs, scores = parts[:4]
    same = (tokens[:, :, None] == tokens[:, None]).all(axis=-1)  # (B, K, K)
    is_real = log_probs > NEVER
    repeated = np.tril(same & is_real[:, None], -1).any(axis=2)
    parts[2], parts[3] = (np.where(repeated, np.float32(NEVER), p) for p in (log_probs, scores))
    order = np.argsort(repeated | ~is_real, axis=1, kind="stable")
    return [_gather(part, order) for part in parts]


def _gather(values: NDArray[Any], index: Ids) -> NDArray[Any]:
    """``take_along_axis`` along the last dimension of ``index``, for any further dimensions."""
    extra = values.ndim - index.ndim
    return np.take_along_axis(values, index.reshape(*index.shape, *(1,) * extra), index.ndim - 1)


def _append(values: Any, others: Any) -> Any:
    """Joined along the last dimension."""
    return np.concatenate([values, others], axis=-1)


def join(values: NDArray[Any], dim: int) -> NDArray[Any]:
    """Dimensions ``dim`` and ``dim`` + 1 as one."""
    shape = values.shape
    return values.reshape(*shape[:dim], shape[dim] * shape[dim + 1], *shape[dim + 2 :])
