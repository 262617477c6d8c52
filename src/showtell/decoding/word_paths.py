"""From each state of a caption, the fewest tokens to an allowed end.

A state is the node of a ``WordAutomaton``, the set of required phrases that were said before the
word in progress, and the number of words begun. Each token begins a word or goes on with one, so
the states of n words follow from those of n + 1 (Bellman 1957, chapter 3).

Shapes: ``S`` nodes, ``M`` sets of required phrases, ``K`` classes of tokens, ``E`` edges.
"""

import torch
from torch import Tensor

from showtell.decoding.word_automaton import WordAutomaton
from showtell.text.vocabulary import SPECIAL_WORDS

NO_WAY = 1_000_000  # tokens; no caption has so many


def fewest_tokens(
    automaton: WordAutomaton,
    *,
    said: Tensor,
    num_required: int,
    is_forbidden: Tensor,
    is_bad: Tensor,
    min_words: int,
    max_words: int,
) -> Tensor:
    """How many tokens it takes at least, ``<end>`` not counted.

    Args:
        automaton: knows the vocabulary and the phrases.
        said: (S,) the set of required phrases, as bits, that are said if the word ends here.
        num_required: M = 2**num_required.
        is_forbidden: (S,) whether the word may not end here.
        is_bad: (S,) whether the caption may not.
        min_words, max_words: of a caption.

    Returns:
        (max_words + 2, M, S), the number of words first; ``NO_WAY`` where there is none.
    """
    reads, edges = automaton, _Edges(automaton)
    sets = torch.arange(2**num_required)
    said_then = sets[:, None] | said  # (M, S) once the word has ended
    may_end = (said_then == len(sets) - 1) & ~is_forbidden & ~is_bad
    fewest = torch.full((max_words + 2, *said_then.shape), NO_WAY, dtype=torch.int32)
    num = max_words
    while num >= 0:
        more = fewest[num + 1]
        now = (
            torch.where(may_end & (num >= min_words), 0, NO_WAY)
            .int()
            .minimum(edges.least(more, edges.rest_first))
        )
        opened = edges.least(more, edges.start)
        while True:
            then = opened.minimum(now + 1) if edges.has_bare_start else opened
            then = then[said_then, reads.boundary].masked_fill(is_forbidden, NO_WAY)
            better = now.minimum(then).minimum(edges.least(now, edges.rest))
            if torch.equal(better, now):
                break
            now = better
        fewest[num] = now
        if min_words < num and torch.equal(now, more):  # nor do fewer words make a difference
            fewest[min_words:num] = now
            num = min_words
        num -= 1
    return fewest


class _Edges:
    """Where tokens lead, each pair of nodes once: (2, E) from and to.

    Attributes:
        start: tokens that begin a word, from after a space.
        rest_first: tokens that go on, from after a space: the first text of a word.
        rest: tokens that go on with a word that has text.
        has_bare_start: whether a token begins a word and has no text.
    """

    def __init__(self, automaton: WordAutomaton) -> None:
        reads = automaton
        used = torch.zeros(len(reads.starts), dtype=torch.bool)
        used[reads.classes[len(SPECIAL_WORDS) :]] = True
        text = used & reads.has_text
        self.start = _edges(reads.next, reads.is_boundary, text & reads.starts)
        self.rest_first = _edges(reads.next, reads.is_boundary, text & ~reads.starts)
        self.rest = _edges(reads.next, ~reads.is_boundary, text & ~reads.starts)
        self.has_bare_start = bool((used & ~reads.has_text).any())

    def least(self, fewest: Tensor, edges: Tensor) -> Tensor:
        """(M, S) after a token -> (M, S) before it, ``NO_WAY`` where no edge begins."""
        least = torch.full_like(fewest, NO_WAY)
        least.scatter_reduce_(1, edges[0].expand(len(least), -1), fewest[:, edges[1]] + 1, "amin")
        return least.clamp_(max=NO_WAY)


def _edges(following: Tensor, nodes: Tensor, classes: Tensor) -> Tensor:
    pairs = nodes.nonzero() * len(following) + following[nodes][:, classes]
    unique = torch.unique(pairs)
    return torch.stack([unique // len(following), unique % len(following)])
