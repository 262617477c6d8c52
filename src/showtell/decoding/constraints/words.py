"""Constraints on words: forbidden, required, not as the last one, and how many.

Three things about a caption so far decide everything: the node of a ``WordAutomaton``, which
required phrases were said, and the number of words. ``fewest_tokens`` tells beforehand how many
tokens it takes from there to an allowed end. A token is forbidden exactly where no allowed caption
continues with it, so no hypothesis runs into a dead end.

Shapes: ``N`` rows, ``L`` tokens of a prefix, ``S`` nodes, ``K`` classes of tokens, ``V``
vocabulary, ``C`` required phrases, ``M`` = 2**C sets of them, ``P`` tokens.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from showtell.decoding.arrays import Array, Flags, Ids, arrays_of
from showtell.decoding.constraints.automaton import (
    FIRST,
    NO_WAY,
    OTHER_REST,
    OTHER_START,
    SPECIAL,
    WordAutomaton,
    fewest_tokens,
)
from showtell.decoding.constraints.cache import Table
from showtell.text.vocabulary import END, Spelling


@dataclass(frozen=True, slots=True)
class WordSettings:
    """What is asked of a caption's words. A phrase is as ``spelling.spell`` gives its words.

    Attributes:
        spelling: of the vocabulary.
        max_tokens: the most tokens before ``<end>``.
        min_words, max_words: of a caption.
        forbidden: phrases that may not occur.
        required: phrases that must all occur.
        bad_endings: phrases that a caption may not end with.
    """

    spelling: Spelling
    max_tokens: int
    min_words: int
    max_words: int
    forbidden: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    bad_endings: tuple[str, ...] = ()


class Said(NamedTuple):
    """What prefixes say.

    Attributes:
        node: (N,) of the automaton.
        required: (N,) which required phrases were said before the word in progress, as bits.
        num_words: (N,) words begun.
    """

    node: Ids
    required: Ids
    num_words: Ids


class Banks(NamedTuple):
    """How many required phrases are said after the next token; the word in progress counts.

    Attributes:
        now: (N,) before the token, and after any token that the other two do not cover.
        moved: (N, P) after each token of ``WordRules.movers``.
        going_on: (N,) after any other token that continues the word in progress.
    """

    now: Ids
    moved: Ids
    going_on: Ids


class WordRules(Table):
    """A constraint on words.

    Attributes:
        num_required: C.
        never: ids that no allowed caption has.
        movers: (P,) ids that may complete a required phrase.
        goes_on: (V,) whether an id continues a word; None where no id does.
    """

    def __init__(self, settings: WordSettings) -> None:
        required, forbidden = settings.required, settings.forbidden
        self.max_tokens, self.max_words = settings.max_tokens, settings.max_words
        self.num_required = len(required)
        phrases = *required, *forbidden, *settings.bad_endings
        reads = self.automaton = WordAutomaton(settings.spelling, phrases)
        first_bad = len(required) + len(forbidden)
        self.completes = reads.ends[:, : len(required)]
        # A token that begins a word and has no text is followed by text.
        self.is_forbidden = reads.ends[:, len(required) : first_bad].any(axis=1) | reads.is_bare
        self.bits = 2 ** np.arange(len(required))
        self.said = (self.completes * self.bits).sum(axis=1)  # (S,) completed there, as bits
        # (M,) how many phrases a set has.
        sets = np.arange(2 ** len(required))
        self.sizes = (sets[:, None] & self.bits != 0).sum(axis=1)
        self.fewest = fewest_tokens(
            reads,
            said=self.said,
            num_required=len(required),
            is_forbidden=self.is_forbidden,
            is_bad=np.any(reads.ends[:, first_bad:], axis=1),
            min_words=settings.min_words,
            max_words=settings.max_words,
        )
        self._sort_tokens()

    def _sort_tokens(self) -> None:
        """Find the tokens that need a look of their own."""
        reads = self.automaton
        is_hopeless: Flags = self.fewest.min(axis=(0, 1)) >= NO_WAY
        hopeless: Flags = np.all(is_hopeless[reads.next], axis=0)
        hopeless[SPECIAL] = False
        self.never: list[int] = np.flatnonzero(hopeless[reads.classes]).tolist()
        reads = self.automaton = reads.without(hopeless)
        classes = reads.classes
        moves: Flags = np.any(self.completes, axis=1)[reads.next].any(axis=0)
        moves[SPECIAL] = False
        self.movers = np.flatnonzero(moves[classes])
        # Nearly all tokens are of two classes. The columns of the others are written one by one.
        apart = classes > OTHER_REST
        apart[END] = True
        self.columns = np.flatnonzero(apart)
        self.others = tuple(classes == kind for kind in (OTHER_START, OTHER_REST))
        goes_on = (~reads.starts & reads.has_text)[classes] & (classes != SPECIAL)
        self.goes_on: Flags | None = goes_on if goes_on.any() else None

    @property
    def possible(self) -> bool:
        """Whether there is an allowed caption."""
        return int(self.fewest[0, 0, FIRST]) <= self.max_tokens

    def __call__(self, log_probs: Array, prefixes: Ids, length: int) -> Array:
        """-inf for each token after which there is no allowed end within ``max_tokens``."""
        reads, said = self.automaton, self._read(prefixes)
        required, node = self._after(said)
        begins = reads.has_text & (reads.starts | reads.is_boundary[said.node, None])
        num_words = said.num_words[:, None] + begins
        no_way = self.fewest[num_words, required, node] > self.max_tokens - length - 1
        no_way |= reads.starts & self.is_forbidden[said.node, None]
        no_way[:, SPECIAL] = self.fewest[said.num_words, said.required, said.node] > 0  # <end>
        arrays = arrays_of(log_probs)
        rows, which = np.nonzero(no_way[:, reads.classes[self.columns]])
        if len(rows):
            arrays.forbid(log_probs, rows, self.columns[which])
        for kind, tokens in zip((OTHER_START, OTHER_REST), self.others, strict=True):
            if no_way[:, kind].any():
                arrays.forbid(log_probs, no_way[:, kind], tokens)
        return log_probs

    def banks(self, prefixes: Ids) -> Banks:
        """For beam search, which keeps hypotheses with different numbers in different banks."""
        said = self._read(prefixes)
        required, node = self._after(said)
        moved = self.sizes[required | self.said[node]][:, self.automaton.classes[self.movers]]
        now = self.sizes[said.required | self.said[said.node]]
        return Banks(now, moved, self.sizes[said.required])

    def _after(self, said: Said) -> tuple[Ids, Ids]:
        """(N, K) the required phrases said before the word in progress, and the node."""
        starts = self.automaton.starts
        ended = np.where(starts, self.said[said.node, None], 0)
        return said.required[:, None] | ended, self.automaton.next[said.node]

    def _read(self, prefixes: Ids) -> Said:
        reads = self.automaton
        classes = reads.classes[prefixes]
        nodes = reads.nodes(classes)
        before, starts = nodes[:, :-1], reads.starts[classes]
        begins = reads.has_text[classes] & (starts | reads.is_boundary[before])
        num_words = begins.sum(axis=1).clip(max=self.max_words)  # more only where nothing lives
        came = (self.completes[before] & starts[:, :, None]).any(axis=1)
        return Said(nodes[:, -1], (came * self.bits).sum(axis=1), num_words)
