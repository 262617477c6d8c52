"""BLEU-1..4 as COCO computes it (Papineni et al. 2002, section 2).

Counts are clipped by the references' maxima, the reference length is the closest one (the shorter
on a tie), and two constants of COCO's program keep zeros apart: 1e-15 is added to matches and
1e-9 to guesses, so that a caption without a match scores nearly but not exactly 0.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from showtell.metrics.ngrams import ORDERS, HypothesisLevel, Ints, ReferenceLevel, ReferenceNgrams

VERSION = "1"

_TINY = 1e-15
_SMALL = 1e-9

Floats = NDArray[np.float64]


def bleu(
    references: ReferenceNgrams, levels: Sequence[HypothesisLevel], lengths: Ints
) -> tuple[Floats, Floats]:
    """BLEU-1..4 of one hypothesis an image, in the references' order.

    Args:
        references: counted references of B images.
        levels: ``references.count`` of B hypotheses.
        lengths: (B,) words of each hypothesis.

    Returns:
        The corpus's (4,) and each image's (B, 4), on a scale of 0 to 1.
    """
    num_images = references.num_images
    matches = np.stack(
        [
            _clipped_matches(reference, level, num_images)
            for reference, level in zip(references.levels, levels, strict=True)
        ],
        axis=1,
    )
    guesses = np.maximum(lengths[:, None] - np.arange(ORDERS), 0)
    closest = _closest_lengths(references, lengths)
    corpus = _combine(
        matches.sum(axis=0, keepdims=True),
        guesses.sum(axis=0, keepdims=True),
        lengths.sum(keepdims=True),
        closest.sum(keepdims=True),
    )
    return corpus[0], _combine(matches, guesses, lengths, closest)


def _clipped_matches(
    reference: ReferenceLevel, level: HypothesisLevel, num_images: int
) -> NDArray[np.int64]:
    """(B,) n-grams of each hypothesis that its references have, no more often than any has it."""
    keys, starts = np.unique(reference.pair_keys, return_index=True)
    if not len(keys):
        return np.zeros(num_images, np.int64)
    most = np.maximum.reduceat(reference.pair_counts, starts)
    wanted = level.hypotheses * max(len(reference.keys), 1) + level.grams
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found = (level.grams >= 0) & (keys[places] == wanted)
    clipped = np.where(found, np.minimum(level.counts, most[places]), 0)
    return np.bincount(level.hypotheses, clipped, minlength=num_images).astype(np.int64)


def _closest_lengths(references: ReferenceNgrams, lengths: Ints) -> Ints:
    """(B,) the reference length nearest to each hypothesis's, the shorter on a tie."""
    counts = np.diff(references.first)
    # Distance first, then length, in one number: the smallest is the closest reference.
    longest = int(references.lengths.max(initial=0)) + 1
    distance = np.abs(references.lengths - np.repeat(lengths, counts))
    return (
        np.minimum.reduceat(distance * longest + references.lengths, references.first[:-1])
        % longest
    )


def _combine(matches: Ints, guesses: Ints, lengths: Ints, closest: Ints) -> Floats:
    """Geometric means of precisions times the brevity penalty; (B, 4)."""
    precisions = np.cumprod((matches + _TINY) / (guesses + _SMALL), axis=1)
    means = precisions ** (1.0 / np.arange(1, ORDERS + 1))
    ratio = (lengths + _TINY) / (closest + _SMALL)
    with np.errstate(over="ignore", divide="ignore"):
        brevity = np.where(ratio < 1, np.exp(1 - 1 / ratio), 1.0)
    return np.asarray(means * brevity[:, None], np.float64)
