"""How far raters agree, how far two orders of captions agree, and whether a captioner wins."""

from math import comb
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Level = Literal["nominal", "ordinal", "interval"]

_BLOCK = 1000  # rows of a matrix of pairs that are in memory at once


def krippendorff_alpha(values: Floats, level: Level) -> float:
    """Krippendorff's alpha: 1 for perfect agreement, 0 for that of chance, less for worse.

    Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C, any number of
    raters, missing values, and the difference functions of its section D. With o_ck, how often
    values c and k meet in a unit (a pair of a unit with m values counts 1 / (m - 1)), and n_c, how
    often c meets any: alpha = 1 - (n - 1) sum(o_ck d2_ck) / sum(n_c n_k d2_ck), over c < k.

    Args:
        values: (raters, units); nan where a rater did not rate. Units with one value are left out.
        level: nominal, any two values differ alike; ordinal, by how many values lie between them;
            interval, by the square of their difference.

    Returns:
        nan where no unit has two values, or all values are the same.
    """
    known = ~np.isnan(values)
    rated = values[:, known.sum(axis=0) > 1]
    categories = np.unique(rated[~np.isnan(rated)])
    if len(categories) < 2:
        return float("nan")
    # (units, categories): how often each value was given to each unit.
    counts = np.stack([(rated == c).sum(axis=0, dtype=np.float64) for c in categories], axis=1)
    pairs = counts[:, :, None] * counts[:, None, :]
    pairs -= counts[:, :, None] * np.eye(len(categories))
    coincidences = (pairs / (counts.sum(axis=1) - 1)[:, None, None]).sum(axis=0)
    totals = coincidences.sum(axis=1)
    distances = _squared_distances(categories, totals, level)
    expected = (np.outer(totals, totals) * distances).sum()
    return float(1 - (totals.sum() - 1) * (coincidences * distances).sum() / expected)


def _squared_distances(categories: Floats, totals: Floats, level: Level) -> Floats:
    """(C, C) squared differences between values."""
    if level == "interval":
        return (categories[:, None] - categories) ** 2
    if level == "nominal":
        return 1.0 - np.eye(len(categories))
    # Between the middles of two values' ranks lie as many values as were given between them.
    middles = np.cumsum(totals) - totals / 2
    return (middles[:, None] - middles) ** 2


def pearson(first: Floats, second: Floats) -> float:
    """Pearson's correlation of two (N,); nan where one is constant."""
    a, b = first - first.mean(), second - second.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale else float("nan")


def spearman(first: Floats, second: Floats) -> float:
    """Spearman's correlation: Pearson's of the ranks, equal values sharing their mean rank."""
    return pearson(_ranks(first), _ranks(second))


def kendall_tau_b(first: Floats, second: Floats) -> float:
    """Kendall's tau-b of two (N,) (Kendall 1945, "The treatment of ties in ranking problems").

    (concordant - discordant) / sqrt(pairs untied in the first * pairs untied in the second); nan
    where one is constant.
    """
    agree = untied_first = untied_second = 0.0
    for start in range(0, len(first), _BLOCK):
        a = np.sign(first[start : start + _BLOCK, None] - first)
        b = np.sign(second[start : start + _BLOCK, None] - second)
        agree += (a * b).sum()
        untied_first += np.abs(a).sum()
        untied_second += np.abs(b).sum()
    scale = np.sqrt(untied_first * untied_second)
    return float(agree / scale) if scale else float("nan")


def sign_test(wins: int, losses: int) -> float:
    """The two-sided p-value of an exact sign test: between equals, wins are tosses of a fair coin.

    Ties are left out (Conover 1999, "Practical Nonparametric Statistics", section 3.4).
    """
    total, fewer = wins + losses, min(wins, losses)
    tail = sum(comb(total, count) for count in range(fewer + 1))  # whole numbers: exact at any size
    return float(min(1.0, 2 * tail / 2**total))


def _ranks(values: Floats) -> Floats:
    """(N,) ranks from 1; equal values share the mean of theirs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[which]
    return ranks
