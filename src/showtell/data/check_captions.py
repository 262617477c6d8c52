"""What is odd about captions: markup, tags instead of sentences, another language than the rest.

These are rules of thumb, made to be right about whole data sets. Languages are told by their
script, and among those in Latin letters by their most frequent short words, as in Grefenstette
1995, "Comparing two language identification schemes", section 3; no model and no word list of
any size is involved. Captions are never changed here.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from showtell.data.reading import printable
from showtell.data.records import Problem, Record

MARKUP, TAGS, LANGUAGE = "markup in a caption", "tags, no sentence", "another language"
REPEATED = "caption of many pictures"
MANY_PICTURES = 10  # with the same caption, and
MANY_SHARE = 0.01  # of all pictures: then the caption says nothing of any of them
MIN_TAGS = 3
MOST_WORDS_OF_A_TAG = 2.0  # on average
MIN_WORDS = 4  # of another language's, to call a caption foreign
CLEAR = 3  # times as many words of the other language as of the data set's own
SHARE_OF_LANGUAGE = 0.08  # of all words are a language's function words, where it is that language

_MARKUP = re.compile(
    r"</?[a-z][a-z0-9]*(?:\s[^<>]*)?/?>"  # <b>, </a>, <start>
    r"|&(?:[a-z]{2,8}|#\d{1,6}|#x[0-9a-f]{1,6});"  # &amp;
    r"|https?://\S+|www\.\S+\.\S+"
    r"|\]\(\S+\)|\*\*\S|^#{1,6}\s|^```"  # Markdown
    r"|\[(?:UNK|PAD|CLS|SEP|MASK|BOS|EOS)\]|\\[nt]"
    r"|[\ufffd]|Ã[\x80-\xbf©¨¤¶¼Ÿ]|â€",  # text that was read in a wrong encoding
    re.IGNORECASE,
)
_COMMA = re.compile("[,，、;]")
_WORD = re.compile(r"[^\W\d_]+")

# The most frequent function words of captions, without those that two of the languages share.
_WORDS = {
    "English": "the of and with is are on at to by an his her while two from wearing",
    "German": "der die das und ein eine einen einem ist mit auf im dem den von zwei steht",
    "French": "le les des et est avec une dans sur du au aux deux qui leur homme",
    "Spanish": "el los las y con una está por del hombre mujer dos sobre unos están",
    "Italian": "il lo gli della con una sono nel di che sulla è alla due uomo donna",
    "Portuguese": "o os uma com em um está no na dois ao homem mulher pela estão",
    "Dutch": "het een van en met op zijn voor bij twee naar aan staat zit",
    "Polish": "na w z się jest przez dwa dwie mężczyzna kobieta stoi oraz",
    "Turkish": "bir ve ile iki üzerinde olan için adam kadın bu",
}
_LANGUAGES = {language: frozenset(words.split()) for language, words in _WORDS.items()}
_OF_WORD = {
    word: tuple(name for name, words in _LANGUAGES.items() if word in words)
    for word in frozenset().union(*_LANGUAGES.values())
}
_SCRIPTS = {"CJK": "Chinese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean"}


def has_markup(caption: str) -> str:
    """The first piece of markup, address or wrongly decoded text in a caption; else ""."""
    match = _MARKUP.search(caption)
    return match[0] if match else ""


def looks_like_tags(text: str) -> bool:
    """Whether a text is a list of keywords between commas: ``1girl, red_hair, outdoors``.

    A sentence with commas has longer pieces, or words such as "and", "a" and "with" in them.
    """
    if not _COMMA.search(text):
        return False
    pieces = [piece.strip() for piece in _COMMA.split(text) if piece.strip()]
    if len(pieces) < MIN_TAGS or text.rstrip().endswith((".", "!", "?", "。")):
        return False
    words = [word for piece in pieces for word in piece.split()]
    if len(words) > MOST_WORDS_OF_A_TAG * len(pieces):
        return False
    return not _FUNCTION_WORDS & {word.lower() for word in words}


_FUNCTION_WORDS = frozenset({"a", "and", "is", "are"}).union(
    *(words for language, words in _LANGUAGES.items() if language in ("English", "German"))
) - {"two", "zwei", "wearing", "at", "from", "on", "of", "with", "to", "by"}


def script_of(text: str) -> str:
    """The script of most letters of a text: ``Latin``, ``Cyrillic``, ``Chinese``; "" without any.

    Japanese is told from Chinese by its syllables, any of which a text in Chinese lacks.
    """
    if text.isascii():
        return "Latin" if any(map(str.isalpha, text)) else ""
    counts = Counter(map(_script, filter(str.isalpha, text)))
    if counts["Japanese"] and counts["Japanese"] * 10 >= counts["Chinese"]:
        counts["Japanese"] += counts.pop("Chinese", 0)
    return counts.most_common(1)[0][0] if counts else ""


@lru_cache(4096)
def _script(letter: str) -> str:
    name = unicodedata.name(letter, "UNKNOWN").partition(" ")[0]
    return _SCRIPTS.get(name, name.capitalize())


def language_counts(captions: Iterable[str]) -> Counter[str]:
    """How often function words of each language occur; ``""`` counts all words."""
    counts: Counter[str] = Counter()
    for caption in captions:
        found = _WORD.findall(caption.lower())
        counts[""] += len(found)
        for word in found:
            for language in _OF_WORD.get(word, ()):
                counts[language] += 1
    return counts


def language_of(captions: Sequence[str]) -> tuple[str, str]:
    """The script and the language of most captions; "" for a language that cannot be told."""
    scripts = Counter(script_of(caption) for caption in captions)
    del scripts[""]
    script = scripts.most_common(1)[0][0] if scripts else ""
    if script != "Latin":
        return script, script if script in _SCRIPTS.values() else ""
    counts = language_counts(captions)
    total = counts.pop("")
    language, most = max(counts.items(), key=lambda item: item[1], default=("", 0))
    return script, language if most and most >= SHARE_OF_LANGUAGE * total else ""


def check_captions(records: Sequence[Record]) -> tuple[str, list[Problem]]:
    """All that is odd about captions.

    Returns:
        The language of the data set, or its script where the language cannot be told; and the
        problems.
    """
    captions = [caption for record in records for caption in record.captions]
    script, language = language_of(captions)
    problems = []
    for record in records:
        for caption in record.captions:
            if found := has_markup(caption):
                problems.append(_problem(MARKUP, record, f"{found} in: {caption}"))
            if looks_like_tags(caption):
                problems.append(_problem(TAGS, record, caption))
            if other := _foreign(caption, script, language):
                problems.append(_problem(LANGUAGE, record, f"{other}: {caption}"))
    problems += _of_many_pictures(records)
    return language or script, problems


def _foreign(caption: str, script: str, language: str) -> str:
    """What else than the data set's language a caption is in; "" where it may be the same."""
    found = script_of(caption)
    if found and found != script:
        return found
    if found != "Latin" or not language:
        return ""
    counts = language_counts([caption])
    del counts[""]
    own = counts.pop(language, 0)
    other, most = max(counts.items(), key=lambda item: item[1], default=("", 0))
    return other if most >= max(MIN_WORDS, CLEAR * own) else ""


def pictures_of_captions(records: Sequence[Record]) -> Counter[str]:
    """How many pictures each caption describes that is about several, in lower case."""
    counts: Counter[str] = Counter()
    for record in records:
        counts.update({_plain(caption) for caption in record.captions})
    return Counter({caption: count for caption, count in counts.items() if count > 1})


def _of_many_pictures(records: Sequence[Record]) -> list[Problem]:
    counts = pictures_of_captions(records)
    least = max(MANY_PICTURES, MANY_SHARE * len(records))
    many = {caption: count for caption, count in counts.items() if count >= least}
    problems = []
    for record in records:
        for caption in record.captions:
            if count := many.pop(_plain(caption), 0):
                detail = f"{count:,} pictures have: {caption}"
                problems.append(_problem(REPEATED, record, detail))
    return problems


def _plain(caption: str) -> str:
    return " ".join(caption.lower().split()).rstrip(" .!")


def _problem(kind: str, record: Record, detail: str) -> Problem:
    shown = printable(" ".join(detail.split()))
    return Problem(kind, printable(record.image_id), shown[:157] + "..." * (len(shown) > 157))
