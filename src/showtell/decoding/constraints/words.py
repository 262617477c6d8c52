"""Words that may not come, words that must, last words that may not be, and how many there are.

All of it is told by three things of a caption so far: the node of a ``WordAutomaton``, which
required phrases were said, and the number of words. The fewest tokens from there to an allowed end
are known beforehand, so a token is forbidden exactly where no allowed caption goes on with it: no
hypothesis runs into a dead end.

Shapes: ``N`` rows, ``L`` tokens of a prefix, ``S`` nodes, ``K`` classes of tokens, ``V``
vocabulary, ``C`` required phrases, ``M`` = 2**C sets of them, ``P`` tokens.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from showtell.decoding.constraints.automaton import (
    FIRST,
    NO_WAY,
    OTHER_REST,
    OTHER_START,
    SPECIAL,
    WordAutomaton,
    fewest_tokens,
)
from showtell.decoding.hypotheses import NEVER
from showtell.text.vocabulary import END, Spelling


class Said(NamedTuple):
    """What prefixes say.

    Attributes:
        node: (N,) of the automaton.
        required: (N,) which required phrases were said before the word in progress, as bits.
        num_words: (N,) begun.
    """

    node: Tensor
    required: Tensor
    num_words: Tensor


class Banks(NamedTuple):
    """How many required phrases have come after the next token, the word in progress counted.

    Attributes:
        now: (N,) before it; and after every token but the following.
        moved: (N, P) after each of ``WordRules.movers``.
        going_on: (N,) after any other token that goes on with the word.
    """

    now: Tensor
    moved: Tensor
    going_on: Tensor


class WordRules:
    """A constraint on words. Phrases are as ``spelling.spell`` has their words.

    Args:
        spelling: of the vocabulary.
        max_tokens: of a caption, ``<end>`` not counted.
        min_words, max_words: of a caption.
        forbidden: phrases that never come.
        required: phrases that must all come.
        bad_endings: phrases that are not the last.

    Attributes:
        num_required: C.
        never: ids that no allowed caption has.
        movers: (P,) ids that may complete a required phrase.
        goes_on: (V,) whether an id goes on with a word; None where none does.
    """

    def __init__(
        self,
        spelling: Spelling,
        *,
        max_tokens: int,
        min_words: int,
        max_words: int,
        forbidden: tuple[str, ...] = (),
        required: tuple[str, ...] = (),
        bad_endings: tuple[str, ...] = (),
    ) -> None:
        self.max_tokens, self.max_words = max_tokens, max_words
        self.num_required = len(required)
        reads = self.automaton = WordAutomaton(spelling, (*required, *forbidden, *bad_endings))
        first_bad = len(required) + len(forbidden)
        self.completes = reads.ends[:, : len(required)]
        # A token that begins a word and has no text is followed by text.
        self.is_forbidden = reads.ends[:, len(required) : first_bad].any(dim=1) | reads.is_bare
        self.bits = 2 ** torch.arange(len(required))
        self.said = (self.completes * self.bits).sum(dim=1)  # (S,) completed there, as bits
        # (M,) how many phrases a set has.
        sets = torch.arange(2 ** len(required))
        self.sizes = (sets[:, None] & self.bits != 0).sum(dim=1)
        self.fewest = fewest_tokens(
            reads,
            said=self.said,
            num_required=len(required),
            is_forbidden=self.is_forbidden,
            is_bad=reads.ends[:, first_bad:].any(dim=1),
            min_words=min_words,
            max_words=max_words,
        )
        self._sort_tokens()
        self.device = self.fewest.device

    def _sort_tokens(self) -> None:
        """Which tokens have to be looked at."""
        reads = self.automaton
        hopeless = (self.fewest.amin(dim=(0, 1)) >= NO_WAY)[reads.next].all(dim=0)
        hopeless[SPECIAL] = False
        self.never: list[int] = hopeless[reads.classes].nonzero()[:, 0].tolist()
        reads.drop(hopeless)
        classes = reads.classes
        moves = self.completes.any(dim=1)[reads.next].any(dim=0)
        moves[SPECIAL] = False
        self.movers = moves[classes].nonzero()[:, 0]
        # Most tokens are of two classes; the columns of the few others are written one by one.
        apart = classes > OTHER_REST
        apart[END] = True
        self.columns = apart.nonzero()[:, 0]
        goes_on = (~reads.starts & reads.has_text)[classes] & (classes != SPECIAL)
        self.goes_on = goes_on if bool(goes_on.any()) else None

    @property
    def possible(self) -> bool:
        """Whether there is an allowed caption."""
        return int(self.fewest[0, 0, FIRST]) <= self.max_tokens

    def to(self, device: torch.device) -> None:
        """Move the tables to where the search runs."""
        if device != self.device:
            for owner in (self, self.automaton):
                for name, part in vars(owner).items():
                    if isinstance(part, Tensor):
                        setattr(owner, name, part.to(device))
            self.device = device

    def __call__(self, log_probs: Tensor, prefixes: Tensor, length: int) -> Tensor:
        """-inf for each token after which there is no allowed end within ``max_tokens``."""
        self.to(log_probs.device)
        reads, said = self.automaton, self._read(prefixes)
        required, node = self._after(said)
        begins = reads.has_text & (reads.starts | reads.is_boundary[said.node, None])
        num_words = said.num_words[:, None] + begins.long()
        no_way = self.fewest[num_words, required, node] > self.max_tokens - length - 1
        no_way |= reads.starts & self.is_forbidden[said.node, None]
        no_way[:, SPECIAL] = self.fewest[said.num_words, said.required, said.node] > 0  # <end>
        columns = log_probs[:, self.columns]
        columns.masked_fill_(no_way[:, reads.classes[self.columns]], NEVER)
        if bool(no_way[:, [OTHER_START, OTHER_REST]].any()):
            others = no_way[:, OTHER_START, None]
            if self.goes_on is not None:
                others = torch.where(self.goes_on, no_way[:, OTHER_REST, None], others)
            log_probs.masked_fill_(others, NEVER)
        log_probs[:, self.columns] = columns
        return log_probs

    def banks(self, prefixes: Tensor) -> Banks:
        """For the beam search, which sets hypotheses of different numbers apart."""
        said = self._read(prefixes)
        required, node = self._after(said)
        moved = self.sizes[required | self.said[node]][:, self.automaton.classes[self.movers]]
        now = self.sizes[said.required | self.said[said.node]]
        return Banks(now, moved, self.sizes[said.required])

    def _after(self, said: Said) -> tuple[Tensor, Tensor]:
        """(N, K) the required phrases said before the word in progress, and the node."""
        starts = self.automaton.starts
        ended = torch.where(starts, self.said[said.node, None], 0)
        return said.required[:, None] | ended, self.automaton.next[said.node]

    def _read(self, prefixes: Tensor) -> Said:
        reads = self.automaton
        classes = reads.classes[prefixes]
        nodes = reads.nodes(classes)
        before, starts = nodes[:, :-1], reads.starts[classes]
        begins = reads.has_text[classes] & (starts | reads.is_boundary[before])
        num_words = begins.sum(dim=1).clamp(max=self.max_words)  # more only where nothing lives
        came = (self.completes[before] & starts[:, :, None]).any(dim=1)
        return Said(nodes[:, -1], (came * self.bits).sum(dim=1), num_words)
