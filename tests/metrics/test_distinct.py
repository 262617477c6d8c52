"""Distinct values in parts are those that numpy finds at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from showtell.metrics import ngrams as distinct
from showtell.metrics.ngrams import count_distinct, number_distinct


@pytest.fixture(autouse=True, scope="module")
def _small_parts():
    patch = pytest.MonkeyPatch()
    patch.setattr(distinct, "PART", 8)
    patch.setattr(distinct, "SAMPLES", 4)
    yield
    patch.undo()


VALUES = arrays(np.int64, st.integers(0, 300), elements=st.integers(-5, 40))


@given(VALUES)
def test_numbers_are_numpys(values: np.ndarray) -> None:
    keys, ids = number_distinct(values)
    wanted, places = np.unique(values, return_inverse=True)
    assert np.array_equal(keys, wanted)
    assert np.array_equal(ids, places)


@given(VALUES, st.integers(1, 30))
def test_counts_are_numpys(values: np.ndarray, group: int) -> None:
    groups = np.arange(len(values)) // group
    rising = groups * 100 + values
    for found, wanted in zip(
        count_distinct(rising, groups), np.unique(rising, return_counts=True), strict=True
    ):
        assert np.array_equal(found, wanted)


def test_values_far_apart_and_many_parts() -> None:
    values = np.random.default_rng(0).integers(-(2**62), 2**62, 20_000)
    values[::3] = 7
    keys, ids = number_distinct(values)
    assert np.array_equal(keys[ids], values)
    assert np.array_equal(keys, np.unique(values))
