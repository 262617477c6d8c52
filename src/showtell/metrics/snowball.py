"""The classic Snowball stemmer of English ("Porter 2", M. F. Porter 2001), which METEOR uses.

As published with Snowball 2.0 and earlier; later versions stem some words otherwise ("added",
"evening"). Written from the description at snowballstem.org. NLTK's ``EnglishStemmer`` differs in
142 of 393,000 words, such as "sensationally", and there METEOR agrees with this one.
"""

_VOWELS = frozenset("aeiouy")
_DOUBLES = ("bb", "dd", "ff", "gg", "mm", "nn", "pp", "rr", "tt")
_LI_ENDINGS = frozenset("cdeghkmnrt")
_EXCEPTIONS = {
    "skis": "ski",
    "skies": "sky",
    "dying": "die",
    "lying": "lie",
    "tying": "tie",
    "idly": "idl",
    "gently": "gentl",
    "ugly": "ugli",
    "early": "earli",
    "only": "onli",
    "singly": "singl",
    **{word: word for word in ("sky", "news", "howe", "atlas", "cosmos", "bias", "andes")},
}
_EXCEPTIONS_AFTER_1A = frozenset(
    ["inning", "outing", "canning", "herring", "earring", "proceed", "exceed", "succeed"]
)
# Suffix -> what it becomes where it lies in R1; longer suffixes come first.
_STEP_2 = (
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("abli", "able"),
    ("entli", "ent"),
    ("ization", "ize"),
    ("izer", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("aliti", "al"),
    ("alli", "al"),
    ("fulness", "ful"),
    ("ousli", "ous"),
    ("ousness", "ous"),
    ("iveness", "ive"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("bli", "ble"),
    ("ogi", "og"),
    ("fulli", "ful"),
    ("lessli", "less"),
    ("li", ""),
)
_STEP_3 = (
    ("ational", "ate"),
    ("tional", "tion"),
    ("alize", "al"),
    ("icate", "ic"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
    ("ative", ""),
)
_STEP_4 = (
    *("al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent"),
    *("ism", "ate", "iti", "ous", "ive", "ize", "ion"),
)


def stem(word: str) -> str:
    """The stem of a word in lower case."""
    if len(word) <= 2:
        return word
    if word in _EXCEPTIONS:
        return _EXCEPTIONS[word]
    word = _mark_consonant_y(word.removeprefix("'"))
    first, second = _regions(word)
    word = _step_1a(_step_0(word))
    if word in _EXCEPTIONS_AFTER_1A:
        return word
    word = _step_1b(word, first)
    if len(word) > 2 and word[-1] in "yY" and word[-2] not in _VOWELS:
        word = word[:-1] + "i"
    word = _step_2(word, first)
    word = _step_3(word, first, second)
    word = _step_4(word, second)
    return _step_5(word, first, second).replace("Y", "y")


def _mark_consonant_y(word: str) -> str:
    """A ``y`` that begins the word or follows a vowel is a consonant, written ``Y``."""
    marked = ""
    for letter in word:
        if letter == "y" and (not marked or marked[-1] in _VOWELS):
            letter = "Y"
        marked += letter
    return marked


def _regions(word: str) -> tuple[int, int]:
    """Where R1 and R2 begin: after the first consonant that follows a vowel, and so again."""
    first = next(
        (len(start) for start in ("gener", "commun", "arsen") if word.startswith(start)), 0
    )
    if not first:
        first = _after_vowel_and_consonant(word, 0)
    return first, _after_vowel_and_consonant(word, first)


def _after_vowel_and_consonant(word: str, start: int) -> int:
    for place in range(start + 1, len(word)):
        if word[place] not in _VOWELS and word[place - 1] in _VOWELS:
            return place + 1
    return len(word)


def _step_0(word: str) -> str:
    for suffix in ("'s'", "'s", "'"):
        if word.endswith(suffix):
            return word.removesuffix(suffix)
    return word


def _step_1a(word: str) -> str:
    if word.endswith("sses"):
        return word[:-2]
    if word.endswith(("ied", "ies")):
        return word[:-2] if len(word) > 4 else word[:-1]
    if word.endswith(("us", "ss")):
        return word
    if word.endswith("s") and not _VOWELS.isdisjoint(word[:-2]):
        return word[:-1]
    return word


def _step_1b(word: str, first: int) -> str:
    for suffix in ("eedly", "eed"):
        if word.endswith(suffix):
            in_first = len(word) - len(suffix) >= first
            return word.removesuffix(suffix) + "ee" if in_first else word
    for suffix in ("ingly", "edly", "ing", "ed"):
        if word.endswith(suffix):
            rest = word.removesuffix(suffix)
            if _VOWELS.isdisjoint(rest):
                return word
            if rest.endswith(("at", "bl", "iz")):
                return rest + "e"
            if rest.endswith(_DOUBLES):
                return rest[:-1]
            if first >= len(rest) and _ends_short(rest):
                return rest + "e"
            return rest
    return word


def _ends_short(word: str) -> bool:
    """Whether a short syllable ends the word."""
    if len(word) == 2:
        return word[0] in _VOWELS and word[1] not in _VOWELS
    return (
        len(word) > 2
        and word[-1] not in _VOWELS
        and word[-1] not in "wxY"
        and word[-2] in _VOWELS
        and word[-3] not in _VOWELS
    )


def _step_2(word: str, first: int) -> str:
    suffix, replacement = _longest(word, _STEP_2)
    if not suffix or len(word) - len(suffix) < first:
        return word
    rest = word.removesuffix(suffix)
    if suffix == "ogi" and not rest.endswith("l"):
        return word
    if suffix == "li" and rest[-1:] not in _LI_ENDINGS:
        return word
    return rest + replacement


def _step_3(word: str, first: int, second: int) -> str:
    suffix, replacement = _longest(word, _STEP_3)
    region = second if suffix == "ative" else first
    if not suffix or len(word) - len(suffix) < region:
        return word
    return word.removesuffix(suffix) + replacement


def _step_4(word: str, second: int) -> str:
    suffix, _ = _longest(word, tuple((suffix, "") for suffix in _STEP_4))
    if not suffix or len(word) - len(suffix) < second:
        return word
    rest = word.removesuffix(suffix)
    return word if suffix == "ion" and rest[-1:] not in ("s", "t") else rest


def _step_5(word: str, first: int, second: int) -> str:
    end = len(word) - 1
    if word.endswith("e") and (end >= second or (end >= first and not _ends_short(word[:-1]))):
        return word[:-1]
    if word.endswith("ll") and end >= second:
        return word[:-1]
    return word


def _longest(word: str, suffixes: tuple[tuple[str, str], ...]) -> tuple[str, str]:
    found = [pair for pair in suffixes if word.endswith(pair[0])]
    return max(found, key=lambda pair: len(pair[0])) if found else ("", "")
