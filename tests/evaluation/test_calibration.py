"""Confidence against quality: laws, and figures of scipy and scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from showtell.errors import ScoringError
from showtell.evaluation.calibration import (
    cross_calibrated,
    fit_calibration,
    measure_reliability,
    rank_correlation,
)
from showtell.inference.caption import Calibration, geometric_mean


def made_up(num: int, slope: float = 3.0, offset: float = 2.0) -> tuple[list[float], list[float]]:
    """Captions whose chance of being acceptable is known."""
    rng = np.random.default_rng(0)
    means = -rng.gamma(4, 0.2, num)
    fine = rng.random(num) < 1 / (1 + np.exp(-(slope * means + offset)))
    return list(means), list(np.where(fine, 1.0, 0.0))


def test_the_fit_finds_what_made_the_captions() -> None:
    means, ciders = made_up(20_000)
    fitted = fit_calibration(means, ciders, threshold=0.5, data="made up")
    assert fitted.slope == pytest.approx(3, rel=0.1)
    assert fitted.offset == pytest.approx(2, rel=0.1)
    assert (fitted.num_captions, fitted.data) == (20_000, "made up")
    found = measure_reliability([fitted(m) for m in means], ciders, threshold=0.5)
    assert found.error < 0.01
    raw = measure_reliability([math.exp(m) for m in means], ciders, threshold=0.5)
    assert raw.error > 5 * found.error
    assert found.rank_correlation == pytest.approx(raw.rank_correlation)


def test_the_fit_is_at_a_stationary_point() -> None:
    """The gradient of the log-likelihood of Platt's targets vanishes there."""
    means, ciders = made_up(300)
    fitted = fit_calibration(means, ciders, threshold=0.5)
    fine = np.array(ciders) > 0.5
    targets = np.where(fine, (fine.sum() + 1) / (fine.sum() + 2), 1 / ((~fine).sum() + 2))
    rest = np.array([fitted(m) for m in means]) - targets
    assert abs(rest.sum()) < 1e-3
    assert abs((rest * np.array(means)).sum()) < 1e-3


def test_separable_captions_have_a_finite_fit() -> None:
    fitted = fit_calibration([-3.0, -2.0, -1.0, -0.5], [0, 0, 1, 1], threshold=0.5)
    assert 0 < fitted.slope < 100
    assert fitted(-3) < 0.35 < 0.65 < fitted(-0.5)


def test_what_cannot_be_fitted_is_one_line() -> None:
    with pytest.raises(ScoringError, match="of 3 captions none have a CIDEr-D of 9 or more"):
        fit_calibration([-1, -2, -3], [1, 2, 3], threshold=9)
    with pytest.raises(ScoringError, match="captions all have"):
        fit_calibration([-1, -2, -3], [1, 2, 3], threshold=0)
    with pytest.raises(ScoringError, match="captions with a higher confidence are not better"):
        fit_calibration([-1, -2, -3, -4], [0, 0, 1, 1], threshold=0.5)
    with pytest.raises(ScoringError, match="2 captions or more"):
        measure_reliability([0.5], [1.0])


def test_each_caption_is_calibrated_by_the_others() -> None:
    means, ciders = made_up(50)
    sure = cross_calibrated(means, ciders, threshold=0.5)
    own = [i for i in range(50) if i % 5 != 2]
    fitted = fit_calibration([means[i] for i in own], [ciders[i] for i in own], threshold=0.5)
    assert sure[2::5] == [fitted(m) for m in means[2::5]]


@given(st.floats(-1e4, 0), st.floats(0, 100), st.floats(0.01, 50), st.floats(-50, 50))
def test_a_calibration_keeps_the_order(
    low: float, more: float, slope: float, offset: float
) -> None:
    calibration = Calibration(slope, offset, 0.25)
    one, two = calibration(low), calibration(min(0.0, low + more))
    assert 0 <= one <= two <= 1
    assert Calibration.of({"calibration": calibration.to_dict()}) == calibration


@pytest.mark.parametrize(
    "values", [{"slope": -1, "offset": 0, "cider": 1}, {"slope": 1}, {"no": 1}, [1, 2]]
)
def test_a_damaged_calibration_is_refused(values: object) -> None:
    with pytest.raises(ValueError, match="calibration"):
        Calibration.of({"calibration": values})


def test_rank_correlation_is_spearmans() -> None:
    """scipy 1.17.1, stats.spearmanr, with ties."""
    one = np.array([1.0, 2.0, 2.0, 4.0, 5.0, 3.0])
    other = np.array([2.0, 1.0, 3.0, 3.0, 6.0, 3.0])
    assert rank_correlation(one, other) == pytest.approx(0.8008534347, abs=1e-9)
    assert rank_correlation(one, one) == pytest.approx(1)
    assert rank_correlation(one, np.ones(6)) == 0


def test_bins_hold_all_captions_once() -> None:
    found = measure_reliability([0.1, 0.9, 0.5, 0.4, 0.6], [0, 2, 1, 0, 1], num_bins=2)
    assert [(b.low, b.high, b.num) for b in found.bins] == [(0.1, 0.5, 3), (0.6, 0.9, 2)]
    assert found.bins[0].cider == pytest.approx(1 / 3)
    assert found.acceptable == 0.6
    assert "60.0% of 5" in found.table()


def test_the_geometric_mean() -> None:
    assert geometric_mean((math.log(0.5), math.log(0.125))) == pytest.approx(0.25)
    assert geometric_mean(()) == 0
