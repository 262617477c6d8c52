"""Which language a caption is in, as far as a glance tells.

It is for teachers that fall into another language now and then, not for telling near relatives
apart. A caption in another script than the language's is in another language. In the Latin script
a caption is in the language whose commonest words it has most of; one that has none of any
language's may be in any.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

_COMMON = {
    "en": "a an the of in on at with and is are to by from his her their its it this that there "
    "while over under near next two three who up down out for through standing sitting",
    "de": "der die das ein eine einen einem einer und ist sind mit auf im in am an von zu vor auf "
    "neben über unter zwei drei steht sitzt den dem des für bei aus nach sich nicht",
    "fr": "le la les un une des du de et est sont avec dans sur au aux en à devant sous deux trois "
    "qui pour par près son sa ses il elle debout assis",
    "es": "el la los las un una unos unas de del y es son con en sobre al por para dos tres que "
    "su sus se junto hay está están",
    "it": "il lo la i gli le un uno una di del della e è sono con in su nel nella sul sulla al "
    "alla due tre che per da vicino si",
    "pt": "o a os as um uma uns umas de do da dos das e é são com em no na nos nas ao dois duas "
    "três que por para está estão seu sua",
    "nl": "de het een en is zijn met op in van aan bij voor naar uit over onder naast twee drie "
    "die dat staat zit zich",
    "pl": "i w na z ze do od przez przy pod nad jest są który która się dwa trzy dwie obok",
    "sv": "en ett och är med på i av till för från under över bredvid två tre som det den står",
    "tr": "bir ve ile bu iki üç üzerinde içinde yanında olan için altında önünde",
}
_SCRIPTS = {
    "ru": ("CYRILLIC",),
    "uk": ("CYRILLIC",),
    "el": ("GREEK",),
    "ar": ("ARABIC",),
    "fa": ("ARABIC",),
    "he": ("HEBREW",),
    "hi": ("DEVANAGARI",),
    "th": ("THAI",),
    "zh": ("CJK",),
    "ja": ("HIRAGANA", "KATAKANA", "CJK"),
    "ko": ("HANGUL",),
}
LANGUAGES = (*_COMMON, *_SCRIPTS)
_WORDS = {language: frozenset(words.split()) for language, words in _COMMON.items()}
_WORD = re.compile(r"[^\W\d_]+")


def scripts_of(text: str) -> Counter[str]:
    """How many letters each script has, by the first word of their Unicode names."""
    return Counter(unicodedata.name(letter, "?").split()[0] for letter in text if letter.isalpha())


def is_in(text: str, language: str) -> bool:
    """Whether a caption may be in a language of ``LANGUAGES``."""
    scripts = scripts_of(text)
    own = _SCRIPTS.get(language, ("LATIN",))
    if 2 * sum(scripts[script] for script in own) < scripts.total():
        return False
    if language == "ja":  # without kana it is Chinese, or too short to tell
        return bool(scripts["HIRAGANA"] + scripts["KATAKANA"]) or scripts.total() < 8
    if language == "zh":
        return not scripts["HIRAGANA"] + scripts["KATAKANA"]
    if language not in _WORDS:
        return True
    counts = _counts(text)
    return counts[language] == max(counts.values())


def usual_language(texts: Sequence[str]) -> str | None:
    """The language that most captions may be in; None where no language has half of them."""
    if not texts:
        return None
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_candidates(text))
    language, count = max(counts.items(), key=lambda item: item[1], default=(None, 0))
    return language if 2 * count >= len(texts) else None


def _candidates(text: str) -> Iterable[str]:
    """The languages with the most signs of them; none for a text without any."""
    counts = _counts(text)
    most = max(counts.values())
    if most:
        return [language for language, count in counts.items() if count == most]
    return [language for language in _SCRIPTS if text and is_in(text, language)]


def _counts(text: str) -> dict[str, int]:
    """How many of each Latin-script language's commonest words a text has."""
    words = _WORD.findall(text.lower())
    return {language: sum(word in known for word in words) for language, known in _WORDS.items()}
