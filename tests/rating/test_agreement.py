"""Agreement, correlations and the sign test, against published values, scipy and counting."""

from itertools import product

import numpy as np
import pytest
from pytest import approx

from showtell.rating.agreement import (
    Level,
    kendall_tau_b,
    krippendorff_alpha,
    pearson,
    sign_test,
    spearman,
)

_ = np.nan
# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: four observers.
OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
        [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
    ]
)


@pytest.mark.parametrize(
    ("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_krippendorff_s_own_example(level: Level, published: float) -> None:
    assert krippendorff_alpha(OBSERVERS, level) == approx(published, abs=5e-4)


def test_two_observers_of_two_values() -> None:
    """Section A of the same paper: alpha = 0.095."""
    meg = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    owen = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    assert krippendorff_alpha(np.array([meg, owen], float), "nominal") == approx(0.095, abs=5e-4)


def test_alpha_at_its_ends() -> None:
    same = np.array([[1.0, 2, 3, _], [1, 2, 3, 4]])
    assert krippendorff_alpha(same, "ordinal") == 1.0
    assert krippendorff_alpha(1 - np.eye(2), "nominal") < 0
    for empty in (np.full((2, 3), 4.0), np.array([[1.0, _], [_, 2.0]])):
        assert np.isnan(krippendorff_alpha(empty, "interval"))


def test_alpha_of_chance_is_near_zero() -> None:
    values = np.random.default_rng(0).integers(1, 6, (3, 3000)).astype(float)
    for level in ("nominal", "ordinal", "interval"):
        assert abs(krippendorff_alpha(values, level)) < 0.03


def test_correlations_are_scipy_s() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    for size in (3, 50, 1300):
        first = rng.integers(0, 5, size).astype(float)
        first[0] += 10
        second = first + rng.integers(0, 4, size)
        assert kendall_tau_b(first, second) == approx(stats.kendalltau(first, second)[0])
        assert spearman(first, second) == approx(stats.spearmanr(first, second)[0])
        assert pearson(first, second) == approx(stats.pearsonr(first, second)[0])
    for correlation in (kendall_tau_b, spearman, pearson):
        assert np.isnan(correlation(np.ones(3), np.arange(3.0)))


def test_sign_test_by_counting_all_tosses() -> None:
    for wins, losses in [(0, 0), (3, 0), (5, 2), (2, 2), (1, 8)]:
        total = wins + losses
        far = abs(wins - losses)
        tosses = [abs(2 * sum(toss) - total) >= far for toss in product((0, 1), repeat=total)]
        assert sign_test(wins, losses) == approx(sum(tosses) / len(tosses))
    assert sign_test(3000, 2800) == approx(0.00896944, abs=1e-8)  # scipy 1.17's binomtest
