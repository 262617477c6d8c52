"""Learning to choose: the weights of the signs, the detector, and what a model says with them."""

from dataclasses import replace

import numpy as np
import pytest

from showtell.decoding.reranking import SIGNS
from showtell.evaluation.calibration import cross_calibrated, fit_calibration
from showtell.inference.caption import Calibration
from showtell.training.reranking import fit_choice


def drawn(num: int, helpful: int, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Signs of hypotheses, one of which says how good they are, with noise."""
    random = np.random.default_rng(seed)
    signs = [random.normal(size=(random.integers(2, 6), len(SIGNS))) for _ in range(num)]
    scores = [each[:, helpful] + random.normal(size=len(each)) for each in signs]
    return signs, scores


@pytest.mark.parametrize("helpful", [0, 3, 10])
def test_the_weights_find_the_sign_that_helps(helpful: int) -> None:
    choice = fit_choice(*drawn(600, helpful, 0))
    assert int(np.abs(choice).argmax()) == helpful
    assert choice[helpful] > 0
    signs, scores = drawn(600, helpful, 1)
    chosen = np.mean([s[(x @ choice).argmax()] for x, s in zip(signs, scores, strict=True)])
    by_sign = np.mean([s[x[:, helpful].argmax()] for x, s in zip(signs, scores, strict=True)])
    first = np.mean([s[0] for s in scores])
    assert chosen > first + 0.5 * (by_sign - first)


def test_scales_and_constants_of_signs_change_no_choice() -> None:
    signs, scores = drawn(200, 4, 2)
    scale = np.linspace(0.01, 50, len(SIGNS))
    one = fit_choice(signs, scores)
    other = fit_choice([each * scale + 3 for each in signs], scores)
    np.testing.assert_allclose(other * scale, one, rtol=1e-6, atol=1e-9)


def test_a_sign_that_never_differs_gets_no_part() -> None:
    signs, scores = drawn(200, 4, 3)
    for each in signs:
        each[:, 7] = 2.5
    choice = fit_choice(signs, scores)
    assert np.isfinite(choice).all()
    assert choice[7] == 0


def test_signs_make_confidence_better_where_they_tell_more() -> None:
    random = np.random.default_rng(4)
    signs = random.normal(size=(500, len(SIGNS)))
    means = random.normal(size=500) - 2
    ciders = 0.25 + 0.3 * signs[:, 5] + 0.1 * (means + 2) + 0.1 * random.normal(size=500)
    plain = cross_calibrated(list(means), list(ciders))
    told = cross_calibrated(list(means), list(ciders), signs=signs.tolist())
    fine = ciders >= 0.25
    assert np.mean((np.array(told) > 0.5) == fine) > np.mean((np.array(plain) > 0.5) == fine) + 0.2
    fitted = fit_calibration(list(means), list(ciders), signs=signs.tolist(), data="x")
    assert int(np.abs(fitted.signs).argmax()) == 5
    again = Calibration.of({"calibration": fitted.to_dict()})
    assert again == fitted
    with pytest.raises(ValueError, match="calibration"):
        Calibration.of({"calibration": replace(fitted, signs=(1.0,)).to_dict()})
