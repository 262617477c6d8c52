"""Live and finished hypotheses of a beam search over a batch.

Shapes: ``A`` pictures that are still active, ``G`` groups, ``M`` banks of a group, ``S`` = G M
slots of a picture, ``K`` hypotheses of a slot, ``T`` tokens, ``R`` regions, ``P`` places among
which the next hypotheses are chosen.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from showtell.decoding.hypotheses import NEVER, Hypotheses, cut_to_longest
from showtell.text.vocabulary import PAD, START


class Choice(NamedTuple):
    """Continuations; -inf in ``totals`` and ``scores`` where there is none.

    Attributes:
        scores: (A, S, P) what they are chosen by; ``totals`` less what diversity takes.
        totals: (A, S, P) log-probability of the hypothesis with its new token.
        token: (A, S, P) the new token.
        last: (A, S, P) its log-probability.
        parent: (A, S, P) the hypothesis it continues, counted through the picture's slots.
    """

    scores: Tensor
    totals: Tensor
    token: Tensor
    last: Tensor
    parent: Tensor

    def best(self, num: int) -> "Choice":
        """(A, S, num) the best by ``scores``; filled up where there are fewer."""
        missing = num - self.scores.shape[2]
        parts: tuple[Tensor, ...] = self
        if missing > 0:
            shape = (*self.scores.shape[:2], missing)
            fill = (NEVER, NEVER, PAD, 0.0, 0)
            parts = tuple(
                torch.cat([part, part.new_full(shape, value)], dim=2)
                for part, value in zip(self, fill, strict=True)
            )
        index = parts[0].topk(num, dim=2).indices
        return Choice(*(part.gather(2, index) for part in parts))

    def without(self, places: Tensor) -> "Choice":
        """None where (A, S, P) ``places`` is True."""
        scores, totals = (part.masked_fill(places, NEVER) for part in self[:2])
        return self._replace(scores=scores, totals=totals)

    def of_slots(self, slots: slice) -> "Choice":
        """Some of a picture's slots."""
        return Choice(*(part[:, slots] for part in self))


class Live(NamedTuple):
    """Hypotheses that go on; K is 1 before the first token.

    Attributes:
        log_probs: (A, S, K), -inf in a place that nothing took.
        tokens: (A, S, K, T) ids, ``<pad>`` from the current length on.
        token_log_probs: (A, S, K, T).
        attention: (A, S, K, T, R), or None.
    """

    log_probs: Tensor
    tokens: Tensor
    token_log_probs: Tensor
    attention: Tensor | None

    @classmethod
    def start(cls, num: int, slots: int, banks: int, length: int, device: torch.device) -> "Live":
        """The empty hypothesis in each group's first bank."""
        log_probs = torch.full((num, slots, 1), NEVER, device=device)
        log_probs[:, ::banks] = 0.0
        shape = (num, slots, 1, length)
        return cls(
            log_probs,
            torch.full(shape, PAD, device=device),
            torch.zeros(shape, device=device),
            None,
        )

    def attending(self, weights: Tensor, position: int) -> "Live":
        """With (A S K, R) attention of the token at ``position``."""
        attention = self.attention
        if attention is None:
            attention = weights.new_zeros((*self.tokens.shape, weights.shape[1]))
        attention[..., position, :] = weights.view(*self.log_probs.shape, -1)
        return self._replace(attention=attention)

    @property
    def num_rows(self) -> int:
        """Rows of a decoder's step."""
        return self.log_probs.numel()

    def last_tokens(self, length: int) -> Tensor:
        """(A S K,) what to feed next."""
        if length == 0:
            return torch.full((self.num_rows,), START, device=self.tokens.device)
        return self.tokens[..., length - 1].reshape(-1)

    def prefixes(self, length: int) -> Tensor:
        """(A S K, length) the words so far."""
        return self.tokens.flatten(0, 2)[:, :length]

    def rows(self, parent: Tensor) -> Tensor:
        """(A, S, P) parents as rows of the batch."""
        num, slots, size = self.log_probs.shape
        first = torch.arange(num, device=parent.device) * (slots * size)
        return first[:, None, None] + parent

    def extended(
        self, choice: Choice, length: int, pictures: Tensor | slice = slice(None)
    ) -> "Live":
        """The hypotheses of ``choice`` with their new token at position ``length``.

        Args:
            pictures: (A,) True for those that are wanted, (A', ...); all by default.
        """
        rows = self.rows(choice.parent)[pictures].flatten()
        choice = Choice(*(part[pictures] for part in choice))
        shape = choice.totals.shape

        def take(values: Tensor) -> Tensor:
            return values.flatten(0, 2).index_select(0, rows).view(*shape, *values.shape[3:])

        tokens, token_log_probs = take(self.tokens), take(self.token_log_probs)
        tokens[..., length] = choice.token
        token_log_probs[..., length] = choice.last
        attention = None if self.attention is None else take(self.attention)
        return Live(choice.totals, tokens, token_log_probs, attention)

    def of_pictures(self, stays: Tensor) -> "Live":
        """(A,) True where a picture stays."""
        attention = None if self.attention is None else self.attention[stays]
        log_probs, tokens, token_log_probs = (part[stays] for part in self[:3])
        return Live(log_probs, tokens, token_log_probs, attention)


class Finished:
    """The best finished hypotheses of every picture and group: (B, G, K, ...)."""

    def __init__(self, live: Live, groups: int, size: int, penalty: float) -> None:
        num, _, _, length = live.tokens.shape
        device = live.tokens.device
        shape = (num, groups, size)
        self.penalty = penalty
        self.parts: list[Tensor] = [
            torch.full((*shape, length), PAD, device=device),
            torch.zeros((*shape, length), device=device),
            torch.full(shape, NEVER, device=device),
            torch.full(shape, NEVER, device=device),
        ]
        self.num = torch.zeros((num, groups), dtype=torch.long, device=device)

    def add(self, active: Tensor, live: Live, ended: Choice, length: int) -> None:
        """Merge what ended now into what ended before.

        Args:
            active: (A,) the pictures of ``live``.
            live: before this step.
            ended: (A, G, P) its continuations that end, -inf where one does not.
            length: tokens before the new one.
        """
        real = ended.totals > NEVER
        changed = real.flatten(1).any(dim=1)
        if not bool(changed.any()):
            return
        active = active[changed]
        new = live.extended(ended, length, changed)
        scores = new.log_probs / (length + 1) ** self.penalty
        parts = [new.tokens, new.token_log_probs, new.log_probs, scores]
        if new.attention is not None:
            parts.append(new.attention)
            if len(self.parts) < len(parts):
                shape = (*self.parts[0].shape, new.attention.shape[-1])
                self.parts.append(new.attention.new_zeros(shape))
        merged = [
            torch.cat([old[active], part], dim=2)
            for old, part in zip(self.parts, parts, strict=True)
        ]
        best = merged[3].topk(self.parts[3].shape[2], dim=2).indices
        for target, part in zip(self.parts, merged, strict=True):
            target[active] = _gather(part, best)
        self.num[active] += real[changed].sum(dim=2)

    def best(self, num: int) -> Hypotheses:
        """(B, num): each group's best, then each group's second, and so on; none twice."""
        groups = self.num.shape[1]
        # Rank by rank, and within a rank by score.
        parts = [part.transpose(1, 2) for part in self.parts]
        if groups > 1:
            order = parts[3].argsort(dim=2, descending=True, stable=True)
            parts = [_gather(part, order) for part in parts]
        parts = [part.flatten(1, 2) for part in parts]
        if groups > 1:
            parts = _without_repeats(parts)
        tokens, token_log_probs, log_probs, scores = (part[:, :num] for part in parts[:4])
        attention = parts[4][:, :num] if len(parts) > 4 else None
        found = Hypotheses(tokens, token_log_probs, log_probs, scores, attention)
        return cut_to_longest(found)


def _without_repeats(parts: list[Tensor]) -> list[Tensor]:
    """Move captions that came before, and empty places, to the end; keep the others' order."""
    tokens, _, log_probs, scores = parts[:4]
    same = (tokens[:, :, None] == tokens[:, None]).all(dim=-1)  # (B, K, K)
    is_real = log_probs > NEVER
    repeated = (same & is_real[:, None]).tril(diagonal=-1).any(dim=2)
    parts[2] = log_probs.masked_fill(repeated, NEVER)
    parts[3] = scores.masked_fill(repeated, NEVER)
    order = (repeated | ~is_real).long().argsort(dim=1, stable=True)
    return [_gather(part, order) for part in parts]


def _gather(values: Tensor, index: Tensor) -> Tensor:
    """Along the last dimension of ``index``, with whatever dimensions ``values`` has after it."""
    dim = index.dim() - 1
    extra = values.shape[index.dim() :]
    shaped = index.reshape(*index.shape, *(1,) * len(extra)).expand(*index.shape, *extra)
    return values.gather(dim, shaped)
