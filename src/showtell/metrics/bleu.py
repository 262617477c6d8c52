"""BLEU-1..4 as COCO computes it (Papineni et al. 2002, section 2).

Counts are clipped by the maximum over the references. The reference length is the closest one, the
shorter on a tie. COCO's program adds 1e-15 to matches and 1e-9 to guesses, so that a caption
without a match scores nearly 0 instead of 0.
"""

from collections.abc import Sequence

import numpy as np

from showtell.metrics.ngrams import ORDERS, HypothesisLevel, Ints, ReferenceLevel, ReferenceNgrams
from showtell.metrics.references import Captions
from showtell.metrics.statistics import Floats, Statistics

VERSION = "1"

Counts = Ints | Floats

_TINY = 1e-15
_SMALL = 1e-9

NAMES = tuple(f"BLEU-{order}" for order in range(1, ORDERS + 1))


def statistics(captions: Captions) -> Statistics:
    """BLEU-1..4 of one caption an image.

    The counts are matches (N, 4), guesses (N, 4), the caption's length and the closest reference's.
    """
    levels, lengths = captions.counted
    images = np.arange(len(lengths))
    matches, guesses, closest = Bleu(captions.references.ngrams).count(images, levels, lengths)
    counts = np.column_stack([matches, guesses, lengths, closest]).astype(np.float64)
    return Statistics(NAMES, counts, _of_sums, _of_sums(counts))


def _of_sums(sums: Floats) -> Floats:
    """BLEU-1..4 (..., 4) of summed counts (..., 10)."""
    rows = sums.reshape(-1, sums.shape[-1])
    scores = _combine(rows[:, :ORDERS], rows[:, ORDERS : 2 * ORDERS], rows[:, -2], rows[:, -1])
    return scores.reshape(*sums.shape[:-1], ORDERS)


class Bleu:
    """Sentence BLEU against fixed references; their clipping counts are computed once.

    Attributes:
        ngrams: the references' counts.
    """

    def __init__(self, ngrams: ReferenceNgrams) -> None:
        self.ngrams = ngrams
        self._most = [_most_of_any_reference(level) for level in ngrams.levels]

    def score_counts(
        self, images: Ints, levels: Sequence[HypothesisLevel], lengths: Ints
    ) -> Floats:
        """BLEU-1..4 of N hypotheses, (N, 4) on a scale of 0 to 1.

        Args:
            images: (N,) the index of each hypothesis's image; an image may occur many times.
            levels: ``ngrams.count`` of the hypotheses.
            lengths: (N,) their words.
        """
        matches, guesses, closest = self.count(images, levels, lengths)
        return _combine(matches, guesses, lengths, closest)

    def count(
        self, images: Ints, levels: Sequence[HypothesisLevel], lengths: Ints
    ) -> tuple[Ints, Ints, Ints]:
        """The counts behind the scores: matches (N, 4), guesses (N, 4), closest lengths (N,)."""
        matches = np.zeros((len(images), ORDERS), np.int64)
        for order, level in enumerate(levels):
            keys, most = self._most[order]
            if len(keys):
                size = len(self.ngrams.levels[order].keys)
                wanted = images[level.hypotheses] * size + level.grams
                places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
                found = (level.grams >= 0) & (keys[places] == wanted)
                clipped = np.where(found, np.minimum(level.counts, most[places]), 0)
                matches[:, order] = np.bincount(level.hypotheses, clipped, minlength=len(images))
        guesses = np.maximum(lengths[:, None] - np.arange(ORDERS), 0)
        return matches, guesses, self._closest_lengths(images, lengths)

    def _closest_lengths(self, images: Ints, lengths: Ints) -> Ints:
        """(N,) the reference length nearest to each hypothesis's, the shorter on a tie."""
        if not len(images):
            return np.zeros(0, np.int64)
        first = self.ngrams.first
        counts = (first[1:] - first[:-1])[images]
        starts = np.cumsum(counts) - counts
        references = np.arange(counts.sum()) + np.repeat(first[images] - starts, counts)
        theirs = self.ngrams.lengths[references]
        # Distance first, then length, in one number: the smallest is the closest reference.
        longest = int(theirs.max(initial=0)) + 1
        distance = np.abs(theirs - np.repeat(lengths, counts))
        return np.minimum.reduceat(distance * longest + theirs, starts) % longest


def _most_of_any_reference(level: ReferenceLevel) -> tuple[Ints, Ints]:
    """Keys (image, n-gram), and the most times that any one reference of the image has it."""
    keys, starts = np.unique(level.pair_keys, return_index=True)
    most = np.maximum.reduceat(level.pair_counts, starts) if len(keys) else level.pair_counts
    return keys, most


def _combine(matches: Counts, guesses: Counts, lengths: Counts, closest: Counts) -> Floats:
    """Geometric means of precisions times the brevity penalty; (B, 4)."""
    precisions = np.cumprod((matches + _TINY) / (guesses + _SMALL), axis=1)
    means = precisions ** (1.0 / np.arange(1, ORDERS + 1))
    ratio = (lengths + _TINY) / (closest + _SMALL)
    with np.errstate(over="ignore", divide="ignore"):
        brevity = np.where(ratio < 1, np.exp(1 - 1 / ratio), 1.0)
    return np.asarray(means * brevity[:, None], np.float64)
