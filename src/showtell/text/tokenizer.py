"""COCO's tokeniser: Penn Treebank rules, lower case, punctuation removed, without Java.

``tokenize_all`` gives the words that ``pycocoevalcap``'s ``PTBTokenizer`` gives, which calls
CoreNLP 3.4.1's ``PTBTokenizer -preserveLines -lowerCase`` and drops a list of punctuation tokens
(``docs/metrics.md`` has the quirks). Scores are computed from these words.

``tokenize`` gives the words that models are trained on and that constraints name. They are the
same, except where the official tokeniser cuts words apart: in scripts whose vowel signs it does
not know, and in letters newer than it is.

Most captions are words between single spaces. So a caption is cut at white space, and each plain
piece is looked up among the pieces seen before. A caption with a piece that could reach over a
space (``5 1/2``, ``no. 5``, ``<a b>``), or with a character outside ASCII, goes through the lexer
as a whole.
"""

import re
from collections.abc import Sequence

from showtell.text.ptb import ASSIMILATIONS, CAPITALISED, is_abbreviation, lex

TOKENIZER = "ptb-corenlp3.4.1-coco-v2"
"""Name and version of these rules, for signatures of scores and of vocabularies."""

# Version 1 (showtell 0.1.0) cut words at combining marks; text in ASCII has the same words in both.
# A model made with it goes on as it is: its words are those that it was trained on.
READABLE_TOKENIZERS = frozenset([TOKENIZER, "ptb-corenlp3.4.1-coco-v1"])
"""Tokenisers whose vocabularies this version reads."""

# What ``pycocoevalcap`` drops. Its list has -LRB-, -RRB-, -LCB- and -RCB- in capitals while the
# text is in lower case, so round and curly brackets stay in.
PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
# To the scorer the low quotes of German and other languages are words; to a reader they are not.
_NO_WORDS = PUNCTUATION | {"‚", "„", "‟", "‚‚", "„„"}

# Where a token may reach over white space (tags, fractions, telephone numbers, ". . ."), the
# caption is lexed whole. So it is where the full stop of the piece depends on what comes next.
_SPANS = re.compile(r"<|\.\s\.|[0-9)]\s[0-9]|[^\x00-\x7f]")
_LOOKS_AHEAD = re.compile(r"(?:.*[^A-Za-z])?(?i:[a-z]|art|ca|figs?|nos?|op|pp|prop)\.|.*'[0-9]+")
_WORD = re.compile(r"([A-Za-z]+(?:-[A-Za-z]+)*)([.,!?]?)")
_MEMORY_LIMIT = 1 << 17


class _Pieces(dict[str, tuple[str, ...] | None]):
    """Tokens of each piece between white space; None for one that looks at what comes next."""

    def __missing__(self, piece: str) -> tuple[str, ...] | None:
        if len(self) >= _MEMORY_LIMIT:
            self.clear()
        tokens: tuple[str, ...] | None
        if _LOOKS_AHEAD.fullmatch(piece):
            tokens = None
        elif _is_word(piece):
            tokens = (piece.lower().rstrip(".,!?"),)
        else:
            tokens = tuple(token for token in lex(piece) if token not in PUNCTUATION)
        if tokens and piece.isalpha() and tokens == (piece.lower(),):
            if len(_plain_words) >= _MEMORY_LIMIT:
                _plain_words.clear()
            _plain_words.add(tokens[0])
        self[piece] = tokens
        return tokens


def _is_word(piece: str) -> bool:
    """Whether the piece is one word, perhaps with a sign after it, by the most usual rules."""
    found = _WORD.fullmatch(piece)
    if found is None or found[1].lower() in ASSIMILATIONS:
        return False
    return found[2] != "." or not (len(found[1]) == 1 or is_abbreviation(found[1]))


class _LastPieces(dict[str, str]):
    """The word before the full stop that ends a lower-cased caption; "" where none is plain."""

    def __missing__(self, piece: str) -> str:
        if len(self) >= _MEMORY_LIMIT:
            self.clear()
        word = piece[:-1]
        plain = word.isalpha() and _pieces[piece] == (word,) and word not in CAPITALISED
        self[piece] = word if plain else ""
        return self[piece]


_pieces = _Pieces()
_last_pieces = _LastPieces()
_plain_words: set[str] = set()  # lower-case pieces that are one token each: themselves


def tokenize(caption: str) -> list[str]:
    """The words of one caption, in lower case, for training and for constraints.

    They are what COCO's scorer sees, except that words of every script stay whole. White space of
    any kind parts words; a line break inside a caption is a space. A phone number or a mixed
    fraction is one token with a no-break space inside, as in the original.
    """
    words = _plain(caption)
    return _by_pieces(caption, "\n", official=False) if words is None else words


def tokenize_as_scored(caption: str) -> list[str]:
    """The words of one caption as COCO's scorer sees them where another line follows it."""
    words = _plain(caption)
    return _by_pieces(caption, "\n", official=True) if words is None else words


def tokenize_all(captions: Sequence[str]) -> list[list[str]]:
    """The words of captions as the official scorer sees them, which reads them as lines of a file.

    There the end of one line can depend on the next: "the letter K." keeps its full stop unless
    "A", "The" or the like begins the caption after it, and "no." if a digit does. So scores equal
    the official ones only where captions are tokenised together and in the same order.
    """
    return [
        _by_pieces(caption, _after(captions, index), official=True) if words is None else words
        for index, caption in enumerate(captions)
        for words in (_plain(caption),)
    ]


def words_of_all(captions: Sequence[str | Sequence[str]]) -> list[list[str]]:
    """``tokenize_all`` of the captions that are strings; the others are words already."""
    tokens = iter(tokenize_all([caption for caption in captions if isinstance(caption, str)]))
    return [next(tokens) if isinstance(text, str) else list(text) for text in captions]


def _plain(caption: str) -> list[str] | None:
    """The words of a caption of plain words only, perhaps with a full stop at its end."""
    words = caption.lower().split()
    if words and words[-1][-1] == ".":
        words[-1] = _last_pieces[words[-1]]
    return words if _plain_words.issuperset(words) else None


def _by_pieces(caption: str, after: str, *, official: bool) -> list[str]:
    words: list[str] = []
    pieces = [] if _SPANS.search(caption) else caption.split()
    for piece in pieces:
        tokens = _pieces[piece]
        if tokens is None:
            break
        words += tokens
    else:
        if pieces:
            return words
    line = " ".join(caption.splitlines())
    dropped = PUNCTUATION if official else _NO_WORDS
    return [token for token in lex(line, after, official=official) if token not in dropped]


def _after(captions: Sequence[str], index: int) -> str:
    """What the lexer may look at behind a caption: up to the next one that is not blank."""
    after = "\n"
    for following in range(index + 1, len(captions)):
        after += captions[following] + "\n"
        if captions[following].strip():
            return after
    # The last line of the scorer's file has no line break.
    return after[:-1]


# From Luo's self-critical.pytorch (``bad_endings``). Metrics count the captions that end so, and
# decoding can forbid it.
_BAD_ENDINGS = "a an the in for at of with before after on upon near to is are am"
BAD_ENDINGS = frozenset(_BAD_ENDINGS.split())
"""Articles, prepositions and forms of "to be": words that end only a caption cut short."""
