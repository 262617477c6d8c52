"""What a caption may not be: each constraint puts -inf where a token may not come next.

A constraint is called with the next tokens' log-probabilities (N, V), the words so far (N, L) and
their number L, and changes the log-probabilities in place. The others are left as they are, not
renormalised, so a caption keeps the probability that the model gives it.

Where a token can be foreseen to leave a caption without an allowed end, it is forbidden before
it is too late; so a beam of one finds a caption, too. Knows ids only.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

import torch
from torch import Tensor

from showtell.decoding.hypotheses import NEVER
from showtell.text.vocabulary import END, PAD, START, UNK


class Constraint(Protocol):
    """Forbids tokens, given the words so far."""

    def __call__(self, log_probs: Tensor, prefixes: Tensor, length: int) -> Tensor:
        """(N, V) log-probabilities after (N, L) words -> the same with -inf."""


def build_constraints(
    *,
    max_length: int,
    min_length: int = 0,
    no_repeat_ngram: int | None = None,
    forbidden: Collection[int] = (),
    required: Sequence[int] = (),
    bad_endings: Collection[int] = (),
) -> list[Constraint]:
    """The constraints that these settings ask for.

    Args:
        max_length: words at most; after so many only ``<end>`` may follow.
        min_length: words at least; before so many ``<end>`` may not come.
        no_repeat_ngram: no so many words in a row come twice.
        forbidden: ids that never come; ``<pad>``, ``<start>`` and ``<unk>`` never do anyway.
        required: ids that must all come, each once at least.
        bad_endings: ids that ``<end>`` may not follow.
    """
    constraints: list[Constraint] = [Forbidden({PAD, START, UNK, *forbidden})]
    if no_repeat_ngram:
        constraints.append(NoRepeatNgram(no_repeat_ngram))
    if required:
        constraints.append(Required(required, max_length, bad_endings))
    if bad_endings:
        constraints.append(NoBadEndings(bad_endings, max_length))
    return [*constraints, Length(min_length, max_length)]


class Forbidden:
    """Ids that never come."""

    def __init__(self, ids: Collection[int]) -> None:
        self.ids = torch.tensor(sorted(ids))

    def __call__(self, log_probs: Tensor, prefixes: Tensor, length: int) -> Tensor:
        """-inf in their columns."""
        self.ids = self.ids.to(log_probs.device)
        return log_probs.index_fill_(1, self.ids, NEVER)


class Length:
    """Words at least and at most."""

    def __init__(self, min_length: int, max_length: int) -> None:
        self.min_length, self.max_length = min_length, max_length

    def __call__(self, log_probs: Tensor, prefixes: Tensor, length: int) -> Tensor:
        """No ``<end>`` before ``min_length`` words, nothing else after ``max_length``."""
        if length < self.min_length:
            log_probs[:, END] = NEVER
        if length >= self.max_length:
            end = log_probs[:, END].clone()
            log_probs.fill_(NEVER)[:, END] = end
        return log_probs


class NoRepeatNgram:
    """No ``size`` words in a row come twice (Paulus et al. 2017, arXiv 1705.04304, section 2.5)."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, log_probs: Tensor, prefixes: Tensor, length: int) -> Tensor:
        """-inf for each word that followed the last ``size`` - 1 words before."""
        if length < self.size:
            return log_probs
        windows = prefixes.unfold(1, self.size, 1)  # (N, L - size + 1, size)
        last = prefixes[:, None, length - self.size + 1 :]
        seen = (windows[:, :, :-1] == last).all(dim=-1)
        # What is not to be forbidden points at <pad>, which never comes.
        ids = windows[:, :, -1].masked_fill(~seen, PAD)
        return log_probs.scatter_(1, ids, NEVER)


class NoBadEndings:
    """``<end>`` does not follow some words, and the last word that fits is none of them."""

    def __init__(self, ids: Collection[int], max_length: int) -> None:
        self.ids, self.max_length = torch.tensor(sorted(ids)), max_length

    def __call__(self, log_probs: Tensor, prefixes: Tensor, length: int) -> Tensor:
        """-inf for ``<end>`` in rows whose last word is one of them."""
        self.ids = self.ids.to(log_probs.device)
        if length == self.max_length - 1:
            log_probs.index_fill_(1, self.ids, NEVER)
        if length > 0:
            ends_badly = torch.isin(prefixes[:, -1], self.ids)
            log_probs[:, END].masked_fill_(ends_badly, NEVER)
        return log_probs


class Required:
    """Ids that must all come, and for which room is kept.

    While ids are missing, there must be room for them after the next word, and for one word more
    where all of them are bad endings.
    """

    def __init__(
        self, ids: Sequence[int], max_length: int, bad_endings: Collection[int] = ()
    ) -> None:
        self.ids, self.max_length = torch.tensor(ids), max_length
        self.ends_well = torch.tensor([index not in bad_endings for index in ids])

    def to(self, device: torch.device) -> None:
        """Move its ids to where the search runs."""
        self.ids, self.ends_well = self.ids.to(device), self.ends_well.to(device)

    def missing(self, prefixes: Tensor) -> Tensor:
        """(N, L) words -> (N, C) True where a required id has not come yet."""
        return ~(prefixes[:, :, None] == self.ids).any(dim=1)

    def __call__(self, log_probs: Tensor, prefixes: Tensor, length: int) -> Tensor:
        """No ``<end>`` while ids are missing, and no word that takes the room they need."""
        self.to(log_probs.device)
        missing = self.missing(prefixes)
        num, good = missing.sum(dim=1), (missing & self.ends_well).sum(dim=1)
        room = self.max_length - length - 1  # words that can follow the next one
        log_probs[:, END].masked_fill_(num > 0, NEVER)
        columns = log_probs[:, self.ids]
        # A word that is not missing leaves all of them to come ...
        no_room = (num > 0) & (num + (good == 0) > room)
        log_probs.masked_fill_(no_room[:, None], NEVER)
        # ... and one that is missing leaves the others.
        left = num[:, None] - 1
        badly = (good[:, None] - self.ends_well.long() == 0) & (left > 0)
        fits = missing & (left + badly.long() <= room)
        kept = torch.where(missing, columns.masked_fill(~fits, NEVER), log_probs[:, self.ids])
        log_probs[:, self.ids] = kept
        return log_probs
