"""The words of METEOR: their stems, synonyms and paraphrases.

``stem`` is the classic Snowball stemmer of English ("Porter 2", M. F. Porter 2001), as published
with Snowball 2.0 and earlier; later versions stem some words differently ("added", "evening"). It
was written from the description at snowballstem.org. NLTK's ``EnglishStemmer`` differs in 142 of
393,000 words, such as "sensationally"; METEOR agrees with this one.

``Lexicon`` looks up everything for all sentences of a corpus at once, in whole arrays.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from showtell.metrics.meteor.tables import Hashes, Table, Tables, extend, word_hash

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
    """Write ``Y`` for each ``y`` that is a consonant: at the beginning, or after a vowel."""
    marked = ""
    for letter in word:
        if letter == "y" and (not marked or marked[-1] in _VOWELS):
            letter = "Y"
        marked += letter
    return marked


def _regions(word: str) -> tuple[int, int]:
    """Where R1 and R2 begin: each after the next consonant that follows a vowel."""
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


# Endings that lead from a regular form to its base form; the first one found in WordNet counts.
_SUFFIXES = (
    ("s", ""),
    ("men", "man"),
    ("ies", "y"),
    ("es", ""),
    ("ed", "e"),
    ("ed", ""),
    ("ing", "e"),
    ("ing", ""),
    ("er", ""),
    ("est", ""),
    ("er", "e"),
    ("est", "e"),
)

Span = tuple[int, int]
"""Position of the first word, number of words."""

Phrases = dict[int, tuple[Span, ...]]
"""Phrase -> its spans in a sentence."""


class Lexicon:
    """Stems, synonyms and paraphrases of the hypotheses and references of a corpus.

    Only what can make a match is kept: synonyms that occur in a hypothesis, and phrases that have a
    paraphrase on the other side.

    Attributes:
        stems: of each word.
        synonyms: for each word, the words of hypotheses that share a WordNet synset with it.
        phrases: two lists, of the hypotheses and of the references: where the phrases of each
            sentence are.
        paraphrases: two tables, of the hypotheses' phrases and of the references': the phrases of
            the other side that METEOR's table lists, with their ranks in it.
    """

    def __init__(
        self,
        tables: Tables,
        hypotheses: Sequence[Sequence[str]],
        references: Sequence[Sequence[str]],
    ) -> None:
        spoken = set(chain.from_iterable(hypotheses))
        words = list(dict.fromkeys(chain.from_iterable((*hypotheses, *references))))
        self.stems = {word: stem(word) for word in words}
        self.synonyms = _synonyms(tables, words, spoken)
        hashes = dict(zip(words, _hashes(words).tolist(), strict=True))
        sides = [_find_spans(tables, sentences, hashes) for sentences in (hypotheses, references)]
        present = [np.unique(side[3]) for side in sides]
        listed = [
            _paraphrases(tables.paraphrases, present[side], present[1 - side]) for side in (0, 1)
        ]
        self.paraphrases = [_group_ranks(*pairs) for pairs in listed]
        useful = [np.union1d(listed[side][0], listed[1 - side][1]) for side in (0, 1)]
        self.phrases = [
            _collect(len(sentences), *spans, keep)
            for sentences, spans, keep in zip((hypotheses, references), sides, useful, strict=True)
        ]


def _hashes(words: Sequence[str]) -> Hashes:
    return np.fromiter(map(word_hash, words), np.uint64, len(words))


def _synonyms(tables: Tables, words: Sequence[str], spoken: set[str]) -> dict[str, frozenset[str]]:
    forms = tables.forms.find(_hashes(words))
    # Words whose synsets each word shares: itself, and its base forms.
    owners: list[int] = []
    bases: list[int] = []
    guesses: list[tuple[int, list[str]]] = []
    for number, (word, form) in enumerate(zip(words, forms.tolist(), strict=True)):
        owners.append(number)
        bases.append(word_hash(word))
        if form >= 0:
            for base in tables.forms.of(form).tolist():
                owners.append(number)
                bases.append(base)
        elif candidates := _base_forms(word):
            guesses.append((number, candidates))
    known = iter(tables.synsets.find(_hashes([c for _, found in guesses for c in found])).tolist())
    for number, candidates in guesses:
        there = [candidate for candidate in candidates if next(known) >= 0]
        if there:
            owners.append(number)
            bases.append(word_hash(there[0]))
    places = tables.synsets.find(np.array(bases, np.uint64)).tolist()
    synsets: list[set[int]] = [set() for _ in words]
    members: defaultdict[int, set[str]] = defaultdict(set)
    for number, place in zip(owners, places, strict=True):
        if place >= 0:
            found = tables.synsets.of(place).tolist()
            synsets[number].update(found)
            if words[number] in spoken:
                for synset in found:
                    members[synset].add(words[number])
    return {
        word: frozenset().union(*(members[synset] for synset in found)) - {word}
        for word, found in zip(words, synsets, strict=True)
    }


def _base_forms(word: str) -> list[str]:
    if len(word) <= 2 or word.endswith("ss"):
        return []
    return [word[: -len(s)] + end for s, end in _SUFFIXES if word.endswith(s)]


Ints = NDArray[np.int64]


def _find_spans(
    tables: Tables, sentences: Sequence[Sequence[str]], hashes: dict[str, int]
) -> tuple[Ints, Ints, Ints, Ints]:
    """Spans of METEOR's phrases: sentence, first word, number of words, phrase; (S,) each."""
    flat = np.fromiter((hashes[w] for s in sentences for w in s), np.uint64)
    lengths = np.fromiter(map(len, sentences), np.int64, len(sentences))
    owners = np.repeat(np.arange(len(sentences)), lengths)
    firsts = np.cumsum(lengths) - lengths
    remaining = np.repeat(firsts + lengths, lengths) - np.arange(len(flat))
    starts, spans = np.arange(len(flat)), np.zeros(len(flat), np.uint64)
    found: list[tuple[Ints, Ints, Ints, Ints]] = []
    for length in range(1, tables.longest + 1):
        inside = remaining[starts] >= length
        starts, spans = starts[inside], extend(spans[inside], flat[starts[inside] + length - 1])
        distinct, inverse = np.unique(spans, return_inverse=True)
        places = tables.paraphrases.find(distinct)[inverse] if len(distinct) else starts
        at = starts[places >= 0]
        sentence = owners[at]
        found.append(
            (sentence, at - firsts[sentence], np.full(len(at), length), places[places >= 0])
        )
    first, second, third, fourth = (np.concatenate(part) for part in zip(*found, strict=True))
    return first, second, third, fourth


def _paraphrases(table: Table, phrases: Ints, others: Ints) -> tuple[Ints, Ints, Ints]:
    """Listed pairs of ``phrases`` and ``others``: phrase, other, rank in the table; (P,) each."""
    if not len(phrases) or not len(others):
        empty = np.zeros(0, np.int64)
        return empty, empty, empty
    starts = table.starts[phrases].astype(np.int64)
    counts = table.starts[phrases + 1].astype(np.int64) - starts
    ends = np.cumsum(counts)
    rows = np.arange(ends[-1]) + np.repeat(starts - (ends - counts), counts)
    values = table.values[rows].astype(np.int64)
    places = np.minimum(np.searchsorted(others, values), len(others) - 1)
    here = others[places] == values
    return np.repeat(phrases, counts)[here], values[here], rows[here]


def _group_ranks(phrases: Ints, others: Ints, ranks: Ints) -> dict[int, dict[int, int]]:
    result: dict[int, dict[int, int]] = {}
    rows = zip(phrases.tolist(), others.tolist(), ranks.tolist(), strict=True)
    for phrase, other, rank in rows:
        result.setdefault(phrase, {})[other] = rank
    return result


def _collect(
    num_sentences: int, sentences: Ints, starts: Ints, lengths: Ints, phrases: Ints, keep: Ints
) -> list[Phrases]:
    """For each sentence, where its phrases are; only phrases in ``keep``."""
    result: list[Phrases] = [{} for _ in range(num_sentences)]
    useful = np.isin(phrases, keep)
    columns = (column[useful].tolist() for column in (sentences, starts, lengths, phrases))
    for sentence, start, length, phrase in zip(*columns, strict=True):
        found = result[sentence]
        found[phrase] = (*found.get(phrase, ()), (start, length))
    return result
