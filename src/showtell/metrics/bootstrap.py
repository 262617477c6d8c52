"""Intervals of figures, and whether two systems differ, by resampling the images.

Everything is computed from ``Statistics``: a resample is a vector of weights over the images, so
1,000 resamples are one product of matrices, made in blocks of bounded memory. All figures, and all
systems that are compared, see the same resamples. CIDEr-D's document frequencies stay those of all
references. What is resampled is the images; a model that is trained again with another seed differs
by more than such an interval says.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from showtell.errors import ScoringError
from showtell.metrics.statistics import Floats, Statistics

NUM_RESAMPLES = 1000

_BLOCK = 4_000_000  # weights that are in memory at once, 8 bytes each
_TIE = 1e-12  # smaller differences are rounding: the same sums in another order


@dataclass(frozen=True)
class Resampling:
    """How images are resampled.

    Attributes:
        num_resamples: how often.
        seed: the same seed gives the same resamples of the same number of images.
        confidence: the share of resamples that an interval holds, between 0 and 1.

    Raises:
        ScoringError: a value is out of its range.
    """

    num_resamples: int = NUM_RESAMPLES
    seed: int = 0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.num_resamples < 1:
            raise ScoringError(f"{self.num_resamples} resamples: expected 1 or more, as 1000")
        if not 0 < self.confidence < 1:
            raise ScoringError(f"confidence {self.confidence}: expected a share, as 0.95")
        if self.seed < 0:
            raise ScoringError(f"seed {self.seed}: expected 0 or more")

    @property
    def signature(self) -> str:
        """For the end of a signature of scores."""
        return f"bs:{self.num_resamples}|seed:{self.seed}|ci:{100 * self.confidence:g}"

    def weights(self, num_images: int) -> Iterator[Floats]:
        """How often each resample has each image: (num_resamples, num_images), in blocks of rows.

        Each resample draws ``num_images`` images with replacement.
        """
        rng = np.random.default_rng(self.seed)

        def row() -> NDArray[np.int64]:
            drawn = rng.integers(num_images, size=num_images)
            return np.bincount(drawn, minlength=num_images)

        return self._blocks(num_images, row)

    def swaps(self, num_images: int) -> Iterator[Floats]:
        """Fair coins, 0 or 1: (num_resamples, num_images), in blocks of rows."""
        rng = np.random.default_rng([self.seed, 1])

        def row() -> NDArray[np.uint8]:
            drawn = np.frombuffer(rng.bytes((num_images + 7) // 8), np.uint8)
            return np.unpackbits(drawn, count=num_images)

        return self._blocks(num_images, row)

    def _blocks(self, num_images: int, row: Callable[[], NDArray[np.integer]]) -> Iterator[Floats]:
        together = max(_BLOCK // max(num_images, 1), 1)
        for start in range(0, self.num_resamples, together):
            block = np.empty((min(together, self.num_resamples - start), num_images))
            for place in range(len(block)):
                block[place] = row()
            yield block


class Interval(NamedTuple):
    """Where a figure lies in the middle share of the resamples (Efron's percentile interval)."""

    low: float
    high: float

    def __str__(self) -> str:
        """As in tables; a dash where the figure has no value in any resample."""
        return "-" if math.isnan(self.low) else f"[{self.low:z.3f}, {self.high:z.3f}]"


def intervals(
    statistics: Sequence[Statistics],
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """An interval of each figure, by name (Koehn 2004, section 3).

    Resamples in which a figure has no value are left out of its interval; a figure that has none in
    any resample gets no interval.

    Args:
        statistics: of the same images, as ``Scores.statistics``.

    Raises:
        ScoringError: ``num_resamples``, ``confidence`` or ``seed`` is out of its range.
    """
    resampling = Resampling(num_resamples, seed, confidence)
    [figures] = resampled([statistics], resampling)
    return {
        name: percentiles(values, confidence)
        for name, values in zip(names_of(statistics), figures.T, strict=True)
        if not np.isnan(values).all()
    }


@dataclass(frozen=True)
class Difference:
    """A figure of a system minus that of the system it is compared with.

    Attributes:
        value: of all images.
        interval: of the difference, on the resamples that both systems share.
        p_bootstrap: of the paired bootstrap, two-sided.
        p_randomisation: of approximate randomisation, two-sided.
    """

    value: float
    interval: Interval
    p_bootstrap: float
    p_randomisation: float

    @property
    def p(self) -> float:
        """The larger of both p-values: what both tests agree on."""
        return max(self.p_bootstrap, self.p_randomisation)


def differences(
    systems: Sequence[Sequence[Statistics]], resampling: Resampling | None = None
) -> list[dict[str, Difference]]:
    """Every other system minus the first: one dictionary by figure for each of them.

    With n resamples and the differences d* of a figure in them, the paired bootstrap (Koehn 2004,
    section 4) gives p = min(1, 2 (min(#{d* <= 0}, #{d* >= 0}) + 1) / (n + 1)). Approximate
    randomisation (Riezler and Maxwell 2005, figure 1) swaps the two systems' captions of each image
    by the toss of a coin: p = (#{|d*| >= |d|} + 1) / (n + 1), with the difference d of all images.
    Neither is ever 0, and identical systems have p = 1.

    Args:
        systems: two or more; each has the same figures of the same images, in the same order.

    Raises:
        ScoringError: the systems have other figures or other numbers of images.
    """
    resampling = resampling or Resampling()
    names = [names_of(statistics) for statistics in systems]
    if any(names[0] != others for others in names):
        raise ScoringError("the systems to compare have different metrics: score all with the same")
    values = [np.concatenate([one.figures() for one in statistics]) for statistics in systems]
    figures = resampled(systems, resampling)
    swapped = _swapped(systems, resampling)
    found = []
    for place in range(1, len(systems)):
        by_name = {}
        for column, name in enumerate(names[0]):
            observed = values[place][column] - values[0][column]
            drawn = figures[place, :, column] - figures[0, :, column]
            random = swapped[place - 1][:, column]
            by_name[name] = Difference(
                float(observed),
                percentiles(drawn, resampling.confidence),
                _p_bootstrap(drawn, observed),
                _p_randomisation(random, observed),
            )
        found.append(by_name)
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for making several comparisons (Holm 1979), in the given order."""
    order = np.argsort(p_values)
    corrected = np.zeros(len(order))
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected.tolist()


def names_of(statistics: Sequence[Statistics]) -> list[str]:
    """The figures of several ``Statistics``, in their order."""
    return [name for one in statistics for name in one.names]


def resampled(systems: Sequence[Sequence[Statistics]], resampling: Resampling) -> Floats:
    """The figures of every system in the same resamples; (systems, num_resamples, F).

    Raises:
        ScoringError: the systems have different numbers of images.
    """
    counts, parts = _stacked(systems)
    sums = np.concatenate([block @ counts for block in resampling.weights(len(counts))])
    return np.stack([_figures(sums, system) for system in parts])


def percentiles(values: Floats, confidence: float) -> Interval:
    """The middle ``confidence`` of ``values`` (R,); nan if all of them are."""
    if np.isnan(values).all():
        return Interval(float("nan"), float("nan"))
    outside = (1 - confidence) / 2
    low, high = np.nanquantile(values, [outside, 1 - outside])
    return Interval(float(low), float(high))


_Parts = list[list[tuple[Statistics, slice]]]  # of each system, with the columns of its counts


def _stacked(systems: Sequence[Sequence[Statistics]]) -> tuple[Floats, _Parts]:
    """All counts beside each other (N, K), and whose columns are whose."""
    parts: _Parts = []
    width = 0
    for statistics in systems:
        parts.append([])
        for one in statistics:
            parts[-1].append((one, slice(width, width := width + one.counts.shape[1])))
    counts = [one.counts for statistics in systems for one in statistics]
    if len({len(each) for each in counts}) > 1:
        raise ScoringError("the systems to compare have captions of different images")
    return np.concatenate(counts, axis=1), parts


def _figures(sums: Floats, system: list[tuple[Statistics, slice]]) -> Floats:
    """(R, F) figures of one system from sums (R, K) of all systems."""
    return np.concatenate([one.combine(sums[:, columns]) for one, columns in system], axis=1)


def _swapped(systems: Sequence[Sequence[Statistics]], resampling: Resampling) -> list[Floats]:
    """For each system but the first, its differences (R, F) from it with captions swapped."""
    stacked = [_stacked([statistics]) for statistics in systems]
    first, [parts] = stacked[0]
    gains = np.concatenate([counts - first for counts, _ in stacked[1:]], axis=1)
    moved = np.concatenate([block @ gains for block in resampling.swaps(len(first))])
    found = []
    for place, (counts, [own_parts]) in enumerate(stacked[1:]):
        width = counts.shape[1]
        part = moved[:, place * width : (place + 1) * width]
        theirs = _figures(first.sum(axis=0) + part, parts)
        ours = _figures(counts.sum(axis=0) - part, own_parts)
        found.append(ours - theirs)
    return found


def _p_bootstrap(drawn: Floats, observed: float) -> float:
    drawn = drawn[~np.isnan(drawn)]
    if np.isnan(observed):  # a figure without a value shows no difference
        return 1.0
    fewer = min((drawn <= _TIE).sum(), (drawn >= -_TIE).sum())
    return float(min(1.0, 2 * (fewer + 1) / (len(drawn) + 1)))


def _p_randomisation(drawn: Floats, observed: float) -> float:
    drawn = drawn[~np.isnan(drawn)]
    if np.isnan(observed):
        return 1.0
    as_large = (np.abs(drawn) >= abs(observed) - _TIE).sum()
    return float((as_large + 1) / (len(drawn) + 1))
