"""Counts of n-grams (n = 1..4) as integer arrays, for BLEU and CIDEr-D.

Words get consecutive ids. An n-gram is the pair (id of its first n-1 words, id of its last word),
and the distinct pairs get ids in turn, so keys fit 64 bits with any vocabulary. Counting, document
frequencies and look-ups are then sorts and binary searches over whole corpora. A word may be
anything hashable: a string, or a token id.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

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
    """The n-grams of the references of every image, counted once.

    Attributes:
        num_images: number of images, in the order given.
        first: (num_images + 1,) where each image's references begin in the flat list of them.
        lengths: (all references,) number of words.
        levels: the counts of each order.
        words: the number of each distinct word.
    """

    def __init__(self, references: Sequence[Sequence[Sentence]]) -> None:
        """Count ``references``: for each image, for each reference, its words."""
        self.num_images = len(references)
        self.first = _offsets([len(sentences) for sentences in references])
        flat = [sentence for sentences in references for sentence in sentences]
        tokens, self.lengths, self.words = _number(flat, {})
        self.num_words = len(self.words)
        images = np.repeat(np.arange(self.num_images), np.diff(self.first))
        self.levels = [
            _reference_level(keys, sentences, grams, images, self.first)
            for keys, sentences, grams in _ngrams(tokens, self.lengths, self.num_words)
        ]

    def count(self, hypotheses: Sequence[Sentence]) -> tuple[list[HypothesisLevel], Ints]:
        """Count hypotheses against these references; returns (levels, their lengths (N,))."""
        tokens, lengths, words = _number(hypotheses, self.words)
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
            pairs, counts = np.unique(sentences * max(len(keys), 1) + grams, return_counts=True)
            hypothesis, gram = np.divmod(pairs, max(len(keys), 1))
            levels.append(HypothesisLevel(hypothesis, known[gram], counts))
        return levels, lengths

    def _find(self, order: int, prefixes: Ints, words: Ints) -> Ints:
        """Ids of the references' n-grams with these prefixes and last words; -1 for none."""
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
    """Word ids of all sentences in one array, the sentences' lengths, and the ids of new words.

    New words are those not in ``known``; their ids follow, in the order of appearance.
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
    keys, grams = np.unique(tokens, return_inverse=True)
    levels = [(keys, sentences, grams)]
    for order in range(2, ORDERS + 1):
        inside = remaining[places] >= order
        places, grams = places[inside], grams[inside]
        keys, grams = np.unique(grams * num_words + tokens[places + order - 1], return_inverse=True)
        levels.append((keys, sentences[places], grams))
    return levels


def _reference_level(
    keys: Ints, sentences: Ints, grams: Ints, images: Ints, first: Ints
) -> ReferenceLevel:
    """Sort occurrences by image, n-gram and reference, packed into one number."""
    size = max(len(keys), 1)
    most = max(int(np.diff(first).max(initial=0)), 1)
    image = images[sentences]
    packed = (image * size + grams) * most + sentences - first[image]
    pairs, counts = np.unique(packed, return_counts=True)
    image_keys, reference = np.divmod(pairs, most)
    is_new = np.ones(len(image_keys), bool)
    is_new[1:] = image_keys[1:] != image_keys[:-1]
    image, gram = np.divmod(image_keys, size)
    frequency = np.bincount(gram[is_new], minlength=len(keys))
    return ReferenceLevel(keys, frequency, image_keys, first[image] + reference, counts)
