"""How varied captions are: over a corpus, and among several captions of one picture.

Of a corpus with one caption a picture: distinct n-grams over words (distinct-n; Li et al. 2016,
arXiv 1510.03055), the number of different words, the share of different captions, and
the share that no training caption equals.

Of several captions of each picture, as in Wang and Chan 2019 (arXiv 1903.12020): Div-n, the
distinct n-grams of a picture's captions over their words, and self-CIDEr.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain

import numpy as np

from showtell.metrics.cider import SIGMA
from showtell.metrics.ngrams import ORDERS
from showtell.metrics.references import Captions
from showtell.metrics.statistics import Floats, Statistics

VERSION = "1"

Words = Sequence[str]


NAMES = ("distinct-1", "distinct-2", "vocabulary", "unique")
NBEST_NAMES = ("Div-1", "Div-2", "self-CIDEr")


def statistics(captions: Captions) -> Statistics:
    """Of one caption an image; figures of all captions together, which no resample of them has."""
    words = captions.words
    values = (distinct(words, 1), distinct(words, 2), num_different_words(words), unique(words))
    return Statistics.joined(
        [Statistics.of_whole(n, v, len(words)) for n, v in zip(NAMES, values, strict=True)]
    )


def distinct(captions: Iterable[Words], n: int) -> float:
    """Different n-grams of ``captions`` over their words; nan without words."""
    grams: set[tuple[str, ...]] = set()
    num_words = 0
    for words in captions:
        grams.update(_ngrams(words, n))
        num_words += len(words)
    return len(grams) / num_words if num_words else float("nan")


def num_different_words(captions: Iterable[Words]) -> int:
    """Size of the captions' vocabulary."""
    return len({word for words in captions for word in words})


def unique(captions: Sequence[Words]) -> float:
    """Different captions over captions."""
    return len(set(map(tuple, captions))) / len(captions)


def novel(captions: Captions, training: Collection[tuple[str, ...]]) -> Statistics:
    """The share of captions, as words, that are not among ``training``."""
    is_new = [tuple(words) not in training for words in captions.words]
    return Statistics.mean("novel", np.array(is_new, np.float64))


def of_each_picture(
    captions: Sequence[Sequence[Words]], frequencies: "DocumentFrequencies"
) -> Statistics:
    """Means over N pictures with several captions each: Div-1, Div-2 and self-CIDEr.

    Pictures with a single caption have no diversity and count in no mean.

    Args:
        captions: for each picture the words of its captions.
        frequencies: for the weights of self-CIDEr.
    """
    several = [each if len(each) > 1 else [] for each in captions]
    columns = (
        [distinct(each, 1) for each in several],
        [distinct(each, 2) for each in several],
        [self_cider(each, frequencies) for each in several],
    )
    return Statistics.joined(
        [_mean_of_known(n, np.array(c)) for n, c in zip(NBEST_NAMES, columns, strict=True)]
    )


def _mean_of_known(name: str, values: Floats) -> Statistics:
    known = ~np.isnan(values)
    return Statistics.ratio(name, np.where(known, values, 0.0), known.astype(np.float64))


class DocumentFrequencies:
    """In how many pictures' references each n-gram is, as CIDEr counts it."""

    def __init__(self, references: Iterable[Sequence[Words]]) -> None:
        self._counts: Counter[tuple[str, ...]] = Counter()
        num_images = 0
        for captions in references:
            num_images += 1
            self._counts.update({gram for words in captions for gram in _all_ngrams(words)})
        self._log_images = float(np.log(max(num_images, 1)))

    def weight(self, gram: tuple[str, ...]) -> float:
        """Log of all pictures over those with the n-gram, at least one."""
        return self._log_images - float(np.log(max(self._counts[gram], 1)))


def self_cider(captions: Sequence[Words], frequencies: DocumentFrequencies) -> float:
    """From 0, where all captions are equal, to 1, where they share no weighted n-gram.

    The kernel K of m captions has CIDEr-D of each pair, caption i scored against caption j >= i, as
    in the authors' program; the paper writes it as a plain cosine. With its singular values s,

        self-CIDEr = -log_m (max sqrt(s) / sum sqrt(s))

    since sqrt(s) are those of the matrix of captions that K is the square of.

    Returns:
        nan for fewer than two captions, or where no n-gram has a weight.
    """
    if len(captions) < 2:
        return float("nan")
    kernel = sum(_similarities(captions, n, frequencies) for n in range(1, ORDERS + 1)) / ORDERS
    lengths = np.array([max(len(words) - 1, 0) for words in captions], np.float64)
    kernel *= np.exp(-((lengths[:, None] - lengths) ** 2) / (2 * SIGMA**2))
    kernel = np.triu(kernel) + np.triu(kernel, 1).T
    values = np.sqrt(np.linalg.svd(kernel, compute_uv=False))
    if not values.sum():
        return float("nan")
    return abs(float(np.log(values.max() / values.sum()) / np.log(len(captions))))


def _similarities(captions: Sequence[Words], n: int, frequencies: DocumentFrequencies) -> Floats:
    """(m, m) clipped cosines of the tf-idf vectors of n-grams: rows are scored against columns."""
    counts = [Counter(_ngrams(words, n)) for words in captions]
    places = {gram: place for place, gram in enumerate(dict.fromkeys(chain.from_iterable(counts)))}
    vectors = np.zeros((len(captions), len(places)))
    for row, count in enumerate(counts):
        for gram, number in count.items():
            vectors[row, places[gram]] = number * frequencies.weight(gram)
    norms = np.linalg.norm(vectors, axis=1)
    products: Floats = (np.minimum(vectors[:, None], vectors) * vectors).sum(axis=2)
    scale = norms[:, None] * norms
    similarities: Floats = np.divide(products, scale, out=np.zeros_like(products), where=scale != 0)
    return similarities


def _all_ngrams(words: Words) -> Iterator[tuple[str, ...]]:
    for n in range(1, ORDERS + 1):
        yield from _ngrams(words, n)


def _ngrams(words: Words, n: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[start:] for start in range(n)), strict=False))
