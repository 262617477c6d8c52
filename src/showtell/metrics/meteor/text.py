"""The normaliser of METEOR 1.5 for English (``-norm``), found by probing the original.

It resembles the tokeniser of Moses: symbols, commas and apostrophes become words of their own,
hyphens between words become spaces, final full stops are split off, and abbreviations lose theirs.
"""

import re

_PLAIN = re.compile(r"[a-z0-9 ]*")  # the rules change nothing in such text
_LETTER = r"[^\W\d_]"
_NOT_LETTER = r"[\W\d_]"

_REPLACED = (
    ("\xa0", " "),
    ("\u3000", " "),
    ("“", '"'),
    ("”", '"'),
    ("‘", "'"),
    ("’", "'"),
    ("`", "'"),
    ("''", '"'),
    ("–", " - "),
    ("--", "-"),
)
# Each runs once over the line, and its matches do not overlap, so "bar-b-q" gives "bar b-q". The
# order matters.
_RULES = (
    (re.compile(r"(\D),"), r"\1 , "),
    (re.compile(r",(\D)"), r" , \1"),
    (re.compile(r"([\w.])-(\w)"), r"\1 \2"),
    (re.compile(rf"({_NOT_LETTER})'({_NOT_LETTER})"), r"\1 ' \2"),
    (re.compile(rf"([\W_])'({_LETTER})"), r"\1 ' \2"),
    (re.compile(rf"({_LETTER})'({_NOT_LETTER})"), r"\1 ' \2"),
    (re.compile(rf"({_LETTER})'({_LETTER})"), r"\1 '\2"),
    (re.compile(r"(\d)'s"), r"\1 's"),
)
_DOTS = re.compile(r"\.\.+")
_DOT = "\x00"  # stands for a full stop inside an ellipsis
_KEEP_STOP = frozenset(["v", "vs", "i.e", "e.g", "rev"])
_KEEP_STOP_BEFORE_NUMBER = frozenset(["pp"])


# Letters outside these blocks (Greek, Georgian, most of Vietnamese) are words of their own to the
# original; so are combining marks.
_SET_APART = re.compile(
    r"[^A-Za-z0-9 .',\t\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u017e\u0400-\u0527\u1d00-\u1d7f"
    r"\ua640-\ua66e\ua67e-\ua697-]"
)


def normalize(line: str) -> list[str]:
    """The words of a line as METEOR counts them."""
    line = line.lower()
    if _PLAIN.fullmatch(line):
        return line.split()
    for old, new in _REPLACED:
        line = line.replace(old, new)
    line = _SET_APART.sub(r" \g<0> ", line)
    line = _DOTS.sub(lambda dots: f" {_DOT * len(dots[0])} ", line)
    line = f" {line} "
    for pattern, replacement in _RULES:
        line = pattern.sub(replacement, line)
    return _split_stops(line.split())


def _split_stops(pieces: list[str]) -> list[str]:
    words = []
    for piece, following in zip(pieces, [*pieces, ""][1:], strict=True):
        stem = piece[:-1]
        if not stem or piece[-1] != ".":
            words.append(piece.replace(_DOT, "."))
        elif "." in stem and any(map(str.isalpha, stem)):
            words.append(piece.replace(".", ""))
        elif (
            stem in _KEEP_STOP
            or "a" <= following[:1] <= "z"
            or (stem in _KEEP_STOP_BEFORE_NUMBER and following[:1].isdigit())
        ):
            words.append(piece)
        else:
            words += [stem, "."]
    return words
