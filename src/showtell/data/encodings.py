"""Which encoding a text is probably in, where it is not UTF-8.

Each encoding that spreadsheets and older programs write is tried: bytes that it cannot hold rule it
out, and of what it makes of the others the share that looks like writing is its score. The guess is
only proposed to the user, with a piece of the text to judge it by; nothing is read by it unasked.
"""

import codecs
import re
from collections.abc import Callable

SAMPLE_BYTES = 200_000
SURE = 0.8  # of the characters outside ASCII look like writing
EXCERPT = 40  # characters

_WESTERN = "àâäáãåæçéèêëíìîïñóòôöõøœúùûüÿß" + "ÀÂÄÁÃÅÆÇÉÈÊËÍÌÎÏÑÓÒÔÖÕØŒÚÙÛÜ"
_CENTRAL = "ąćęłńóśźżáčďéěíňřšťúůýžőűăâîşţäöüß" + "ĄĆĘŁŃÓŚŹŻÁČĎÉĚÍŇŘŠŤÚŮÝŽŐŰ"
_TURKISH = "çğıöşüâîû" + "ÇĞİÖŞÜ"
_BALTIC = "āčēģīķļņšūžąęėįųõäöü" + "ĀČĒĢĪĶĻŅŠŪŽĄĘĖĮŲÕÄÖÜ"
_MARKS = "“”‘’–—…„‚«»°€£½·©®™¿¡\u00a0"


def guess_encoding(raw: bytes) -> tuple[str, str] | None:
    """The likeliest encoding of a text that is not UTF-8, and a piece of the text in it.

    Returns:
        The name, as Python and ``--encoding`` take it; None where no encoding gives writing.
    """
    if b"\0" in raw:
        return None
    lines = [line for line in raw.split(b"\n") if not line.isascii()]
    sample = b"\n".join(lines)[:SAMPLE_BYTES]
    if len(sample) == SAMPLE_BYTES:
        sample = sample.rpartition(b"\n")[0] or sample
    best = max((_score(sample, name), -number) for number, name in enumerate(_LOOKS))
    if best[0] < SURE:
        return None
    name = list(_LOOKS)[-best[1]]
    return name, _excerpt(lines[0].decode(name, "replace"))


def known_encoding(name: str) -> str | None:
    """Python's name of a text encoding; None where it knows none of this name."""
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError):
        return None
    return info.name if getattr(info, "_is_text_encoding", True) else None


def _score(sample: bytes, name: str) -> float:
    try:
        text = sample.decode(name)
    except UnicodeDecodeError:
        return 0.0
    outside = [character for character in text if ord(character) > 127]
    return _LOOKS[name](text, outside) if outside else 0.0


def _excerpt(line: str) -> str:
    first = next((n for n, character in enumerate(line) if ord(character) > 127), 0)
    start = max(0, first - EXCERPT // 2)
    return " ".join(line[start : start + EXCERPT].split())


Look = Callable[[str, list[str]], float]


def _letters(letters: str) -> Look:
    """Accented letters stand alone among plain ones, and no capital follows a small letter."""
    known = frozenset(letters + _MARKS)
    capitals = "".join(filter(str.isupper, letters))
    odd = re.compile(rf"[{letters}]{{3}}|(?<=[a-z])[{capitals}]")

    def look(text: str, outside: list[str]) -> float:
        good = sum(character in known for character in outside)
        num_odd = sum(1 for _ in odd.finditer(text))
        return (good - num_odd) / len(outside)

    return look


def _script(small: str, capitals: str = "", misplaced: str = "") -> Look:
    """Letters of one script stand by no Latin ones, and no capital follows a small letter.

    Args:
        small, capitals: its letters, as within the brackets of a regular expression.
        misplaced: a pattern of letters that are where they never are in a word.
    """
    letter = f"[{small}{capitals}]"
    known = re.compile(rf"{letter}|[{_MARKS}]")
    patterns = [f"{letter}[A-Za-z]", f"[A-Za-z]{letter}", misplaced]
    patterns += [f"[{small}][{capitals}]"] if capitals else []
    odd = re.compile("|".join(filter(None, patterns)))

    def look(text: str, outside: list[str]) -> float:
        good = sum(known.match(character) is not None for character in outside)
        return (good - len(odd.findall(text))) / len(outside)

    return look


_cyrillic = _script("а-яёіїє", "А-ЯЁІЇЄ")
# Both have letters for the ends of words alone; without the rare ΰ, which Russian has for its а.
_greek = _script("άέ-ία-ώϊϋ", "Ά-ΏΑ-Ϋ", "ς(?=[α-ώ])|σ(?![α-ώά-ί])")
_hebrew = _script("א-ת׳״", "", "[ךםןףץ](?=[א-ת])|[כמנפצ](?![א-ת׳״'])")


def _korean(text: str, outside: list[str]) -> float:
    return sum("가" <= character <= "힣" for character in outside) / len(outside)


def _japanese(text: str, outside: list[str]) -> float:
    kana = sum("ぁ" <= character <= "ヺ" for character in outside) / len(outside)
    kanji = sum("一" <= character <= "鿿" for character in outside) / len(outside)
    return min(1.0, kana + kanji + 0.05) if kana > 0.15 else 0.0


def _chinese(codec: str, first: int, last: int) -> Look:
    """Frequent characters come first in both national sets, in the order of their lead bytes."""

    def look(text: str, outside: list[str]) -> float:
        good = 0
        for character in outside:
            try:
                lead = character.encode(codec)[0]
            except UnicodeEncodeError:
                continue
            good += first <= lead <= last or character in "，。、：；！？「」《》“”"
        return good / len(outside)

    return look


_LOOKS: dict[str, Look] = {  # of equal scores, the first wins
    "euc_kr": _korean,
    "shift_jis": _japanese,
    "euc_jp": _japanese,
    "gb18030": _chinese("gb2312", 0xB0, 0xD7),
    "big5": _chinese("big5", 0xA4, 0xC6),
    "cp1252": _letters(_WESTERN),
    "cp1250": _letters(_CENTRAL),
    "cp1254": _letters(_TURKISH),
    "cp1257": _letters(_BALTIC),
    "mac_roman": _letters(_WESTERN),
    "cp1255": _hebrew,
    "cp1251": _cyrillic,
    "koi8_r": _cyrillic,
    "cp866": _cyrillic,
    "cp1253": _greek,
}
