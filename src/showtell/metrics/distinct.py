"""Distinct values of long integer arrays, in time that grows as the arrays do.

A sort of a whole array, and of its places even more, misses the caches as soon as the array is
longer than they are, and costs ever more a value. So the values are first parted into ranges that
fit. Knows nothing of what the numbers mean.
"""

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
