"""Beam search over a batch of pictures at once; greedy search is a beam of 1.

The search is the usual one of sequence models (Sutskever et al. 2014, section 3.2): at each step
the ``2 K`` best continuations of a picture's ``K`` hypotheses are taken; those that end and lie
among the first ``K`` are finished, the best ``K`` others live on; a picture is done when ``K``
hypotheses are finished. Pictures that are done leave the batch.

- Diverse beam search (Vijayakumar et al. 2016, arXiv 1610.02424, algorithm 1, with Hamming
  diversity): groups of hypotheses, each of which shuns the words that the groups before it chose
  at the same position. The penalty decides what is chosen and stays out of the scores.
- Words that must appear: a bank of ``K`` hypotheses for each number of such words that have come
  (the states of Anderson et al. 2017, arXiv 1612.00576, section 3.2, counted as in Post & Vilar
  2018, arXiv 1804.06609, section 3), so that those with few do not compete with those with many;
  a hypothesis ends in the last bank only.

Knows a decoder only by ``init_state`` and ``step``, and nothing of words.

MERGED: Live and finished hypotheses of a beam search over a batch.

Shapes: ``A`` pictures that are still active, ``G`` groups, ``M`` banks of a group, ``S`` = G M
slots of a picture, ``K`` hypotheses of a slot, ``T`` tokens, ``R`` regions, ``P`` places among
which the next hypotheses are chosen.
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
    top_entries,
)
from showtell.encoders.features import Features
from showtell.text.vocabulary import END, PAD, START


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


LEAST_GONE = 1 / 8  # of the pictures: only then is all that is kept of the others copied


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
        beam_size: of all groups together.
        max_length: tokens at most; after so many only ``<end>`` may follow.
        num_captions: captions a picture, ``beam_size`` at most and by default.
        length_penalty: alpha; a finished hypothesis of n tokens (``<end>`` counted) scores
            log p / n**alpha.
        constraints: of ``build_constraints`` with ``max_tokens`` = ``max_length``; by default
            only the special words are forbidden.
        groups: into which the beam is divided evenly.
        diversity: lambda; what a word's log-probability loses, for the choice, for each
            hypothesis of an earlier group that goes on with the same word.
        with_attention: whether to keep where the decoder looked for each token.

    Returns:
        The captions, best first; with groups, each group's best, then each group's second, ...
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
    )
    finished = search.run(
        features, length=max_length + 1, penalty=length_penalty, with_attention=with_attention
    )
    return finished.best(num_captions or beam_size)


class _Search:
    """One search over a batch."""

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
    ) -> Finished:
        """Search for captions of ``length`` tokens at most until every picture is done."""
        device, num = features.pooled.device, features.pooled.shape[0]
        slots = self.groups * self.banks
        self.active = torch.arange(num, device=device)
        self.live = Live.start(num, slots, self.banks, length, device)
        self.finished = Finished(self.live, self.groups, self.size, penalty)
        state = self.decoder.init_state(features)
        if not with_attention:
            state.pop(ATTENTION, None)
        if slots > 1:
            rows = self.active.repeat_interleave(slots)
            state = {n: p if n in self.picture_state else p[rows] for n, p in state.items()}
        for position in range(length):
            if not len(self.active):
                break
            given = state
            log_probs, state = self.decoder.step(self.live.last_tokens(position), given)
            if with_attention and ATTENTION in state:
                self.live = self.live.attending(state[ATTENTION], position)
            num_rows = self.live.num_rows
            rows, stays = self._advance(log_probs, position)
            # Where neither pictures nor hypotheses changed in number, what no token changed stays.
            kept = given if len(rows) == num_rows else {}
            state = {
                name: self._next(name, part, rows, stays, kept) for name, part in state.items()
            }
        return self.finished

    def _next(
        self, name: str, part: Tensor, rows: Tensor, stays: Tensor | None, kept: State
    ) -> Tensor:
        """An entry of the state for the hypotheses that live on."""
        if name in self.picture_state:
            return part if stays is None else part[stays]
        return part if part is kept.get(name) else part.index_select(0, rows)

    def _advance(self, log_probs: Tensor, length: int) -> tuple[Tensor, Tensor | None]:
        """Take one step with (A S K, V) log-probabilities.

        Returns:
            (A' S K,) for each hypothesis that lives on, the row that it comes from; and (A,) True
            where a picture stays, None where all do.
        """
        prefixes = self.live.prefixes(length)
        for constraint in self.constraints:
            log_probs = constraint(log_probs, prefixes, length)
        places = self._places(log_probs, prefixes)
        ended, going_on = self._chosen(places)
        if self.banks > 1:
            ended = ended.of_slots(slice(self.banks - 1, None, self.banks))
        self.finished.add(self.active, self.live, ended, length)
        rows = self.live.rows(going_on.parent)
        self.live = self.live.extended(going_on, length)
        return self._leave(rows)

    def _places(self, log_probs: Tensor, prefixes: Tensor) -> Choice:
        """The continuations that can be chosen, out of (A S K, V): (A, S, P)."""
        live = self.live.log_probs
        # The best of all continuations are among each hypothesis's best, and no more of these
        # can lose their place to diversity than the earlier groups say words.
        shunned = self.size * self.banks * (self.groups - 1) if self.diversity else 0
        num = min(2 * self.size + shunned, log_probs.shape[1])
        parts = self._by_bank(log_probs, prefixes, num) if self.rules else ()
        last, token = (
            part.view(*live.shape, -1) for part in parts[:2] or top_entries(log_probs, num)
        )
        parent = torch.arange(live[0].numel(), device=live.device).view(1, *live.shape[1:], 1)
        totals = live[..., None] + last
        places = [part.flatten(2) for part in (totals, token, last, parent.expand_as(token))]
        if parts:
            places = self._into_banks(places, parts[2])
        return Choice(places[0], *places)

    def _by_bank(self, log_probs: Tensor, prefixes: Tensor, num: int) -> list[Tensor]:
        """The best of (N, V) continuations for each bank: log-probabilities, tokens, banks."""
        assert self.rules
        banks, movers = self.rules.banks(prefixes), self.rules.movers
        moved = log_probs[:, movers]
        log_probs[:, movers] = NEVER
        found = [(moved, movers.expand_as(moved), banks.moved)]
        if self.rules.goes_on is not None:  # these may undo what the word in progress was
            apart = (banks.going_on != banks.now)[:, None] & self.rules.goes_on
            last, token = top_entries(log_probs.masked_fill(~apart, NEVER), num)
            found.append((last, token, banks.going_on[:, None].expand_as(last)))
            log_probs = log_probs.masked_fill(apart, NEVER)
        last, token = top_entries(log_probs, num)
        found.append((last, token, banks.now[:, None].expand_as(last)))
        return [torch.cat(parts, dim=1) for parts in zip(*found, strict=True)]

    def _into_banks(self, places: list[Tensor], bank: Tensor) -> list[Tensor]:
        """(A, S, P) of hypotheses -> (A, S, M P), each bank's among all of its group."""
        num = len(places[0])
        all_banks = torch.arange(self.banks, device=bank.device)[:, None]
        elsewhere = bank.view(num, self.groups, 1, -1) != all_banks  # (A, G, M, M P)
        parts = [part.reshape(num, self.groups, 1, -1).expand_as(elsewhere) for part in places]
        parts[0] = parts[0].masked_fill(elsewhere, NEVER)
        return [part.flatten(1, 2) for part in parts]

    def _chosen(self, places: Choice) -> tuple[Choice, Choice]:
        """What ends among each slot's best K, and the best K that go on: (A, S, K) both."""
        if self.groups == 1 or not self.diversity:
            return self._best(places)
        pairs = []
        said = places.token.new_zeros((len(places.token), 1, 1, 0))
        for group in range(self.groups):
            own = places.of_slots(slice(group * self.banks, (group + 1) * self.banks))
            times = (own.token[..., None] == said).sum(dim=-1)
            ended, going_on = self._best(own._replace(scores=own.totals - self.diversity * times))
            pairs.append((ended, going_on))
            words = going_on.token.masked_fill(going_on.totals == NEVER, -1).flatten(1)
            said = torch.cat([said, words[:, None, None]], dim=-1)
        ended, going_on = (
            Choice(*(torch.cat(parts, dim=1) for parts in zip(*choices, strict=True)))
            for choices in zip(*pairs, strict=True)
        )
        return ended, going_on

    def _best(self, places: Choice) -> tuple[Choice, Choice]:
        """As ``_chosen``, of slots that do not mind each other."""
        # At most K of the best 2 K end, so K others can live on, unless V is tiny.
        top = places.best(2 * self.size)
        ends = top.token == END
        first = Choice(*(part[..., : self.size] for part in top))
        return first.without(~ends[..., : self.size]), top.without(ends).best(self.size)

    def _leave(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Drop the pictures that are done, once they are many, and their (A, S, K) rows."""
        lives = self.live.log_probs.view(len(self.active), self.groups, self.banks, self.size)
        is_done = self.finished.num[self.active] >= self.size
        if self.groups > 1:  # a group that is done must not say any more
            lives = lives.masked_fill(is_done[:, :, None, None], NEVER)
            self.live = self.live._replace(log_probs=lives.flatten(1, 2))
        stays = (~is_done & (lives.amax(dim=(2, 3)) > NEVER)).any(dim=1)
        num_gone = int((~stays).sum())
        if num_gone < max(LEAST_GONE * len(stays), 1):
            if num_gone:  # they must not say any more
                silent = self.live.log_probs.masked_fill(~stays[:, None, None], NEVER)
                self.live = self.live._replace(log_probs=silent)
            return rows.flatten(), None
        self.active, self.live = self.active[stays], self.live.of_pictures(stays)
        return rows[stays].flatten(), stays
