"""Beam search over a batch of pictures; greedy search is a beam of size 1.

The search is the usual one of sequence models (Sutskever et al. 2014, arXiv 1409.3215, section
3.2). ``_Search.run`` is its loop; ``slots.py`` has the arrays of hypotheses. A hypothesis

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

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from showtell.decoding.arrays import NEVER, Array, Ids, State, arrays_of
from showtell.decoding.constraints import Constraint, build_constraints
from showtell.decoding.constraints.words import WordRules
from showtell.decoding.hypotheses import ATTENTION, Hypotheses, Steps
from showtell.decoding.slots import Beam, Candidates, Finished, join
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
    beam: Beam
    finished: Finished

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
    ) -> Finished:
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

    def _choose(self, log_probs: Array, length: int) -> tuple[Candidates, Candidates]:
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

    def _candidates(self, log_probs: Array, prefixes: Ids) -> Candidates:
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
        fields = [join(part, 2) for part in (beam[..., None] + last, token, last, parent)]
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

    def _best_of_groups(self, candidates: Candidates) -> tuple[Candidates, Candidates]:
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

    def _best(self, candidates: Candidates) -> tuple[Candidates, Candidates]:
        """(A, S, K) both: which of each slot's best K end, and the best K that do not."""
        # At most K of the best 2 K end, so K others remain, unless the vocabulary is tiny.
        top = candidates.best(2 * self.size)
        ends = top.token == END
        first = top.each(lambda part: part[..., : self.size])
        return first.without(~ends[..., : self.size]), top.without(ends).best(self.size)


def _repeat(values: Ids, num: int) -> Ids:
    """(N,) -> (N, num)."""
    return np.broadcast_to(values[:, None], (len(values), num))
