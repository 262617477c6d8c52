"""COCO's tokeniser: Penn Treebank rules, lower case, punctuation removed, without Java.

Gives the words that ``pycocoevalcap``'s ``PTBTokenizer`` gives, which calls CoreNLP 3.4.1's
``PTBTokenizer -preserveLines -lowerCase`` and drops a list of punctuation tokens. One tokeniser
serves training and scoring. It was written from what that program answers (``docs/metrics.md``
has the quirks), not from its source, and knows nothing of vocabularies or files.

Most captions are words between single spaces. So a caption is cut at white space, and each plain
piece is looked up in a memory of pieces seen before; a caption with a piece that could reach
over a space (``5 1/2``, ``no. 5``, ``<a b>``) goes through the lexer as a whole.
"""

import re
from collections.abc import Iterable

from showtell.text.lexer import lex

TOKENIZER = "ptb-corenlp3.4.1-coco-v1"
"""Name and version of these rules, for signatures of scores and of vocabularies."""

# What ``pycocoevalcap`` drops. Its list has -LRB-, -RRB-, -LCB- and -RCB- in capitals while the
# text is in lower case, so round and curly brackets stay in.
PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])

# Pieces whose tokens do not depend on their neighbours. A full stop only ends an abbreviation
# where the lexer says so, and that can depend on a number that follows.
_PLAIN = re.compile(r"[A-Za-z]+(?:[-'][A-Za-z]+)*[.,!?]?")
_NEEDS_CONTEXT = re.compile(r"(?i:art|ca|figs?|nos?|op|pp|prop)\.")
_MEMORY_LIMIT = 1 << 17


class _Pieces(dict[str, tuple[str, ...] | None]):
    """Tokens of each piece between white space; None for one that needs its neighbours."""

    def __missing__(self, piece: str) -> tuple[str, ...] | None:
        if len(self) >= _MEMORY_LIMIT:
            self.clear()
        tokens = None
        if _PLAIN.fullmatch(piece) and not _NEEDS_CONTEXT.fullmatch(piece):
            tokens = tuple(token for token in lex(piece) if token not in PUNCTUATION)
        self[piece] = tokens
        return tokens


_pieces = _Pieces()


def tokenize(caption: str) -> list[str]:
    """The words of one caption, in lower case, as COCO's scorer sees them.

    White space of any kind parts words; a line break inside a caption is a space. A phone number
    or a mixed fraction is one token with a no-break space inside, as in the original.
    """
    words: list[str] = []
    pieces = _pieces
    for piece in caption.split():
        tokens = pieces[piece]
        if tokens is None:
            return [token for token in lex(caption) if token not in PUNCTUATION]
        words += tokens
    return words


def tokenize_all(captions: Iterable[str]) -> list[list[str]]:
    """``tokenize`` of each caption, in order."""
    return [tokenize(caption) for caption in captions]
