"""Penn Treebank tokens: the rules, characters and abbreviations of COCO's official tokeniser.

``lex`` cuts a line into tokens as CoreNLP 3.4.1's ``PTBTokenizer`` does. At each position the rule
with the longest match wins, and the earlier rule on a tie. Where a rule looks past its token, the
token is its first group and the whole match counts for its length, as in the lexer generators that
such tokenisers are made with.

Everything here was written from that program's answers, not from its source. It was asked for
every character of the first 65,536 in several surroundings (``ptb_characters.txt``); for every word
of up to five letters, every word of COCO 2014's captions and some 300 usual abbreviations, in lower
case, capitalised and in capitals, before a word, a number, a capital and the end of a line.
``tests/text`` compares the two over all of COCO 2014 and Flickr8k, and over random text.

The original was made before Unicode 6, so it cuts words of many scripts at their vowel signs
(Khmer, Burmese, Sinhala, Kannada, ...) and drops newer letters. With ``official=False`` those words
stay whole; text in ASCII is the same either way.
"""

import re
import sys
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

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
    **dict.fromkeys("“«\x93", "``"),
    **dict.fromkeys("”»\x94", "''"),
    **{quote: quote for quote in "‚„‟"},
}
TYPEWRITER = str.maketrans({q: '"' if len(s) == 2 else s for q, s in QUOTES.items()})

_ANY_CASE = """
adj adm adv al ala alex apr ariz assn assoc asst atty attys aug ave bancorp bhd bldg blvd brig bros
calif capt cf cie cmdr co col colo comdr conn corp cos cpl ct dak dec dept det dr drs elec ens esq
est etc ext feb fla fri ft ga gen gov govs hon inc ind insp intl invt jan jos jr jul jun kan kans ky
lieut lt ltd maj mar md messrs mich minn mlle mme mo mon mont mr mrs ms msgr mt natl neb nev nov oct
okla penn pfc ph plc pres prof profs pvt rd rep reps rev rt sen sens sep sept seq sfc sgt spc sq sr
st ste supt supts sys tel tenn thu thurs treas tue tues univ va vs vt wed wis wisc wm wyo
"""
_CAPITALISED = "ark az del ill la mass miss ore pa tex wash"
_FIRST_CASE = "mfg mtg ppte pptes ppty pptys pte ptes pty ptys"
_BEFORE_NUMBER = "art ca fig figs no nos op pp prop"

ANY_CASE = frozenset(_ANY_CASE.split())
"""Abbreviations in any mixture of cases."""

CAPITALISED = frozenset(_CAPITALISED.split())
"""Also words by themselves, so abbreviations only with a capital: "Wash.", "La."."""

FIRST_CASE = frozenset(_FIRST_CASE.split())
"""Only their first letter may be a capital."""

BEFORE_NUMBER = frozenset(_BEFORE_NUMBER.split())
"""Abbreviations only where a number follows: "No. 5", "fig. 2"."""


ASSIMILATIONS = {
    "cannot": 3,
    "gonna": 3,
    "gotta": 3,
    "lemme": 3,
    "gimme": 3,
    "wanna": 3,
    "'tis": 2,
    "'twas": 2,
}

# Words that make an initial before them the end of a sentence: "a letter K. The sign".
_STARTERS = (
    "a about according additionally after an as at but earlier he her here however if in it last "
    "many more now once one other our she since so some such that the their then there these they "
    "this we what when while yet you"
)

# Only English letters are the same in another case: Python counts the long s as an s.
# Rules by kind; {L} is a letter, {N} a digit, {W} either, {M} a letter or a mark.
_RULES: dict[str, str] = {
    "assimilation": r"(?ai:cannot|gonna|gotta|lemme|gimme|wanna|'tis|'twas)",
    "tag": r"<(?:[!?][A-Za-z-][^>\n]*|/?[A-Za-z][A-Za-z0-9_:.-]*"
    r"(?: +[A-Za-z][A-Za-z0-9_:.-]*(?: *= *(?:'[^'\n]*'|\"[^\"\n]*\"))?)* ?/?)>",
    "negated": r"([A-Za-z]*[A-MO-Za-mo-z])[nN]['`][tT]",
    "not": r"[nN]['`][tT]",
    "before clitic": r"({M}+)'(?ai:[msd]|re|ve|ll)(?![A-Za-z])",
    "clitic": r"('(?ai:[msd]|re|ve|ll))(?![A-Za-z])",
    "typographic clitic": r"'(?ai:[msd]|re|ve|ll)",
    "and": r"'[nN]'|'[nN](?=\s)",
    "apostrophe": (
        r"(?ai:[ldj]'|dunkin'|somethin'|ol'|'em|'till?|'cause)"
        r"|[A-HJ-XZn]'{L}{L}+|{L}+[aeiouyAEIOUY]'[aeiouA-Z]{L}*|'[2-9]0s|'[0-9][0-9](?=\s)"
    ),
    "typewriter": r"(?ai:c'mon|nat'l)",
    "you": r"([yY]')(?={L})",
    "word": r"{M}(?:{M}|{N})*(?:[.!?]{M}(?:{M}|{N})*)*",
    "file": (
        r"{W}+(?:\.{W}+)*\.(?ai:c|h|x|gz|pl|ps|py|bat|bmp|cgi|class|cpp|dll|docx?|exe|gif|html?|jar"
        r"|java|jpe?g|mov|pdf|php|png|ppt|sql|tar|txt|wav|xml|zip)(?=[\s.,?!])"
    ),
    "compound": r"(?:[dDoOlL]'{W})?{W}+(?:[-_֊‐‑](?:[dDoOlL]'{W})?{W}+)*",
    "dotted compound": (
        r"[A-Za-z0-9][A-Za-z0-9.,]*(?:-(?:[A-Za-z](?:\.[A-Za-z])+\.|[A-Za-z0-9]+))+"
    ),
    "alternatives": (
        r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:\\?/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}"
    ),
    "date": r"{N}{1,2}[-/]{N}{1,2}[-/]{N}{2,4}",
    "number": r"[-+]?(?:{N}*(?:[.:,٫٬]{N}+)+|{N}+)",
    "fraction": r"(?:{N}{1,4}[- \xa0])?{N}{1,4}(?:\\?/|⁄){N}{1,4}",
    "phone": (
        r"\([0-9]{2,3}\)[ \xa0]?[0-9]{3,4}[- .\xa0]?[0-9]{3,5}"
        r"|\+?[0-9]{2,4}[- \xa0](?:[0-9]{3,4}[- \xa0][0-9]{3,4}|[0-9]{6,9})"
        r"|\+[0-9]{2,4}[- \xa0][0-9]{2,4}[- \xa0][0-9]{3,4}[- \xa0]?[0-9]{3,4}"
    ),
    "url": (
        r"https?://[^\s\"<>|(){}]+[^\s\"<>|.!?(){},-]"
        r"|(?:www\.(?:[^\s`\"<>|.!?(){},]+\.)+[A-Za-z]{2,4}"
        r"|(?:[^\s`'\"|!(){},-_$]+\.)+(?:com|net|org|edu))"
        r"(?:/[^\s\"<>|()]+[^\s\"<>|.!?(){},-])?"
    ),
    "mail": r"<?[A-Za-z0-9][^\s\"<>|(){}]*@(?:[^\s\"<>|().{}]+\.)*[^\s\"<>|().{}]+>?",
    "handle": r"@[A-Za-z_][A-Za-z_0-9]*|\#{M}+|[\#]+|@+",
    "initials": r"[A-Za-z](?:\.[A-Za-z])*\.",
    "last initial": r"([A-Za-z])\.\s+(?:STARTERS|M[rRsS]\.)\s",
    "abbreviation": r"[A-Za-z]+\.",
    "before number": r"([A-Za-z]+\.)\s?{N}",
    "stop before comma": (
        r"((?:{M}(?:{M}|{N})*(?:[.!?]{M}(?:{M}|{N})*)*"
        r"|(?:[dDoOlL]'{W})?{W}+(?:[-_]{W}+)*|[A-Za-z0-9][A-Za-z0-9.]*(?:-[A-Za-z0-9]+)+"
        r"|[A-Z]+(?:[&+][A-Z]+)+)\.)[,;:]"
    ),
    "language": r"[cC]\+\+|[cCfF]\#",
    "joined capitals": r"[A-Z]+(?:(?:[&+]|&(?ai:amp);)[A-Z]+)+",
    "currency": r"[A-Z]+\$",
    "smiley": r"[<>]?[:;=][-o']?[()\[\]DPpd\\|@{O](?![A-Za-z0-9])",
    "face": r"\([-^=<>']_[-^=<>']\)|[-^=<>']_[-^=<>']",
    "entity": r"&(?ai:lt|gt|amp);|&(?:quot|apos|nbsp|mdash|ndash);|&\#{N}+;",
    "ellipsis": r"\.\.\.+|\.(?: \.){2,}|[…\x85]",
    "exclamation": r"[!?]+",
    "dashes": r"-+|_+|[–—\x96\x97]",
    "typewriter quotes": r"``|''",
    "arrows": r"<<|>>",
    "superscripts": r"[¹²³⁰⁴-⁹₀-₉]+",
    "stars": r"\*\*+",
    "single": r"(?s:.)",
}
_RULES["last initial"] = _RULES["last initial"].replace(
    "STARTERS", "|".join(f"{word.capitalize()}|{word.upper()}" for word in _STARTERS.split())
)


# A word with an apostrophe in it keeps the one it was written with; clitics do not.
_AS_SPELLED = frozenset(["apostrophe", "and", "you", "compound", "dotted compound"])
# Rules that apply to typewriter characters alone (True), or only where one is typographic:
# "’tis" is not split, but the clitic of "c’mon" is.
_AS_TYPED = {
    "assimilation": True,
    "typewriter": True,
    "typewriter quotes": True,
    "typographic clitic": False,
}


_ASCII = {"{L}": "[A-Za-z]", "{N}": "[0-9]", "{W}": "[A-Za-z0-9]", "{M}": "[A-Za-z]"}
# Joiners within a word: of Persian, of the scripts of India and of Sinhala.
_JOINERS = "\u200c\u200d"


@dataclass(frozen=True, slots=True)
class _Characters:
    """Sets of characters, each as the inside of a regular expression's ``[...]``."""

    letters: str
    digits: str
    marks: str
    symbols: str

    def placeholders(self, *, official: bool) -> dict[str, str]:
        """What stands for {L}, {N}, {W} and {M} in the rules."""
        if official:
            return {
                "{L}": f"[{self.letters}]",
                "{N}": f"[{self.digits}]",
                "{W}": f"[{self.letters}{self.digits}]",
                "{M}": f"[{self.letters}{self.marks}]",
            }
        inside = self.letters + self.marks
        joined = f"(?<=[{inside}])[{_JOINERS}](?=[{inside}])"
        letter = f"(?:[{inside}]|{joined})"
        either = f"(?:[{inside}{self.digits}]|{joined})"
        return {"{L}": letter, "{N}": f"[{self.digits}]", "{W}": either, "{M}": letter}


@cache
def _official_characters() -> _Characters:
    text = files("showtell.text").joinpath("ptb_characters.txt").read_text(encoding="ascii")
    sets = {
        name: "".join(
            "-".join(f"\\u{int(end, 16):04x}" for end in span.split("-")) for span in spans.split()
        )
        for name, spans in re.findall(r"^\[(\w+)\]\n([^\[]+)", text, re.MULTILINE)
    }
    sets["letters"] += "A-Za-z"
    sets["digits"] += "0-9"
    return _Characters(**sets)


@cache
def _all_characters() -> _Characters:
    """The official characters, and the letters, digits and marks that the original lacks."""
    official = _official_characters()
    known = re.compile(f"[{official.letters}{official.digits}{official.marks}{official.symbols}]")
    # Enclosing marks and those that choose a variant of a symbol are no part of a word.
    name_of = {"Mn": "marks", "Mc": "marks", "Nd": "digits"}
    more: dict[str, list[int]] = {"letters": [], "marks": [], "digits": []}
    for code in range(0x80, sys.maxunicode + 1):
        character = chr(code)
        category = unicodedata.category(character)
        name = "letters" if category[0] == "L" else name_of.get(category)
        if name and not known.match(character) and not _VARIANT.match(character):
            more[name].append(code)
    return _Characters(
        official.letters + _spans(more["letters"]),
        official.digits + _spans(more["digits"]),
        official.marks + _spans(more["marks"]),
        official.symbols,
    )


def _spans(codes: Iterable[int]) -> str:
    """Characters by their numbers, in order, as a set of a pattern has them.

    Ninety thousand one by one take seconds to compile.
    """
    spans: list[list[int]] = []
    for code in codes:
        if spans and code == spans[-1][1] + 1:
            spans[-1][1] = code
        else:
            spans.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in spans)


_VARIANT = re.compile("[\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")


@dataclass(frozen=True, slots=True)
class _Rules:
    """Compiled rules, by kind, and the single characters that are tokens."""

    patterns: list[tuple[str, re.Pattern[str]]]
    tokens: re.Pattern[str]


@cache
def _rules(*, ascii_only: bool, official: bool) -> _Rules:
    if ascii_only:
        placeholders, symbols = _ASCII, ""
    else:
        characters = _official_characters() if official else _all_characters()
        placeholders = characters.placeholders(official=official)
        symbols = characters.symbols
    patterns = []
    for kind, pattern in _RULES.items():
        for name, expression in placeholders.items():
            pattern = pattern.replace(name, expression)
        patterns.append((kind, re.compile(pattern)))
    specials = re.escape("".join(SINGLE))
    return _Rules(patterns, re.compile(f"[!-~{specials}{symbols}]"))


def is_abbreviation(word: str) -> bool:
    """Whether a full stop after ``word`` belongs to it, whatever comes next."""
    lower = word.lower()
    return (
        lower in ANY_CASE
        or (lower in CAPITALISED and word[0].isupper())
        or (lower in FIRST_CASE and word[1:].islower())
    )


def lex(text: str, after: str = "\n", *, official: bool = True) -> list[str]:
    """All tokens of ``text``, in lower case and normalised, punctuation included.

    Args:
        text: One line.
        after: What follows the line, its line break included. Some rules look ahead: an initial
            keeps its full stop unless the next line begins with "The" or the like.
        official: Cut and drop letters and marks as the original does; False keeps words whole.
    """
    rules = _rules(ascii_only=text.isascii(), official=official)
    spelled = text.replace("\xad", "")
    text = spelled.translate(TYPEWRITER) if not text.isascii() else text
    whole = text + after
    tokens: list[str] = []
    position, end = 0, len(text)
    while position < end:
        if whole[position].isspace() and whole[position] != "\x85":
            position += 1
            continue
        if spelled[position] in QUOTES and spelled[position + 1 : position + 2] in QUOTES:
            tokens.append("".join(QUOTES[quote] for quote in spelled[position : position + 2]))
            position += 2
            continue
        kind, match = _longest(rules.patterns, whole, position, spelled)
        stop = match.end(1) if match.re.groups else match.end()
        token = whole[position:stop]
        if kind == "assimilation":
            first = ASSIMILATIONS[token.lower()]
            tokens += [token[:first].lower(), token[first:].lower()]
        elif kind in _AS_SPELLED:
            tokens.append(_lower(spelled[position:stop]))
        elif token != "&nbsp;" and (kind != "single" or rules.tokens.match(token)):
            tokens.append(_normal(token, kind))
        position = stop
    return tokens


def _longest(
    rules: list[tuple[str, re.Pattern[str]]], text: str, position: int, spelled: str
) -> tuple[str, re.Match[str]]:
    best = None
    for kind, pattern in rules:
        match = pattern.match(text, position)
        if match is None or (best is not None and match.end() <= best[1].end()):
            continue
        if (as_typed := _AS_TYPED.get(kind)) is not None and as_typed != (
            match[0] == spelled[position : match.end()]
        ):
            continue
        if kind == "abbreviation" and not is_abbreviation(match[0][:-1]):
            continue
        if kind == "before number" and match[1][:-1].lower() not in BEFORE_NUMBER:
            continue
        best = kind, match
    assert best is not None, text
    return best


def _normal(token: str, kind: str) -> str:
    """The token as the original writes it: brackets by name, dashes and spaces unified."""
    if len(token) == 1:
        return SINGLE.get(token, token.lower())
    if kind == "ellipsis":
        return "..."
    if kind == "dashes" and token in ("---", "----"):
        return "--"
    if kind == "entity":
        return ENTITIES.get(token.lower(), token)
    if kind != "mail":
        token = token.replace("(", "-lrb-").replace(")", "-rrb-")
    return _lower(token).replace(" ", "\xa0")


def _lower(token: str) -> str:
    if "Σ" in token:
        # Java lets a word go on after a hyphen, so a sigma before it is not the final one. Python
        # looks past a soft hyphen, of which tokens have none.
        return token.replace("-", "\xad").lower().replace("\xad", "-")
    return token.lower()
