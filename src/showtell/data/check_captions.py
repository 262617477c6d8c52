"""What is odd about captions: markup, tags instead of sentences, another language than the rest.

These are rules of thumb, made to be right about whole data sets. Languages are told as in
``text/language.py``, by their letters and short words. Captions are never changed here.
"""

import re
from collections import Counter
from collections.abc import Sequence

from showtell.data.reading import printable
from showtell.data.records import Problem, Record
from showtell.text.language import NAMES, language_of, letters_of, other_language

MARKUP, TAGS, LANGUAGE = "markup in a caption", "tags, no sentence", "another language"
REPEATED = "caption of many pictures"
MANY_PICTURES = 10  # with the same caption, and
MANY_SHARE = 0.01  # of all pictures: then the caption says nothing of any of them
MIN_TAGS = 3
MOST_WORDS_OF_A_TAG = 2.0  # on average

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
# Words that make a sentence of a text with commas, in English and in German; tags have "of" and
# "with", too.
_SENTENCE_WORDS = (
    "a an the and is are his her while "
    "der die das und ein eine einen einem ist mit auf im dem den von steht"
)
_OF_SENTENCES = frozenset(_SENTENCE_WORDS.split())


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
    return not _OF_SENTENCES & {word.lower() for word in words}


def check_captions(records: Sequence[Record]) -> tuple[str, list[Problem]]:
    """All that is odd about captions.

    Returns:
        The language of the data set, or its script where the language cannot be told; and the
        problems.
    """
    captions = [caption for record in records for caption in record.captions]
    letters = letters_of(captions)
    script, language = letters.script, language_of(captions, letters)
    problems = []
    for record in records:
        for caption in record.captions:
            if found := has_markup(caption):
                problems.append(_problem(MARKUP, record, f"{found} in: {caption}"))
            if looks_like_tags(caption):
                problems.append(_problem(TAGS, record, caption))
            if other := other_language(caption, language, script=script, clearly=True):
                problems.append(_problem(LANGUAGE, record, f"{other}: {caption}"))
    problems += _of_many_pictures(records)
    return NAMES[language] if language else script.capitalize(), problems


def pictures_of_captions(records: Sequence[Record]) -> Counter[str]:
    """How many pictures each caption describes that is about several, in lower case."""
    counts: Counter[str] = Counter()
    for record in records:
        counts.update(dict.fromkeys(map(_plain, record.captions), 1))
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
