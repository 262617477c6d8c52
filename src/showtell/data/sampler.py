"""Batches of captions of one length, each caption exactly once an epoch.

The original draws a length at random and then captions of that length with replacement, so an
"epoch" misses many captions. Here captions are shuffled, ordered by length (a stable sort keeps
the shuffle within a length), cut into batches, and the batches shuffled. A batch has one length
but for the few that lie on the border between two; those are padded. Everything follows from
(seed, epoch), so a run can go on in the middle of an epoch. Knows nothing of captions' text.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


def epoch_batches(
    lengths: NDArray[np.integer], batch_size: int, *, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """Cut the captions into batches for one epoch.

    Args:
        lengths: (N,) length of each caption, in tokens.
        batch_size: captions a batch; only one batch may have fewer.

    Returns:
        Arrays of caption numbers; joined they are a permutation of ``range(N)``.
    """
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(lengths))
    order = order[np.argsort(lengths[order], kind="stable")]
    # Where the short batch falls is drawn too, else it would always hold the longest captions.
    remainder = len(order) % batch_size
    num_full = len(order) // batch_size
    cut = int(rng.integers(num_full + 1)) * batch_size
    bounds = [*range(0, cut + 1, batch_size), *range(cut + remainder, len(order) + 1, batch_size)]
    batches = [order[a:b] for a, b in pairwise(bounds) if a < b]
    return [batches[i] for i in rng.permutation(len(batches))]
