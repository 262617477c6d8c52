"""Where a caption stands in the named phrases, and how far it is from an allowed end.

``WordAutomaton`` reads a caption as one text, in which each word has a space before it, and finds
the phrases in that text: the automaton of Aho & Corasick 1975 ("Efficient string matching",
algorithms 2 and 3), first over characters, then over the tokens of a vocabulary. Most tokens have
the same effect and share a class. Because phrases begin with a space, the automaton finds whole
words and never parts of words. A vocabulary of words and one of pieces of words differ only in
their ``Spelling``.

``fewest_tokens`` computes, for each state of a caption, the fewest tokens to an allowed end. A
state is a node of the automaton, the set of required phrases said before the word in progress, and
the number of words begun. Each token either begins a word or continues one, so the states with n
words follow from those with n + 1 (dynamic programming: Bellman 1957, chapter 3).

Shapes: ``N`` rows, ``L`` tokens of a prefix, ``S`` nodes, ``K`` classes of tokens, ``V``
vocabulary, ``W`` phrases, ``M`` sets of required phrases, ``E`` edges.
"""

from collections.abc import Sequence
from copy import copy

import numpy as np
from numpy.typing import NDArray

from showtell.decoding.arrays import Flags, Ids
from showtell.decoding.constraints.cache import Table
from showtell.text.vocabulary import SPECIAL_WORDS, Spelling

SPACE = " "
# Nodes: inside a word that is in no phrase; before the first word, as after two spaces.
ROOT, FIRST = 0, 1
# Classes: special tokens; texts that are in no phrase and begin a word; those that continue one.
SPECIAL, OTHER_START, OTHER_REST = 0, 1, 2

Counts = NDArray[np.int32]
Kinds = dict[tuple[bool, str | None], int]  # (begins a word, text or None) -> class


class WordAutomaton(Table):
    """Finds named phrases in the text of tokens.

    Args:
        spelling: of the vocabulary.
        phrases: words, or several with a space between, as ``spelling.spell`` gives them.

    Attributes:
        classes: (V,) the class of each id.
        starts: (K,) whether the tokens of a class begin a new word.
        has_text: (K,) whether they have any text; a lone space that begins a word has none.
        next: (S, K) the node after a token.
        boundary: (S,) the node after a space.
        is_boundary: (S,) whether the last character is a space, so that any text begins a word.
        is_bare: (S,) the same, except before the first word: a word has begun and has no text.
        ends: (S, W) whether a phrase is said once the word ends here.
        depth: how many of the last tokens decide the node.
    """

    def __init__(self, spelling: Spelling, phrases: Sequence[str]) -> None:
        self.names = _prefixes(phrases)
        self._nodes = {name: number for number, name in enumerate(self.names)}
        parts = _parts(phrases)
        kinds: Kinds = {(True, None): OTHER_START, (False, None): OTHER_REST}
        classes = [SPECIAL] * len(SPECIAL_WORDS)
        tokens = zip(spelling.texts, spelling.starts, strict=True)
        for text, starts in list(tokens)[len(SPECIAL_WORDS) :]:
            kind = starts, text if text in parts else None
            classes.append(kinds.setdefault(kind, len(kinds) + 1))
        self.classes = np.array(classes)
        self.starts = np.array([False, *(starts for starts, _ in kinds)])
        self.has_text = np.array([False, *(text != "" for _, text in kinds)])
        self.is_boundary = np.array([name.endswith(SPACE) for name in self.names])
        self.is_bare = self.is_boundary.copy()
        self.is_bare[FIRST] = False
        self.boundary = np.array([self._follow(name.rstrip() + SPACE) for name in self.names])
        self.next = self._next(kinds)
        self.ends = self._ends(phrases)
        self.depth = self._depth(kinds)

    def _follow(self, text: str) -> int:
        """The node of the longest suffix of ``text`` that is a node and begins with a space."""
        while text not in self._nodes:
            cut = text.find(SPACE, 1)
            text = text[cut:] if cut > 0 else ""
        return self._nodes[text]

    def _next(self, kinds: Kinds) -> Ids:
        letters = {letter for name in self.names for letter in name if letter != SPACE}
        after = {
            letter: np.array([self._follow(name + letter) for name in self.names])
            for letter in letters
        }
        columns = [np.full(len(self.names), FIRST)]
        for starts, text in kinds:
            node = self.boundary if starts else np.arange(len(self.names))
            for letter in text or "":
                node = after[letter][node]
            columns.append(np.full_like(node, ROOT) if text is None else node)
        return np.stack(columns, axis=1)

    def _ends(self, phrases: Sequence[str]) -> Flags:
        numbers: dict[str, list[int]] = {}
        for number, phrase in enumerate(phrases):
            numbers.setdefault(phrase, []).append(number)
        ends = np.zeros((len(self.names), len(phrases)), bool)
        for node, name in enumerate(self.names):
            last_words = (name[i + 1 :] for i, letter in enumerate(name) if letter == SPACE)
            ends[node, [number for words in last_words for number in numbers.get(words, ())]] = True
        return ends

    def _depth(self, kinds: Kinds) -> int:
        pieces = {SPACE * starts + text for starts, text in kinds if text is not None}
        # The space before the first word counts as a token.
        depth = {"": 0, SPACE: 1, 2 * SPACE: 1}
        for name in sorted({*self.names} - {*depth}, key=len):
            ways = [name[:i] for i in range(len(name)) if name[i:] in pieces]
            depth[name] = max((depth[way] + 1 for way in ways), default=0)
        return max(depth.values())

    def nodes(self, classes: Ids) -> Ids:
        """(N, L) classes of tokens -> (N, L + 1) the node before each token and after the last."""
        padded = np.pad(classes, ((0, 0), (self.depth, 0)), constant_values=SPECIAL)
        num = classes.shape[1] + 1
        node = np.full((len(classes), num), ROOT)
        for place in range(self.depth):
            node = self.next[node, padded[:, place : place + num]]
        return node

    def without(self, classes: Flags) -> "WordAutomaton":
        """The same without (K,) ``classes``, whose tokens never come; the first three stay."""
        kept = ~classes
        kept[: OTHER_REST + 1] = True
        number = np.where(kept, kept.cumsum() - 1, SPECIAL)
        smaller = copy(self)
        smaller.classes = number[self.classes]
        smaller.next = self.next[:, kept]
        smaller.starts, smaller.has_text = self.starts[kept], self.has_text[kept]
        return smaller


def _prefixes(phrases: Sequence[str]) -> list[str]:
    """The names of the nodes: ``ROOT``, ``FIRST``, then every prefix of " " + phrase."""
    names = dict.fromkeys(["", 2 * SPACE, SPACE])
    for phrase in phrases:
        names.update(dict.fromkeys(SPACE + phrase[:size] for size in range(1, len(phrase) + 1)))
    return list(names)


def _parts(phrases: Sequence[str]) -> set[str]:
    """Every substring of a word of the phrases, "" too."""
    words = {word for phrase in phrases for word in phrase.split(SPACE)}
    ends = [(w, i, j) for w in words for i in range(len(w)) for j in range(i + 1, len(w) + 1)]
    return {"", *(word[i:j] for word, i, j in ends)}


def table_bytes(
    spelling: Spelling, phrases: Sequence[str], *, num_required: int, max_words: int
) -> int:
    """Bytes of the tables of ``WordRules``, counted before any is built.

    Args:
        phrases: those of ``WordAutomaton``; the work grows with the square of their lengths.
        num_required: how many of them are required.
        max_words: of a caption.
    """
    parts = _parts(phrases)
    tokens = zip(spelling.texts, spelling.starts, strict=True)
    num_classes = 3 + len({token for token in tokens if token[0] in parts})
    num_nodes = len(_prefixes(phrases))
    fewest = 4 * (max_words + 2) * (1 << num_required) * num_nodes
    return fewest + num_nodes * (8 * num_classes + len(phrases))


NO_WAY = 1_000_000  # tokens: more than any caption has


def fewest_tokens(
    automaton: WordAutomaton,
    *,
    said: Ids,
    num_required: int,
    is_forbidden: Flags,
    is_bad: Flags,
    min_words: int,
    max_words: int,
) -> Counts:
    """The fewest tokens to an allowed end, ``<end>`` not counted.

    Args:
        automaton: of the vocabulary and the phrases.
        said: (S,) the set of required phrases, as bits, that are said if the word ends here.
        num_required: M = 2**num_required.
        is_forbidden: (S,) whether the word may not end here.
        is_bad: (S,) whether the caption may not end here.
        min_words, max_words: of a caption.

    Returns:
        (max_words + 2, M, S), the number of words first; ``NO_WAY`` where none can
        be reached.
    """
    reads, edges = automaton, _Edges(automaton)
    sets = np.arange(2**num_required)
    said_then = sets[:, None] | said  # (M, S) once the word has ended
    may_end = (said_then == len(sets) - 1) & ~is_forbidden & ~is_bad
    fewest = np.full((max_words + 2, *said_then.shape), NO_WAY, np.int32)
    num = max_words
    while num >= 0:
        more = fewest[num + 1]
        ends_here = np.where(may_end & (num >= min_words), 0, NO_WAY).astype(np.int32)
        now = np.minimum(ends_here, edges.least(more, edges.rest_first))
        opened = edges.least(more, edges.start)
        while True:
            then = np.minimum(opened, now + 1) if edges.has_bare_start else opened
            then = np.where(is_forbidden, NO_WAY, then[said_then, reads.boundary])
            better = np.minimum(np.minimum(now, then), edges.least(now, edges.rest))
            if np.array_equal(better, now):
                break
            now = better
        fewest[num] = now
        if min_words < num and np.array_equal(now, more):  # fewer words make no difference either
            fewest[min_words:num] = now
            num = min_words
        num -= 1
    return fewest


class _Edges:
    """Which nodes tokens lead from and to: (2, E), each pair once.

    Attributes:
        start: of tokens that begin a word, from a node after a space.
        rest_first: of tokens that continue a word, from a node after a space: its first text.
        rest: of tokens that continue a word that has text.
        has_bare_start: whether a token begins a word and has no text.
    """

    def __init__(self, automaton: WordAutomaton) -> None:
        reads = automaton
        used = np.zeros(len(reads.starts), bool)
        used[reads.classes[len(SPECIAL_WORDS) :]] = True
        text = used & reads.has_text
        self.start = _edges(reads.next, reads.is_boundary, text & reads.starts)
        self.rest_first = _edges(reads.next, reads.is_boundary, text & ~reads.starts)
        self.rest = _edges(reads.next, ~reads.is_boundary, text & ~reads.starts)
        self.has_bare_start = bool((used & ~reads.has_text).any())

    def least(self, fewest: Counts, edges: Ids) -> Counts:
        """(M, S) after a token -> (M, S) before it, ``NO_WAY`` where no edge begins."""
        least = np.full_like(fewest, NO_WAY)
        if edges.shape[1]:
            firsts = np.flatnonzero(np.diff(edges[0], prepend=-1))  # edges are sorted
            found = np.minimum.reduceat(fewest[:, edges[1]] + 1, firsts, axis=1)
            least[:, edges[0, firsts]] = np.minimum(found, NO_WAY)
        return least


def _edges(following: Ids, nodes: Flags, classes: Flags) -> Ids:
    pairs = np.flatnonzero(nodes)[:, None] * len(following) + following[nodes][:, classes]
    unique = np.unique(pairs)
    return np.stack([unique // len(following), unique % len(following)])
