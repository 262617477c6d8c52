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

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from showtell.decoders.base import State
from showtell.decoding.constraints import Constraint, build_constraints
from showtell.decoding.constraints.words import WordRules
from showtell.decoding.hypotheses import (
    ATTENTION,
    NEVER,
    Hypotheses,
    Steps,
    cut_to_longest,
)
from showtell.encoders.features import Features
from showtell.text.vocabulary import END, PAD, START


@torch.no_grad()  # not inference_mode: see Runtime.inference
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

    Returns:
        The captions, best first. With groups: the best of each group, then the second of each
        group, and so on.
    """
    if constraints is None:
        constraints = build_constraints(max_tokens=max_length, device=features.pooled.device)
    assert beam_size % groups == 0
    search = _Search(
        decoder,
        size=beam_size // groups,
        groups=groups,
        diversity=diversity,
        constraints=constraints,
    )
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

    active: Tensor
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
    ) -> None:
        self.decoder, self.constraints = decoder, constraints
        self.size, self.groups, self.diversity = size, groups, diversity
        rules = next((c for c in constraints if isinstance(c, WordRules)), None)
        self.banks = 1 + (rules.num_required if rules else 0)
        self.rules = rules if self.banks > 1 else None
        self.picture_state: frozenset[str] = getattr(decoder, "picture_state", frozenset())

    def run(
        self, features: Features, *, length: int, penalty: float, with_attention: bool
    ) -> "Finished":
        """Search until every picture is done; a caption has at most ``length`` tokens."""
        device, num = features.pooled.device, features.pooled.shape[0]
        slots = self.groups * self.banks
        self.active = torch.arange(num, device=device)
        self.beam = Beam.start(num, slots, self.banks, length, device)
        self.finished = Finished(self.beam, self.groups, self.size, penalty)
        state = self.decoder.init_state(features)
        if not with_attention:
            state.pop(ATTENTION, None)
        state = self._reorder(state, self.active.repeat_interleave(slots), None)
        for position in range(length):
            if not len(self.active):
                break
            log_probs, state = self.decoder.step(self.beam.last_tokens(position), state)
            if with_attention and ATTENTION in state:
                self.beam = self.beam.with_attention(state[ATTENTION], position)
            ended, going_on = self._choose(log_probs, position)
            self.finished.add(self.active, self.beam, ended, position)
            rows = self.beam.rows(going_on.parent)
            self.beam = self.beam.extend(going_on, position)
            kept = self._drop_done_pictures()
            state = self._reorder(state, (rows if kept is None else rows[kept]).flatten(), kept)
        return self.finished

    def _reorder(self, state: State, rows: Tensor, kept: Tensor | None) -> State:
        """The state for the hypotheses now in the beam.

        Args:
            rows: (A' S K) for each of them, the row of ``state`` that it continues.
            kept: (A,) True for the pictures that remain; None where all do. Entries of
                ``picture_state`` have a row for each picture.
        """
        return {
            name: (part if kept is None else part[kept])
            if name in self.picture_state
            else part.index_select(0, rows)
            for name, part in state.items()
        }

    def _drop_done_pictures(self) -> Tensor | None:
        """End the search of the pictures that have enough captions, or cannot go on.

        Returns:
            (A,) True for the pictures that remain; None where all do.
        """
        num, slots, size = self.beam.log_probs.shape
        log_probs = self.beam.log_probs.view(num, self.groups, self.banks, size)
        has_enough = self.finished.num[self.active] >= self.size  # (A, G)
        if self.groups > 1:  # a group that has enough takes no further part
            log_probs = log_probs.masked_fill(has_enough[:, :, None, None], NEVER)
            self.beam = self.beam._replace(log_probs=log_probs.view(num, slots, size))
        remains = (~has_enough & (log_probs.amax(dim=(2, 3)) > NEVER)).any(dim=1)
        if bool(remains.all()):
            return None
        self.active, self.beam = self.active[remains], self.beam.of_pictures(remains)
        return remains

    def _choose(self, log_probs: Tensor, length: int) -> tuple["Candidates", "Candidates"]:
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

    def _candidates(self, log_probs: Tensor, prefixes: Tensor) -> "Candidates":
        """The continuations worth comparing, out of (A S K, V): (A, S, P)."""
        beam = self.beam.log_probs
        # A slot's best continuations are among the best few of each hypothesis. Diversity can
        # displace no more of these than the earlier groups choose words.
        displaced = self.size * self.banks * (self.groups - 1) if self.diversity else 0
        num = min(2 * self.size + displaced, log_probs.shape[1])
        parts = self._top_by_bank(log_probs, prefixes, num) if self.rules else ()
        last, token = (
            part.view(*beam.shape, -1) for part in parts[:2] or log_probs.topk(num, dim=1)
        )
        parent = torch.arange(beam[0].numel(), device=beam.device).view(1, *beam.shape[1:], 1)
        totals = beam[..., None] + last
        fields = [part.flatten(2) for part in (totals, token, last, parent.expand_as(token))]
        if parts:
            fields = self._into_banks(fields, parts[2])
        return Candidates(fields[0], *fields)

    def _top_by_bank(self, log_probs: Tensor, prefixes: Tensor, num: int) -> list[Tensor]:
        """The best of (N, V) continuations for each bank: log-probabilities, tokens, banks."""
        assert self.rules
        banks, movers, goes_on = self.rules.banks(prefixes), self.rules.movers, self.rules.goes_on
        moved = log_probs[:, movers]
        log_probs[:, movers] = NEVER
        found = [(moved, movers.expand_as(moved), banks.moved)]
        if goes_on is not None:  # these may turn the word in progress into another one
            apart = (banks.going_on != banks.now)[:, None] & goes_on
            last, token = log_probs.masked_fill(~apart, NEVER).topk(num, dim=1)
            found.append((last, token, banks.going_on[:, None].expand_as(last)))
            log_probs = log_probs.masked_fill(apart, NEVER)
        last, token = log_probs.topk(num, dim=1)
        found.append((last, token, banks.now[:, None].expand_as(last)))
        return [torch.cat(parts, dim=1) for parts in zip(*found, strict=True)]

    def _into_banks(self, fields: list[Tensor], bank: Tensor) -> list[Tensor]:
        """(A, S, P) -> (A, S, M P): to each bank, the candidates of its whole group.

        The first field, the log-probability, is -inf where a candidate belongs to another bank.
        """
        num = len(fields[0])
        all_banks = torch.arange(self.banks, device=bank.device)[:, None]
        elsewhere = bank.view(num, self.groups, 1, -1) != all_banks  # (A, G, M, M P)
        fields = [part.reshape(num, self.groups, 1, -1).expand_as(elsewhere) for part in fields]
        fields[0] = fields[0].masked_fill(elsewhere, NEVER)
        return [part.flatten(1, 2) for part in fields]

    def _best_of_groups(self, candidates: "Candidates") -> tuple["Candidates", "Candidates"]:
        """As ``_best``, group by group: each pays for the words that earlier groups chose."""
        pairs = []
        chosen = candidates.token.new_zeros((len(candidates.token), 1, 1, 0))
        for group in range(self.groups):
            own = candidates.of_slots(slice(group * self.banks, (group + 1) * self.banks))
            times = (own.token[..., None] == chosen).sum(dim=-1)
            ended, going_on = self._best(own._replace(scores=own.totals - self.diversity * times))
            pairs.append((ended, going_on))
            words = going_on.token.masked_fill(going_on.totals == NEVER, -1).flatten(1)
            chosen = torch.cat([chosen, words[:, None, None]], dim=-1)
        ended, going_on = (
            Candidates(*(torch.cat(parts, dim=1) for parts in zip(*groups, strict=True)))
            for groups in zip(*pairs, strict=True)
        )
        return ended, going_on

    def _best(self, candidates: "Candidates") -> tuple["Candidates", "Candidates"]:
        """(A, S, K) both: which of each slot's best K end, and the best K that do not."""
        # At most K of the best 2 K end, so K others remain, unless the vocabulary is tiny.
        top = candidates.best(2 * self.size)
        ends = top.token == END
        first = Candidates(*(part[..., : self.size] for part in top))
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

    scores: Tensor
    totals: Tensor
    token: Tensor
    last: Tensor
    parent: Tensor

    def best(self, num: int) -> "Candidates":
        """(A, S, num) the best by ``scores``; empty places where there are fewer."""
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
        return Candidates(*(part.gather(2, index) for part in parts))

    def without(self, places: Tensor) -> "Candidates":
        """Empty the places where (A, S, P) ``places`` is True."""
        scores, totals = (part.masked_fill(places, NEVER) for part in self[:2])
        return self._replace(scores=scores, totals=totals)

    def of_slots(self, slots: slice) -> "Candidates":
        """Some of a picture's slots."""
        return Candidates(*(part[:, slots] for part in self))


class Beam(NamedTuple):
    """The unfinished hypotheses of the active pictures; K is 1 before the first token.

    Attributes:
        log_probs: (A, S, K), -inf in an empty place.
        tokens: (A, S, K, T) ids, ``<pad>`` from the current length on.
        token_log_probs: (A, S, K, T).
        attention: (A, S, K, T, R), or None.
    """

    log_probs: Tensor
    tokens: Tensor
    token_log_probs: Tensor
    attention: Tensor | None

    @classmethod
    def start(cls, num: int, slots: int, banks: int, length: int, device: torch.device) -> "Beam":
        """The empty hypothesis in the first bank of each group."""
        log_probs = torch.full((num, slots, 1), NEVER, device=device)
        log_probs[:, ::banks] = 0.0
        shape = (num, slots, 1, length)
        return cls(
            log_probs,
            torch.full(shape, PAD, device=device),
            torch.zeros(shape, device=device),
            None,
        )

    def last_tokens(self, length: int) -> Tensor:
        """(A S K,) the token to feed next: the last one, ``<start>`` at first."""
        if length == 0:
            return torch.full((self.log_probs.numel(),), START, device=self.tokens.device)
        return self.tokens[..., length - 1].reshape(-1)

    def prefixes(self, length: int) -> Tensor:
        """(A S K, length) the tokens so far."""
        return self.tokens.flatten(0, 2)[:, :length]

    def rows(self, parent: Tensor) -> Tensor:
        """(A, S, P) parents as rows of the batch."""
        num, slots, size = self.log_probs.shape
        first = torch.arange(num, device=parent.device) * (slots * size)
        return first[:, None, None] + parent

    def with_attention(self, weights: Tensor, position: int) -> "Beam":
        """With the (A S K, R) attention of the token at ``position``."""
        attention = self.attention
        if attention is None:
            attention = weights.new_zeros((*self.tokens.shape, weights.shape[1]))
        attention[..., position, :] = weights.view(*self.log_probs.shape, -1)
        return self._replace(attention=attention)

    def extend(
        self, candidates: Candidates, length: int, pictures: Tensor | slice = slice(None)
    ) -> "Beam":
        """The hypotheses of ``candidates``, with their new token at position ``length``.

        Args:
            pictures: (A,) True for those that are wanted, (A', ...); all by default.
        """
        rows = self.rows(candidates.parent)[pictures].flatten()
        candidates = Candidates(*(part[pictures] for part in candidates))
        shape = candidates.totals.shape

        def take(values: Tensor) -> Tensor:
            return values.flatten(0, 2).index_select(0, rows).view(*shape, *values.shape[3:])

        tokens, token_log_probs = take(self.tokens), take(self.token_log_probs)
        tokens[..., length] = candidates.token
        token_log_probs[..., length] = candidates.last
        attention = None if self.attention is None else take(self.attention)
        return Beam(candidates.totals, tokens, token_log_probs, attention)

    def of_pictures(self, kept: Tensor) -> "Beam":
        """Only the pictures where (A,) ``kept`` is True."""
        attention = None if self.attention is None else self.attention[kept]
        log_probs, tokens, token_log_probs = (part[kept] for part in self[:3])
        return Beam(log_probs, tokens, token_log_probs, attention)


class Finished:
    """The best finished hypotheses of every picture and group: (B, G, K, ...).

    Attributes:
        num: (B, G) how many hypotheses have finished.
        parts: tokens, their log-probabilities, the log-probability of the whole, the score, and
            the attention once there is any.
    """

    def __init__(self, beam: Beam, groups: int, size: int, penalty: float) -> None:
        num, _, _, length = beam.tokens.shape
        device = beam.tokens.device
        shape = (num, groups, size)
        self.penalty = penalty
        self.parts: list[Tensor] = [
            torch.full((*shape, length), PAD, device=device),
            torch.zeros((*shape, length), device=device),
            torch.full(shape, NEVER, device=device),
            torch.full(shape, NEVER, device=device),
        ]
        self.num = torch.zeros((num, groups), dtype=torch.long, device=device)

    def add(self, active: Tensor, beam: Beam, ended: Candidates, length: int) -> None:
        """Merge the hypotheses that end at this step into those that ended before.

        Args:
            active: (A,) the pictures of ``beam``.
            beam: before this step.
            ended: (A, G, P) its candidates that end.
            length: tokens before the new one.
        """
        real = ended.totals > NEVER
        changed = real.flatten(1).any(dim=1)
        if not bool(changed.any()):
            return
        active = active[changed]
        new = beam.extend(ended, length, changed)
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
        """(B, num) each group's best, then each group's second, and so on; no caption twice."""
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
    """Move repeated captions and empty places to the end; keep the order of the others."""
    tokens, _, log_probs, scores = parts[:4]
    same = (tokens[:, :, None] == tokens[:, None]).all(dim=-1)  # (B, K, K)
    is_real = log_probs > NEVER
    repeated = (same & is_real[:, None]).tril(diagonal=-1).any(dim=2)
    parts[2] = log_probs.masked_fill(repeated, NEVER)
    parts[3] = scores.masked_fill(repeated, NEVER)
    order = (repeated | ~is_real).long().argsort(dim=1, stable=True)
    return [_gather(part, order) for part in parts]


def _gather(values: Tensor, index: Tensor) -> Tensor:
    """``values.gather`` along the last dimension of ``index``, for any further dimensions."""
    dim = index.dim() - 1
    extra = values.shape[index.dim() :]
    shaped = index.reshape(*index.shape, *(1,) * len(extra)).expand(*index.shape, *extra)
    return values.gather(dim, shaped)
