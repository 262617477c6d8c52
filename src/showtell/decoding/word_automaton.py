"""Where a caption stands in some named words and phrases, whatever the pieces that it is made of.

A caption is read as one text, in which each word has a space before it, and a named phrase is
looked for as a part of that text: the automaton of Aho & Corasick 1975 ("Efficient string
matching", algorithms 2 and 3), over characters and then over the tokens of a vocabulary, most of
which do the same and share a class. As a phrase begins with a space, so does every text that the
automaton remembers; and what it knows of is words, not their parts.

A vocabulary of words and one of pieces of words differ in nothing here but their ``Spelling``.

Shapes: ``N`` rows, ``L`` tokens of a prefix, ``S`` nodes, ``K`` classes of tokens, ``V``
vocabulary, ``W`` phrases.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from showtell.text.spelling import Spelling
from showtell.text.vocabulary import SPECIAL_WORDS

SPACE = " "
ROOT, FIRST = 0, 1  # nodes: in a word that no phrase has; before the first word, after two spaces
SPECIAL, OTHER_START, OTHER_REST = 0, 1, 2  # classes: no text; a text that no phrase has, two ways

Kinds = dict[tuple[bool, str | None], int]  # (begins a word, text or None) -> class


class WordAutomaton:
    """Reads tokens.

    Args:
        spelling: of the vocabulary.
        phrases: named words, or several with a space between, as ``spelling.spell`` has them.

    Attributes:
        classes: (V,) the class of each id.
        starts: (K,) whether its tokens begin a new word.
        has_text: (K,) whether its tokens have any text; one that only begins a word has none.
        next: (S, K) the node after a token.
        boundary: (S,) the node after a space.
        is_boundary: (S,) whether the last character is a space, so that any text begins a word.
        is_bare: (S,) the same, but not before the first word: a word has begun and has no text.
        ends: (S, W) whether a phrase is said as soon as the word ends.
        depth: as many last tokens tell the node.
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
        self.classes = torch.tensor(classes)
        self.starts = torch.tensor([False, *(starts for starts, _ in kinds)])
        self.has_text = torch.tensor([False, *(text != "" for _, text in kinds)])
        self.is_boundary = torch.tensor([name.endswith(SPACE) for name in self.names])
        self.is_bare = self.is_boundary.clone()
        self.is_bare[FIRST] = False
        self.boundary = torch.tensor([self._follow(name.rstrip() + SPACE) for name in self.names])
        self.next = self._next(kinds)
        self.ends = self._ends(phrases)
        self.depth = self._depth(kinds)

    def _follow(self, text: str) -> int:
        """The node of the longest end of ``text`` that is remembered; it begins with a space."""
        while text not in self._nodes:
            cut = text.find(SPACE, 1)
            text = text[cut:] if cut > 0 else ""
        return self._nodes[text]

    def _next(self, kinds: Kinds) -> Tensor:
        letters = {letter for name in self.names for letter in name if letter != SPACE}
        after = {
            letter: torch.tensor([self._follow(name + letter) for name in self.names])
            for letter in letters
        }
        columns = [torch.full((len(self.names),), FIRST)]
        for starts, text in kinds:
            node = self.boundary if starts else torch.arange(len(self.names))
            for letter in text or "":
                node = after[letter][node]
            columns.append(torch.full_like(node, ROOT) if text is None else node)
        return torch.stack(columns, dim=1)

    def _ends(self, phrases: Sequence[str]) -> Tensor:
        numbers: dict[str, list[int]] = {}
        for number, phrase in enumerate(phrases):
            numbers.setdefault(phrase, []).append(number)
        ends = torch.zeros((len(self.names), len(phrases)), dtype=torch.bool)
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

    def nodes(self, classes: Tensor) -> Tensor:
        """(N, L) classes of tokens -> (N, L + 1) the node before each token and after the last."""
        windows = pad(classes, (self.depth, 0), value=SPECIAL).unfold(1, self.depth, 1)
        node = torch.full_like(windows[..., 0], ROOT)
        for place in range(self.depth):
            node = self.next[node, windows[..., place]]
        return node

    def drop(self, classes: Tensor) -> None:
        """Forget (K,) classes, of tokens that will not come; the first three stay."""
        kept = ~classes
        kept[: OTHER_REST + 1] = True
        number = torch.where(kept, kept.cumsum(dim=0) - 1, SPECIAL)
        self.classes = number[self.classes]
        self.next = self.next[:, kept]
        self.starts, self.has_text = self.starts[kept], self.has_text[kept]


def _prefixes(phrases: Sequence[str]) -> list[str]:
    """The beginnings of phrases, each with its space, after those of ``ROOT`` and ``FIRST``."""
    names = dict.fromkeys(["", 2 * SPACE, SPACE])
    for phrase in phrases:
        names.update(dict.fromkeys(SPACE + phrase[:size] for size in range(1, len(phrase) + 1)))
    return list(names)


def _parts(phrases: Sequence[str]) -> set[str]:
    """Every part of a word of the phrases, "" too."""
    words = {word for phrase in phrases for word in phrase.split(SPACE)}
    ends = [(w, i, j) for w in words for i in range(len(w)) for j in range(i + 1, len(w) + 1)]
    return {"", *(word[i:j] for word, i, j in ends)}
