"""How single characters and entities are spelled by the tokeniser, and which ones vanish."""

import unicodedata

BRACKETS = {
    "(": "-lrb-",
    ")": "-rrb-",
    "[": "-lsb-",
    "]": "-rsb-",
    "{": "-lcb-",
    "}": "-rcb-",
}

# Which of the two quotes the original writes for '"' does not matter: both are dropped afterwards.
SINGLE = {
    **BRACKETS,
    '"': "''",
    "£": "#",
    "€": "$",
    "¤": "$",
    "\x80": "$",
    "\u20a0": "$",
    "¢": "cents",
    "½": "1/2",
    "¼": "1/4",
    "¾": "3/4",
    "⅓": "1/3",
    "⅔": "2/3",
    **dict.fromkeys("–—―\x96\x97", "--"),
    **dict.fromkeys("…\x85", "..."),
}
"""Tokens of one character that are written otherwise."""

ENTITIES = {
    "&amp;": "&",
    "&lt;": "<",
    "&gt;": ">",
    "&quot;": "''",
    "&apos;": "'",
    "&mdash;": "--",
    "&ndash;": "--",
}

# Typographic quotes are lexed as typewriter ones, but two in a row are one token of this spelling.
QUOTES = {
    **dict.fromkeys("‘‛‹\x91", "`"),
    **dict.fromkeys("’›\x92", "'"),
    **dict.fromkeys("“„«\x93", "``"),
    **dict.fromkeys("”»\x94", "''"),
}
TYPEWRITER = str.maketrans({q: '"' if len(s) == 2 else s for q, s in QUOTES.items()})

_GONE_CATEGORIES = frozenset(["Cc", "Cf", "Cn", "Co", "Cs", "Me", "Nl"])
# Characters of the blocks of European scripts and symbols that the original's tables lack.
_GONE = (
    (0x482, 0x482),
    (0x528, 0x52F),
    (0x58A, 0x58F),
    (0x2010, 0x2012),
    (0x2024, 0x2025),
    (0x2027, 0x2027),
    (0x203C, 0x203D),
    (0x2043, 0x2043),
    (0x2045, 0x205E),
    (0x20A1, 0x20A3),
    (0x20A5, 0x20AB),
    (0x20AD, 0x20C0),
    (0x20D0, 0x20F0),
    (0x2150, 0x2152),
    (0x215F, 0x215F),
    (0x2189, 0x218B),
)


def vanishes(character: str) -> bool:
    """Whether a character that no rule takes gives no token: emoji, control characters, ...

    Exact below U+0590 and from U+2000 to U+2BFF; of other scripts the original, which is older
    than today's Unicode, drops some more.
    """
    code = ord(character)
    if code > 0xFFFF:
        return True
    if character in SINGLE or character in QUOTES:
        return False
    return unicodedata.category(character) in _GONE_CATEGORIES or any(
        low <= code <= high for low, high in _GONE
    )
