"""What METEOR knows of the words of a corpus: stems, synonyms and paraphrases.

Everything is looked up once for all sentences of a corpus, in whole arrays.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from showtell.metrics.meteor_tables import Hashes, Table, Tables, extend, word_hash
from showtell.metrics.snowball import stem

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
    """Stems, synonyms and paraphrases of hypotheses and references that meet each other.

    Only what can make a match is kept: synonyms that a hypothesis has, phrases with a paraphrase
    on the other side.

    Attributes:
        stems: of each word.
        synonyms: for each word, the words of hypotheses that share a WordNet synset with it.
        phrases: of each hypothesis, then of each reference, where its phrases are.
        paraphrases: for each phrase of a hypothesis, then for each of a reference, the phrases of
            the other side that METEOR's table lists for it, with their ranks in the table.
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
    """Spans that METEOR's table has: (sentence, first word, number of words, phrase), (S,) each."""
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
    """Pairs of a phrase with a listed one among ``others``: (phrase, other, rank), (P,) each."""
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
    """For each sentence where those of its phrases are that are worth keeping."""
    result: list[Phrases] = [{} for _ in range(num_sentences)]
    useful = np.isin(phrases, keep)
    columns = (column[useful].tolist() for column in (sentences, starts, lengths, phrases))
    for sentence, start, length, phrase in zip(*columns, strict=True):
        found = result[sentence]
        found[phrase] = (*found.get(phrase, ()), (start, length))
    return result
