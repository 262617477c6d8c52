"""Batches of captions of one length, or of whole pictures, each caption exactly once in an epoch.

The original draws a length at random and then captions of that length with replacement, so an
"epoch" misses many captions. Here captions are shuffled, sorted by length (a stable sort keeps
the shuffle within a length) and cut into batches, and the batches are shuffled. A batch has one
length, except the few batches on the border between two lengths, which are padded.

For a decoder with attention, the work for a picture is larger than the work for a caption. There
the captions of a picture stay together, and pictures are sorted by their longest caption, so that
the captions of a batch still have about one length. The captions of a picture may be split between
two batches where the first one is full.

Batches follow from (seed, epoch) alone, so a run can continue in the middle of an epoch.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


def epoch_batches(
    lengths: NDArray[np.integer],
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    pictures: NDArray[np.integer] | None = None,
) -> list[NDArray[np.int64]]:
    """Cut the captions into batches for one epoch.

    Args:
        lengths: (N,) length of each caption, in tokens.
        batch_size: captions a batch; only one batch may have fewer.
        pictures: (N,) the number of each caption's picture, to keep a picture's captions together.

    Returns:
        Arrays of caption numbers; joined they are a permutation of ``range(N)``.
    """
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(lengths))
    if pictures is None:
        order = order[np.argsort(lengths[order], kind="stable")]
    else:
        order = order[np.lexsort(picture_keys(lengths, pictures, rng)[:, order])]
    # Where the short batch falls is drawn too, else it would always hold the longest captions.
    remainder = len(order) % batch_size
    num_full = len(order) // batch_size
    cut = int(rng.integers(num_full + 1)) * batch_size
    bounds = [*range(0, cut + 1, batch_size), *range(cut + remainder, len(order) + 1, batch_size)]
    batches = [order[a:b] for a, b in pairwise(bounds) if a < b]
    return [batches[i] for i in rng.permutation(len(batches))]


def drawn_batches(
    lengths: NDArray[np.integer], batch_size: int, *, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """The course notebook's batches: a length is drawn, then captions of it with replacement.

    A length is drawn as often as captions have it. An epoch misses about a third of the captions.

    Args:
        lengths: (N,) length of each caption, in tokens.

    Returns:
        ceil(N / batch_size) arrays of ``batch_size`` caption numbers, each of one length.
    """
    rng = np.random.default_rng((seed, epoch))
    batches = []
    for _ in range(-(-len(lengths) // batch_size)):
        of_length = np.flatnonzero(lengths == rng.choice(lengths))
        batches.append(rng.choice(of_length, size=batch_size))
    return batches


def picture_keys(
    lengths: NDArray[np.integer], pictures: NDArray[np.integer], rng: np.random.Generator | None
) -> NDArray[np.int64]:
    """Sort keys (2, N), the last first, that keep together the captions of a picture.

    Args:
        lengths: (N,) length of each caption.
        pictures: (N,) the number of each caption's picture.
        rng: puts pictures whose longest captions are equally long in random order; None: by number.
    """
    longest = np.zeros(int(pictures.max(initial=-1)) + 1, np.int64)
    np.maximum.at(longest, pictures, lengths)
    place = np.arange(len(longest)) if rng is None else rng.permutation(len(longest))
    return np.stack([place[pictures], longest[pictures]])
