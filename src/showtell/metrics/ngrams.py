"""Counts of n-grams (n = 1..4) as integer arrays, for BLEU and CIDEr-D.

Words get consecutive ids, and an n-gram is the pair (id of its first n-1 words, id of its last
word), numbered again among the distinct pairs. So any vocabulary fits 64-bit keys, and counting,
document frequencies and look-ups are sorts and binary searches over whole corpora. Knows nothing
of text: a word is anything hashable (a string, a token id).

MERGED: Distinct values of long integer arrays, in time that grows as the arrays do.

A sort of a whole array, and of its places even more, misses the caches as soon as the array is
longer than they are, and costs ever more a value. So the values are first parted into ranges that
fit. Knows nothing of what the numbers mean.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

PART = 1 << 16  # values that are sorted at once
MOST_PARTS = 256  # so that a part's number is a byte, which numpy sorts by counting
SAMPLES = 64  # a part, by which the ranges are chosen


def number_distinct(values: Ints) -> tuple[Ints, Ints]:
    """As ``np.unique(values, return_inverse=True)``: (U,) sorted values, (N,) the place of each."""
    num_parts = min(len(values) // PART + 1, MOST_PARTS)
    if num_parts == 1:
        keys, ids = np.unique(values, return_inverse=True)
        return keys, ids
    sample = np.sort(values[:: max(len(values) // (num_parts * SAMPLES), 1)])
    step = len(sample) // num_parts
    bounds = np.unique(sample[step::step][: num_parts - 1])
    part = np.searchsorted(bounds, values, side="right").astype(np.uint8)
    order = np.argsort(part, kind="stable")
    ids = np.empty(len(values), np.int64)
    found: list[Ints] = []
    first = num_found = 0
    for end in np.cumsum(np.bincount(part)):
        places = order[first:end]
        keys, within = np.unique(values[places], return_inverse=True)
        ids[places] = within + num_found
        found.append(keys)
        first, num_found = end, num_found + len(keys)
    return np.concatenate(found), ids


def count_distinct(values: Ints, groups: Ints) -> tuple[Ints, Ints]:
    """As ``np.unique(values, return_counts=True)``, of values that rise from group to group.

    Args:
        values: (N,); all of a group are below all of the next.
        groups: (N,) never falling.
    """
    if len(values) <= PART:
        keys, counts = np.unique(values, return_counts=True)
        return keys, counts
    starts = np.unique(np.searchsorted(groups, groups[PART::PART]))
    parts = [np.unique(part, return_counts=True) for part in np.split(values, starts) if len(part)]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


ORDERS = 4
"""N-grams of 1 to this many words are counted, as in BLEU-4 and CIDEr."""

Sentence = Sequence[Hashable]


@dataclass(frozen=True)
class ReferenceLevel:
    """Counts of one order n in the references; P pairs of (sentence, distinct n-gram).

    Attributes:
        keys: (U,) sorted ``prefix id * num_words + word id`` of the distinct n-grams.
        document_frequency: (U,) images with the n-gram in any reference.
        pair_keys: (P,) sorted ``image * U + n-gram``.
        pair_sentences: (P,) the reference of each pair.
        pair_counts: (P,) how often the reference has the n-gram.
    """

    keys: Ints
    document_frequency: Ints
    pair_keys: Ints
    pair_sentences: Ints
    pair_counts: Ints


@dataclass(frozen=True)
class HypothesisLevel:
    """Counts of one order in hypotheses; P pairs of (hypothesis, distinct n-gram).

    Attributes:
        hypotheses: (P,) rising.
        grams: (P,) id of the n-gram among the references', -1 where they do not have it.
        counts: (P,) how often the hypothesis has it.
    """

    hypotheses: Ints
    grams: Ints
    counts: Ints


class ReferenceNgrams:
    """The n-grams of every image's references, counted once.

    Attributes:
        num_images: images, in the order given.
        first: (num_images + 1,) where each image's references begin in the flat list of them.
        lengths: (all references,) words.
        levels: one for each order.
    """

    def __init__(self, references: Sequence[Sequence[Sentence]]) -> None:
        """Count ``references``: for each image, for each reference, its words."""
        self.num_images = len(references)
        self.first = _offsets([len(sentences) for sentences in references])
        flat = [sentence for sentences in references for sentence in sentences]
        tokens, self.lengths, self._words = _number(flat, {})
        self.num_words = len(self._words)
        images = np.repeat(np.arange(self.num_images), np.diff(self.first))
        self.levels = [
            _reference_level(keys, sentences, grams, images, self.first)
            for keys, sentences, grams in _ngrams(tokens, self.lengths, self.num_words)
        ]

    def count(self, hypotheses: Sequence[Sentence]) -> tuple[list[HypothesisLevel], Ints]:
        """Count hypotheses against these references; returns (levels, their lengths (N,))."""
        tokens, lengths, words = _number(hypotheses, self._words)
        num_words = self.num_words + len(words)
        known = np.arange(num_words)
        known[self.num_words :] = -1
        levels: list[HypothesisLevel] = []
        for order, (keys, sentences, grams) in enumerate(_ngrams(tokens, lengths, num_words)):
            if order:
                prefixes, last = np.divmod(keys, num_words)
                known = self._find(order, known[prefixes], last)
            else:
                known = known[keys]
            pairs, counts = count_distinct(sentences * max(len(keys), 1) + grams, sentences)
            hypothesis, gram = np.divmod(pairs, max(len(keys), 1))
            levels.append(HypothesisLevel(hypothesis, known[gram], counts))
        return levels, lengths

    def _find(self, order: int, prefixes: Ints, words: Ints) -> Ints:
        """Ids of the references' n-grams made of these prefixes and words, -1 for no such."""
        keys = self.levels[order].keys
        if not len(keys):
            return np.full(len(words), -1)
        wanted = np.where(
            (prefixes >= 0) & (words < self.num_words), prefixes * self.num_words + words, -1
        )
        places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[places] == wanted, places, -1)


def _number(
    sentences: Sequence[Sentence], known: dict[Hashable, int]
) -> tuple[Ints, Ints, dict[Hashable, int]]:
    """Word ids of all sentences in one array, the sentences' lengths, and ids of words not known.

    New words get the ids after those of ``known``, in the order they are met.
    """
    flat = [word for sentence in sentences for word in sentence]
    new: dict[Hashable, int] = {}
    ids: dict[Hashable, int] = {}
    for word in dict.fromkeys(flat):
        number = known.get(word)
        if number is None:
            number = new[word] = len(known) + len(new)
        ids[word] = number
    tokens = np.fromiter(map(ids.__getitem__, flat), np.int64, len(flat))
    lengths = np.fromiter(map(len, sentences), np.int64, len(sentences))
    return tokens, lengths, new


def _offsets(lengths: Sequence[int]) -> Ints:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _ngrams(tokens: Ints, lengths: Ints, num_words: int) -> list[tuple[Ints, Ints, Ints]]:
    """For each order: distinct keys (U,), and sentence and n-gram id of every occurrence (O,)."""
    sentences = np.repeat(np.arange(len(lengths)), lengths)
    remaining = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(tokens))
    places = np.arange(len(tokens))
    keys, grams = number_distinct(tokens)
    levels = [(keys, sentences, grams)]
    for order in range(2, ORDERS + 1):
        inside = remaining[places] >= order
        places, grams = places[inside], grams[inside]
        keys, grams = number_distinct(grams * num_words + tokens[places + order - 1])
        levels.append((keys, sentences[places], grams))
    return levels


def _reference_level(
    keys: Ints, sentences: Ints, grams: Ints, images: Ints, first: Ints
) -> ReferenceLevel:
    """Sort occurrences by image, n-gram and reference, all three in one number."""
    size = max(len(keys), 1)
    most = max(int(np.diff(first).max(initial=0)), 1)
    image = images[sentences]
    packed = (image * size + grams) * most + sentences - first[image]
    pairs, counts = count_distinct(packed, image)
    image_keys, reference = np.divmod(pairs, most)
    is_new = np.ones(len(image_keys), bool)
    is_new[1:] = image_keys[1:] != image_keys[:-1]
    image, gram = np.divmod(image_keys, size)
    frequency = np.bincount(gram[is_new], minlength=len(keys))
    return ReferenceLevel(keys, frequency, image_keys, first[image] + reference, counts)
