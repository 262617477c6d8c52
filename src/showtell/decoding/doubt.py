"""Which words of a caption the picture speaks against, by a reranker's word detector.

``text/details.py`` says the caption without them. Shapes as in ``reranking.py``.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from showtell.decoding.arrays import Floats, Ids
from showtell.decoding.reranking import LEAST, Reranker
from showtell.text.details import DETAILS, KINDS
from showtell.text.genders import WORDS

Marks = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Doubt:
    """What is doubted.

    Attributes:
        below: how probable, over what is usual without a picture.
        words: ids of the words that may be doubted by themselves.
        genders: ids of the words for either gender.
    """

    below: float
    words: frozenset[int]
    genders: tuple[frozenset[int], ...]

    @classmethod
    def of(cls, below: float, words: tuple[str, ...]) -> "Doubt":
        """For the words of a vocabulary whose ids are words."""
        return cls(below, *_ids_of(words))

    def marks(self, tokens: Ids, probabilities: Floats, reranker: Reranker) -> Marks:
        """(P, K, T) which tokens are doubted.

        A word is if the picture makes it less than ``below`` times as probable as it is without
        one. Where a caption names one gender, its words are if this holds for the odds of that
        gender against the other. So what is rare is not doubted for being rare. Words that the
        detector does not know are not doubted.

        Args:
            tokens: (P, K, T) of captions.
            probabilities: (P, W) of the detector's words.
        """
        marks = np.zeros(tokens.shape, bool)
        doubted = probabilities < self.below * reranker.prior
        for word, of_pictures in zip(reranker.words.tolist(), doubted.T, strict=True):
            if word in self.words:
                marks |= (tokens == word) & of_pictures[:, None, None]
        named = [np.isin(tokens, list(ids)) for ids in self.genders]
        gains = [_gain(ids, probabilities, reranker) for ids in self.genders]
        for one, other in ((0, 1), (1, 0)):
            alone = ~named[other].any(axis=2)
            is_doubted = gains[one] < self.below * gains[other]
            marks |= named[one] & (alone & is_doubted[:, None])[:, :, None]
        return marks


def _gain(ids: Collection[int], probabilities: Floats, reranker: Reranker) -> Floats:
    """(P,) how probable it is that one of some words is said, over what is usual.

    As if they were independent: 1 - prod(1 - p).
    """
    of_group = np.isin(reranker.words, list(ids))
    seen, usual = (
        -np.expm1(np.log1p(-np.minimum(p[..., of_group], 1 - LEAST)).sum(axis=-1))
        for p in (probabilities, reranker.prior)
    )
    gain: Floats = np.maximum(seen, LEAST) / np.maximum(usual, LEAST)
    return gain


@lru_cache(maxsize=16)
def _ids_of(words: tuple[str, ...]) -> tuple[frozenset[int], tuple[frozenset[int], ...]]:
    """The ids of words that may be doubted by themselves, and of the words for either gender."""
    ids = {word: index for index, word in enumerate(words)}
    details, *genders = (
        frozenset(ids[word] for word in group if word in ids)
        for group in (DETAILS | KINDS.keys(), *WORDS.values())
    )
    return details, tuple(genders)
