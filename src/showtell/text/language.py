"""Which language captions are in: by their letters, and by short words where the letters are Latin.

``guess_language`` chooses how captions are cut into words (``segment.py``) and METEOR's stemmer,
and it keeps lists of English words away from other languages. Nobody has to trust it: every place
that uses it takes a language from the user as well. Where nothing speaks for another language, the
answer is None, and everything is as it is for English. ``other_language`` finds single captions in
another language than the rest, for ``showtell data inspect`` and ``showtell distil``.

Short words as in Grefenstette 1995, "Comparing two language identification schemes", section 3.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

MOST_READ = 2_000  # captions; more do not change a guess
NO_SPACE_SCRIPTS = frozenset(["CJK", "KANA", "THAI", "LAO", "KHMER", "MYANMAR"])
"""Scripts that are written without spaces between words."""

# The language that most text in a script is in.
_BY_SCRIPT = {
    **{"CJK": "zh", "KANA": "ja", "HANGUL": "ko", "THAI": "th", "LAO": "lo", "KHMER": "km"},
    **{"MYANMAR": "my", "GREEK": "el", "HEBREW": "he", "CYRILLIC": "ru", "ARABIC": "ar"},
    **{"DEVANAGARI": "hi", "BENGALI": "bn", "TAMIL": "ta", "TELUGU": "te", "GUJARATI": "gu"},
    **{"GURMUKHI": "pa", "KANNADA": "kn", "MALAYALAM": "ml", "SINHALA": "si", "ARMENIAN": "hy"},
    **{"GEORGIAN": "ka", "ETHIOPIC": "am"},
}
# Words that captions of a language cannot do without.
_SHORT_WORDS = {
    "en": "a an the of on in with and is are to at his her that this by from near while",
    "de": "ein eine einen einem einer der die das den dem des und mit auf ist sind im von vor",
    "fr": "un une le la les des du de et dans avec sur est sont à au deux en qui sa son",
    "es": "un una el la los las de del y con en está están que sobre por su dos al",
    "it": "un una il la lo i gli le di del della e con su in è sono che due nel nella sul sulla",
    "pt": "um uma o a os as de do da e com em no na está estão que dois duas sobre seu sua ao",
    "nl": "een de het en met op in van is zijn twee naar aan die staat zit bij voor",
    "sv": "en ett och på med i är som av två det den står sitter vid framför",
    "da": "en et og på med i er som af to der den står sidder ved foran",
    "no": "en et og på med i er som av to det den står sitter ved foran",
    "fi": "on ja ovat kaksi jossa joka istuu mies nainen seisoo vieressä päällä edessä",
    "pl": "na w z i się jest są dwa dwie przez przed do ze obok stoi",
    "cs": "na v s a se je jsou dva dvě u před do ve po",
    "hu": "egy a az és van vannak két egyik előtt mellett",
    "ro": "un o pe în cu și de la este sunt doi două care din",
    "tr": "bir ve ile üzerinde iki için olan önünde bu içinde",
    "id": "seorang di dan dengan yang sebuah dua sedang pada dari atas seekor",
    "vi": "một và trên trong với đang người hai của là có bên",
    "ru": "в на с и у по из за стоит сидит два две который возле",
    "uk": "в у на з і та по із за що стоїть сидить два дві біля",
    "bg": "в на с и е са от до се двама две пред който",
    "fa": "در با از و به که را یک است روی این",
    "ur": "ہے میں کی کے کا ایک اور پر سے ہیں",
    "ar": "في على من مع إلى و هو هي رجل امرأة",
    "hi": "है में की के का एक और पर से हैं",
    "mr": "आहे आणि एक वर मध्ये आहेत एका",
    "ne": "छ र एक मा छन् को एउटा",
}
_WORDS = {language: frozenset(words.split()) for language, words in _SHORT_WORDS.items()}
_SCRIPT_OF = {
    **dict.fromkeys(("ru", "uk", "bg"), "CYRILLIC"),
    **dict.fromkeys(("fa", "ur", "ar"), "ARABIC"),
    **dict.fromkeys(("hi", "mr", "ne"), "DEVANAGARI"),
}
_SCRIPT_OF |= {language: script for script, language in _BY_SCRIPT.items()}
# One caption has few short words, so English gets more here; and words of other languages that
# English captions have do not count: the "s" of "it's", a "van". Sets need none of this.
_MORE_ENGLISH = (
    "it its their am an out up down over under for through two three who there next standing "
    "sitting"
)
_ENGLISH_TOO = frozenset(["s", "van", "no"])
_LATIN = {name: words - _ENGLISH_TOO for name, words in _WORDS.items() if name not in _SCRIPT_OF}
_LATIN["en"] |= frozenset(_MORE_ENGLISH.split())
_OF_WORD = {
    word: tuple(name for name, words in _LATIN.items() if word in words)
    for word in frozenset().union(*_LATIN.values())
}
LANGUAGES = tuple(sorted({*_WORDS, *_SCRIPT_OF}))
"""Codes of all languages that are told from others."""
LEAST_SHARE = 0.08  # of words: below it, text is names or tags, and says nothing
AHEAD = 1.5  # of English, before Latin text counts as another language
CLEAR_WORDS = 4  # of another language, for one caption to be clearly in it, and
CLEAR_RATIO = 3  # times as many of them as of its own
FEW_LETTERS = 8  # Japanese with fewer may have no kana
_CUT = re.compile(r"[\s!-/:-@\[-`{-~«»„“”‚‘’¿¡،؟।]+")
_CODE = re.compile(r"[a-z]{2,3}")


@dataclass(frozen=True, slots=True)
class Letters:
    """What captions are written in.

    Attributes:
        scripts: how many letters are of each script, by its name in Unicode; KANA for both kinds.
        num_captions: how many were read.
        num_unspaced: how many have letters of a script without spaces.
    """

    scripts: Counter[str]
    num_captions: int
    num_unspaced: int

    @property
    def script(self) -> str:
        """Of most letters; of Japanese, which mixes several, KANA; "" where there are none."""
        scripts = self.scripts
        if scripts["KANA"] * 10 >= scripts["CJK"] + scripts["KANA"] > 0:
            together = scripts["CJK"] + scripts["KANA"]
            scripts = Counter({**scripts, "CJK": 0, "KANA": together})
        return max(scripts, key=lambda name: (scripts[name], name), default="")

    @property
    def share_unspaced(self) -> float:
        """Of captions, 0 to 1."""
        return self.num_unspaced / max(self.num_captions, 1)


@cache
def script_of(character: str) -> str:
    """The script of a letter, "" of anything else."""
    if unicodedata.category(character)[0] != "L":
        return ""
    name = unicodedata.name(character, "").replace("HALFWIDTH ", "").replace("FULLWIDTH ", "")
    script = re.split(r"[ -]", name, maxsplit=1)[0]
    if character in "々〆〇":
        return "CJK"
    return "KANA" if script in ("HIRAGANA", "KATAKANA") else script


def a_sample(captions: Sequence[str]) -> Sequence[str]:
    """At most ``MOST_READ`` captions, evenly spread."""
    return captions[:: max(1, -(-len(captions) // MOST_READ))]


def letters_of(captions: Sequence[str]) -> Letters:
    """Count the letters of captions, of a sample where there are many."""
    scripts: Counter[str] = Counter()
    unspaced = 0
    sample = a_sample(captions)
    for caption in sample:
        found = Counter(map(script_of, caption))
        del found[""]
        scripts.update(found)
        unspaced += not NO_SPACE_SCRIPTS.isdisjoint(found)
    return Letters(scripts, len(sample), unspaced)


def main_script(caption: str) -> str:
    """The script of most letters of one caption, as ``Letters.script`` has it."""
    if caption.isascii():
        return "LATIN" if any(map(str.isalpha, caption)) else ""
    return letters_of([caption]).script


def language_of(captions: Sequence[str], letters: Letters | None = None) -> str | None:
    """The code of ISO 639-1 of the language that most captions are in; None where nothing tells.

    Languages in Latin letters are told apart by their short words. Those of some 18 languages are
    known; of others the answer is None.
    """
    script = (letters or letters_of(captions)).script
    if not script:
        return None
    usual = _BY_SCRIPT.get(script)
    candidates = [name for name in _WORDS if _SCRIPT_OF.get(name, "LATIN") == script]
    if not candidates:
        return usual
    words = [word for caption in a_sample(captions) for word in _short_words(caption)]
    shares = {name: sum(w in _WORDS[name] for w in words) / len(words) for name in candidates}
    best = max(candidates, key=shares.__getitem__)
    if shares[best] < LEAST_SHARE:
        return usual
    if script == "LATIN" and shares[best] < AHEAD * shares["en"]:
        return "en"
    return best


def guess_language(captions: Sequence[str], letters: Letters | None = None) -> str | None:
    """As ``language_of``, but None for English as well: its rules are those without any guess."""
    found = language_of(captions, letters)
    return None if found == "en" else found


def other_language(
    caption: str, language: str | None, *, script: str = "", clearly: bool = False
) -> str:
    """What a caption is in, where that is another language than it should be.

    Another script is another language. In Latin letters a caption is in the language that it has
    most short words of; one that has none of any may be in any. Languages that share another
    script are not told apart: their short words are too few and too alike for one caption.

    Args:
        language: that it should be in, one of ``LANGUAGES``; None where only the script is known.
        script: that it should be in; default: the language's.
        clearly: whether it takes more than one short word too many to call a caption foreign.

    Returns:
        For people: ``German``; a script such as ``Latin`` where nothing tells the language; "" of
        a caption that may be in the right one.
    """
    own = script or _SCRIPT_OF.get(language or "", "LATIN")
    found = main_script(caption)
    if found and found != own:
        if (own, found) == ("KANA", "CJK") and letters_of([caption]).scripts.total() < FEW_LETTERS:
            return ""
        return NAMES.get(language_of([caption]) or "", found.capitalize())
    if not found or language not in _LATIN:
        return ""
    counts = dict.fromkeys(_LATIN, 0)
    for word in _short_words(caption):
        for name in _OF_WORD.get(word, ()):
            counts[name] += 1
    num_own = counts.pop(language)
    other = max(counts, key=counts.__getitem__)
    least = max(CLEAR_WORDS, CLEAR_RATIO * num_own) if clearly else num_own + 1
    return NAMES[other] if counts[other] >= least else ""


def _short_words(caption: str) -> list[str]:
    return [word for word in _CUT.split(caption.lower()) if word]


def checked_code(language: str) -> str | None:
    """A language's code without region, in lower case; None where it is not a code.

    ``zh-Hans`` and ``pt_BR`` are ``zh`` and ``pt``.
    """
    code = re.split("[-_]", language.strip().lower(), maxsplit=1)[0]
    return code if _CODE.fullmatch(code) else None


NAMES = {
    **{"ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "cs": "Czech", "da": "Danish"},
    **{"de": "German", "el": "Greek", "en": "English", "es": "Spanish", "fa": "Persian"},
    **{"fi": "Finnish", "fr": "French", "he": "Hebrew", "hi": "Hindi", "hu": "Hungarian"},
    **{"id": "Indonesian", "it": "Italian", "ja": "Japanese", "km": "Khmer", "ko": "Korean"},
    **{"lo": "Lao", "mr": "Marathi", "my": "Burmese", "ne": "Nepali", "nl": "Dutch"},
    **{"no": "Norwegian", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian"},
    **{"sv": "Swedish", "ta": "Tamil", "te": "Telugu", "th": "Thai", "tr": "Turkish"},
    **{"uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese", "zh": "Chinese", "am": "Amharic"},
    **{"gu": "Gujarati", "hy": "Armenian", "ka": "Georgian", "kn": "Kannada", "ml": "Malayalam"},
    **{"pa": "Punjabi", "si": "Sinhala"},
}


def name_of(language: str) -> str:
    """For people: ``German (de)``."""
    return f"{NAMES[language]} ({language})" if language in NAMES else language
