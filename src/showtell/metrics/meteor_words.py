"""What METEOR knows of the words of a corpus: stems, synonyms and paraphrases.

Everything is looked up once for all sentences of a corpus, in whole arrays.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from showtell.metrics.meteor_tables import Hashes, Table, Tables, extend, word_hash

# How a word that is no irregular form is taken back to a base form; the first that WordNet knows.
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
"""Place of the first word, number of words."""

Phrases = dict[int, tuple[Span, ...]]
"""Phrase -> where it is in a sentence."""


class Lexicon:
    """Stems, synonyms and paraphrases of the words in some sentences.

    Attributes:
        stems: of each word.
        synonyms: for each word, the words of the corpus that share a WordNet synset with it.
        phrases: of each sentence, in the order given, those that METEOR's table has.
        paraphrases: for each phrase of the corpus, the phrases of the corpus that the table lists
            as its paraphrases, with their ranks in the table.
    """

    def __init__(self, tables: Tables, sentences: Sequence[Sequence[str]]) -> None:
        words = list(dict.fromkeys(word for sentence in sentences for word in sentence))
        self.stems = _stems(words)
        self.synonyms = _synonyms(tables, words)
        self.phrases = _phrases(tables, sentences, words)
        present = np.unique(np.fromiter((k for found in self.phrases for k in found), np.int64))
        self.paraphrases = _paraphrases(tables.paraphrases, present)


def _stems(words: Sequence[str]) -> dict[str, str]:
    # The classic Snowball stemmer of English; later versions of Snowball stem some words
    # otherwise ("added", "evening"), which METEOR's copy does not.
    from nltk.stem.snowball import EnglishStemmer

    stemmer = EnglishStemmer()
    return {word: stemmer.stem(word) for word in words}


def _hashes(words: Sequence[str]) -> Hashes:
    return np.fromiter(map(word_hash, words), np.uint64, len(words))


def _synonyms(tables: Tables, words: Sequence[str]) -> dict[str, frozenset[str]]:
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


def _phrases(
    tables: Tables, sentences: Sequence[Sequence[str]], words: Sequence[str]
) -> list[Phrases]:
    """For each sentence its phrases that METEOR's table has."""
    hashes = dict(zip(words, _hashes(words).tolist(), strict=True))
    flat = np.fromiter((hashes[w] for s in sentences for w in s), np.uint64)
    lengths = np.fromiter(map(len, sentences), np.int64, len(sentences))
    owners = np.repeat(np.arange(len(sentences)), lengths)
    firsts = np.cumsum(lengths) - lengths
    remaining = np.repeat(firsts + lengths, lengths) - np.arange(len(flat))
    found: list[Phrases] = [{} for _ in sentences]
    starts, spans = np.arange(len(flat)), np.zeros(len(flat), np.uint64)
    for length in range(1, tables.longest + 1):
        inside = remaining[starts] >= length
        starts, spans = starts[inside], spans[inside]
        spans = extend(spans, flat[starts + length - 1])
        distinct, inverse = np.unique(spans, return_inverse=True)
        places = tables.paraphrases.find(distinct)[inverse] if len(distinct) else starts
        known = places >= 0
        at = starts[known]
        sentence = owners[at]
        for number, start, place in zip(
            sentence.tolist(), (at - firsts[sentence]).tolist(), places[known].tolist(), strict=True
        ):
            phrases = found[number]
            phrases[place] = (*phrases.get(place, ()), (start, length))
    return found


def _paraphrases(table: Table, present: NDArray[np.int64]) -> dict[int, dict[int, int]]:
    """Paraphrases of each phrase among those present, with their ranks in the table."""
    if not len(present):
        return {}
    starts = table.starts[present].astype(np.int64)
    counts = table.starts[present + 1].astype(np.int64) - starts
    ends = np.cumsum(counts)
    rows = np.arange(ends[-1]) + np.repeat(starts - (ends - counts), counts)
    values = table.values[rows].astype(np.int64)
    places = np.minimum(np.searchsorted(present, values), len(present) - 1)
    here = present[places] == values
    result: dict[int, dict[int, int]] = {}
    owners = np.repeat(present, counts)[here].tolist()
    for phrase, value, rank in zip(owners, values[here].tolist(), rows[here].tolist(), strict=True):
        result.setdefault(phrase, {})[value] = rank
    return result
