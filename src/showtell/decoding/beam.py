"""Beam search over a batch of pictures; greedy search is a beam of size 1.

The search is the usual one of sequence models (Sutskever et al. 2014, arXiv 1409.3215, section
3.2). ``_Search.run`` is its loop. A hypothesis

- is born in ``Beam.start``: each picture begins with one empty hypothesis;
- grows in ``_Search._choose``: of the ``2 K`` best continuations of a picture's ``K`` hypotheses,
  those that end with ``<end>`` and are among the first ``K`` finish, and the best ``K`` others
  stay in the beam;
- finishes in ``Finished.add``, which keeps the best ``K`` by score.

The search of a picture ends in ``_Search._drop_done_pictures``: when ``K`` hypotheses have
finished, or none can continue. The picture then leaves the batch; ``run`` returns when none is
left.

Two variants need more than one beam for a picture. Each beam is then a *slot*:

- Diverse beam search (Vijayakumar et al. 2016, arXiv 1610.02424, algorithm 1, Hamming diversity)
  divides the beam into groups. A group pays a penalty for words that an earlier group already chose
  at this step. The penalty affects which words are chosen, and is not part of the scores.
- Required words: a group has one bank of ``K`` hypotheses for each number of required phrases
  said so far, so that hypotheses with few of them do not compete with those that have many (the
  states of Anderson et al. 2017, arXiv 1612.00576, section 3.2, counted as in Post & Vilar 2018,
  arXiv 1804.06609, section 3). Only hypotheses of the last bank may end.

Shapes: ``A`` active pictures (not done yet), ``G`` groups, ``M`` banks in a group, ``S`` = G M
slots of a picture, ``K`` hypotheses in a slot, ``T`` tokens, ``R`` regions, ``V`` vocabulary,
``P`` candidates. A row of a decoder's step is one hypothesis: (A S K) rows.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from showtell.decoding.arrays import NEVER, Array, Flags, Floats, Ids, State, arrays_of
from showtell.decoding.constraints import Constraint, build_constraints
from showtell.decoding.constraints.words import WordRules
from showtell.decoding.hypotheses import (
    ATTENTION,
    Hypotheses,
    Steps,
    cut_to_longest,
)
from showtell.encoders.features import Features
from showtell.text.vocabulary import END, PAD, START

PROHIBITIVE = 1e30  # nats: more than any caption costs, and no overflow in fp32


def beam_search(
    decoder: Steps,
    features: Features,
    *,
    beam_size: int,
    max_length: int,
    num_captions: int | None = None,
    length_penalty: float = 0.0,
    constraints: Sequence[Constraint] | None = None,
    groups: int = 1,
    diversity: float = 0.0,
    with_attention: bool = False,
    start: int = START,
) -> Hypotheses:
    """Find the most probable captions.

    Args:
        decoder: in eval mode.
        features: of ``B`` pictures.
        beam_size: hypotheses of a picture, over all groups.
        max_length: the most tokens before ``<end>``.
        num_captions: captions a picture; at most ``beam_size``, which is the default.
        length_penalty: alpha; a finished hypothesis of n tokens (``<end>`` counted) has the score
            log p / n**alpha.
        constraints: from ``build_constraints`` with ``max_tokens`` = ``max_length``. By default
            only the special tokens are forbidden.
        groups: number of groups; it divides ``beam_size``.
        diversity: lambda; a word costs this many nats for each hypothesis of an earlier group that
            chose the same word at this step.
        with_attention: whether to keep where the decoder looked for each token.
        start: what captions begin with, unsaid.

    Returns:
        The captions, best first. With groups: the best of each group, then the second of each
        group, and so on.
    """
    if constraints is None:
        constraints = build_constraints(max_tokens=max_length)
    assert beam_size % groups == 0
    search = _Search(
        decoder,
        size=beam_size // groups,
        groups=groups,
        diversity=diversity,
        constraints=constraints,
        start=start,
    )
    with arrays_of(features.pooled).no_grad():
        finished = search.run(
            features, length=max_length + 1, penalty=length_penalty, with_attention=with_attention
        )
    return finished.best(num_captions or beam_size)


class _Search:
    """One search over a batch.

    Attributes:
        active: (A,) numbers of the pictures that are not done.
        beam: their unfinished hypotheses.
        finished: the finished hypotheses of all pictures.
    """

    active: Ids
    beam: "Beam"
    finished: "Finished"

    def __init__(
        self,
        decoder: Steps,
        *,
        size: int,
        groups: int,
        diversity: float,
        constraints: Sequence[Constraint],
        start: int,
    ) -> None:
        self.decoder, self.constraints, self.start = decoder, constraints, start
        self.size, self.groups, self.diversity = size, groups, diversity
        rules = next((c for c in constraints if isinstance(c, WordRules)), None)
        self.banks = 1 + (rules.num_required if rules else 0)
        self.rules = rules if self.banks > 1 else None
        self.picture_state: frozenset[str] = getattr(decoder, "picture_state", frozenset())

    def run(
        self, features: Features, *, length: int, penalty: float, with_attention: bool
    ) -> "Finished":
        """Search until every picture is done; a caption has at most ``length`` tokens."""
        self.arrays, num = arrays_of(features.pooled), len(features.pooled)
        slots = self.groups * self.banks
        self.active = np.arange(num)
        self.beam = Beam.start(num, slots, self.banks, length)
        self.finished = Finished(self.beam, self.groups, self.size, penalty)
        state = self.decoder.init_state(features)
        if not with_attention:
            state.pop(ATTENTION, None)
        state = self._reorder(state, self.active.repeat(slots), None)
        for position in range(length):
            if not len(self.active):
                break
            tokens = self.arrays.from_host(self.beam.last_tokens(position, self.start))
            log_probs, state = self.decoder.step(tokens, state)
            if with_attention and ATTENTION in state:
                weights = self.arrays.to_host(state[ATTENTION])
                self.beam = self.beam.with_attention(weights, position)
            ended, going_on = self._choose(log_probs, position)
            self.finished.add(self.active, self.beam, ended, position)
            rows = self.beam.rows(going_on.parent)
            self.beam = self.beam.extend(going_on, position)
            kept = self._drop_done_pictures()
            state = self._reorder(state, (rows if kept is None else rows[kept]).ravel(), kept)
        return self.finished

    def _reorder(self, state: State, rows: Ids, kept: Ids | None) -> State:
        """The state for the hypotheses now in the beam.

        Args:
            rows: (A' S K) for each of them, the row of ``state`` that it continues.
            kept: (A',) the places of the pictures that remain; None where all do. Entries of
                ``picture_state`` have a row for each picture.
        """
        of_pictures = None if kept is None else self.arrays.from_host(kept)
        of_hypotheses = self.arrays.from_host(rows)
        reordered = {}
        for name, part in state.items():
            index = of_pictures if name in self.picture_state else of_hypotheses
            reordered[name] = part if index is None else self.arrays.take(part, index)
        return reordered

    def _drop_done_pictures(self) -> Ids | None:
        """End the search of the pictures that have enough captions, or cannot go on.

        Returns:
            (A',) the places of the pictures that remain; None where all do.
        """
        num, slots, size = self.beam.log_probs.shape
        log_probs = self.beam.log_probs.reshape(num, self.groups, self.banks, size)
        has_enough = self.finished.num[self.active] >= self.size  # (A, G)
        if self.groups > 1:  # a group that has enough takes no further part
            log_probs = np.where(has_enough[:, :, None, None], np.float32(NEVER), log_probs)
            self.beam = self.beam._replace(log_probs=log_probs.reshape(num, slots, size))
        remains = (~has_enough & (log_probs > NEVER).any(axis=(2, 3))).any(axis=1)
        if remains.all():
            return None
        kept = np.flatnonzero(remains)
        self.active, self.beam = self.active[kept], self.beam.of_pictures(kept)
        return kept

    def _choose(self, log_probs: Array, length: int) -> tuple["Candidates", "Candidates"]:
        """Continue the hypotheses by one token.

        Args:
            log_probs: (A S K, V) of the next token.
            length: tokens so far.

        Returns:
            The candidates that end, (A, G, K), and those that stay in the beam, (A, S, K).
        """
        prefixes = self.beam.prefixes(length)
        for constraint in self.constraints:
            log_probs = constraint(log_probs, prefixes, length)
        candidates = self._candidates(log_probs, prefixes)
        if self.groups > 1 and self.diversity:
            ended, going_on = self._best_of_groups(candidates)
        else:
            ended, going_on = self._best(candidates)
        if self.banks > 1:  # only hypotheses of the last bank may end
            ended = ended.of_slots(slice(self.banks - 1, None, self.banks))
        return ended, going_on

    def _candidates(self, log_probs: Array, prefixes: Ids) -> "Candidates":
        """The continuations worth comparing, out of (A S K, V): (A, S, P)."""
        beam = self.beam.log_probs
        # A slot's best continuations are among the best few of each hypothesis. Diversity can
        # displace no more of these than the earlier groups choose words.
        displaced = self.size * self.banks * (self.groups - 1) if self.diversity else 0
        num = min(2 * self.size + displaced, log_probs.shape[1])
        parts = self._top_by_bank(log_probs, prefixes, num) if self.rules else ()
        last, token = (
            part.reshape(*beam.shape, -1) for part in parts[:2] or self.arrays.best(log_probs, num)
        )
        places = np.arange(beam[0].size).reshape(1, *beam.shape[1:], 1)
        parent = np.broadcast_to(places, token.shape)
        fields = [_join(part, 2) for part in (beam[..., None] + last, token, last, parent)]
        if parts:
            fields = self._into_banks(fields, parts[2])
        return Candidates(fields[0], *fields)

    def _top_by_bank(self, log_probs: Array, prefixes: Ids, num: int) -> list[NDArray[Any]]:
        """The best of (N, V) continuations for each bank: log-probabilities, tokens, banks."""
        assert self.rules
        arrays, rules = self.arrays, self.rules
        banks = rules.banks(prefixes)
        movers = np.broadcast_to(rules.movers, banks.moved.shape)
        moved = arrays.to_host(arrays.gather(log_probs, arrays.from_host(movers)))
        arrays.forbid(log_probs, slice(None), rules.movers)
        found = [(moved, movers, banks.moved)]
        if rules.goes_on is not None:  # these may turn the word in progress into another one
            apart = banks.going_on != banks.now
            last = np.full((len(apart), num), NEVER, np.float32)
            token = np.full((len(apart), num), PAD)
            if apart.any():
                rows = arrays.take(log_probs, arrays.from_host(np.flatnonzero(apart)))
                arrays.forbid(log_probs, apart, rules.goes_on)
                arrays.forbid(rows, np.ones(len(rows), bool), ~rules.goes_on)
                last[apart], token[apart] = arrays.best(rows, num)
            found.append((last, token, _repeat(banks.going_on, num)))
        last, token = arrays.best(log_probs, num)
        found.append((last, token, _repeat(banks.now, num)))
        return [np.concatenate(parts, axis=1) for parts in zip(*found, strict=True)]

    def _into_banks(self, fields: list[NDArray[Any]], bank: Ids) -> list[NDArray[Any]]:
        """(A, S, P) -> (A, S, M P): to each bank, the candidates of its whole group.

        The first field, the log-probability, is -inf where a candidate belongs to another bank.
        """
        num = len(fields[0])
        all_banks = np.arange(self.banks)[:, None]
        elsewhere = bank.reshape(num, self.groups, 1, -1) != all_banks  # (A, G, M, M P)
        fields = [
            np.broadcast_to(part.reshape(num, self.groups, 1, -1), elsewhere.shape)
            for part in fields
        ]
        fields[0] = np.where(elsewhere, np.float32(NEVER), fields[0])
        return [part.reshape(num, self.groups * self.banks, -1) for part in fields]

    def _best_of_groups(self, candidates: "Candidates") -> tuple["Candidates", "Candidates"]:
        """As ``_best``, group by group: each pays for the words that earlier groups chose."""
        pairs = []
        chosen = np.zeros((len(candidates.token), 1, 1, 0), np.int64)
        for group in range(self.groups):
            own = candidates.of_slots(slice(group * self.banks, (group + 1) * self.banks))
            times = (own.token[..., None] == chosen).sum(axis=-1, dtype=np.float32)
            scores = own.totals - np.float32(min(self.diversity, PROHIBITIVE)) * times
            ended, going_on = self._best(own._replace(scores=scores))
            pairs.append((ended, going_on))
            words = np.where(going_on.totals == NEVER, -1, going_on.token)
            chosen = np.concatenate([chosen, words.reshape(len(words), 1, 1, -1)], axis=-1)
        ended, going_on = (
            Candidates(*(np.concatenate(parts, axis=1) for parts in zip(*groups, strict=True)))
            for groups in zip(*pairs, strict=True)
        )
        return ended, going_on

    def _best(self, candidates: "Candidates") -> tuple["Candidates", "Candidates"]:
        """(A, S, K) both: which of each slot's best K end, and the best K that do not."""
        # At most K of the best 2 K end, so K others remain, unless the vocabulary is tiny.
        top = candidates.best(2 * self.size)
        ends = top.token == END
        first = top.each(lambda part: part[..., : self.size])
        return first.without(~ends[..., : self.size]), top.without(ends).best(self.size)


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
        parts = [_join(part, 1) for part in parts]
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


def _join(values: NDArray[Any], dim: int) -> NDArray[Any]:
    """Dimensions ``dim`` and ``dim`` + 1 as one."""
    shape = values.shape
    return values.reshape(*shape[:dim], shape[dim] * shape[dim + 1], *shape[dim + 2 :])


def _repeat(values: Ids, num: int) -> Ids:
    """(N,) -> (N, num)."""
    return np.broadcast_to(values[:, None], (len(values), num))
