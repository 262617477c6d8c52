"""Statistics that are made of others, and figures that do not follow from sums."""

import pickle

import numpy as np

from showtell.metrics import evaluate
from showtell.metrics.evaluate import CHECKS
from showtell.metrics.statistics import Statistics

PARTS = [
    Statistics.mean("mean", np.array([1.0, 2.0, 6.0])),
    Statistics.of_whole("whole", 7.0, 3),
    Statistics.ratio("ratio", np.array([1.0, 0.0, 2.0]), np.array([2.0, 0.0, 2.0])),
]


def test_joined_gives_what_each_gives() -> None:
    joined = pickle.loads(pickle.dumps(Statistics.joined(PARTS)))
    assert joined.names == ("mean", "whole", "ratio")
    assert joined.figures().tolist() == [3.0, 7.0, 0.75]
    weights = np.array([[3.0, 0.0, 0.0], [0.0, 1.0, 2.0]])
    expected = np.concatenate([part.resampled(weights) for part in PARTS], axis=1)
    np.testing.assert_array_equal(joined.resampled(weights), expected)
    assert np.isnan(expected[:, 1]).all()
    only = joined.only({"whole", "ratio"})
    assert only.figures().tolist() == [7.0, 0.75]
    assert (only.is_whole("whole"), only.is_whole("ratio")) == (True, False)


def test_every_check_in_one_table() -> None:
    said = {"1": "a man and a dog", "2": "a dog on a"}
    references = {"1": ["a woman with a dog"], "2": ["a cat", "a kitten"]}
    scores = evaluate(said, references, metrics=[], families=CHECKS)
    assert scores.metrics["CHAIR-i"] == 1 / 3
    assert scores.metrics["gender-error"] == 1.0
    assert scores.metrics["vocabulary"] == 5.0
    assert scores.remarks == {"2": "invents dog"}
    assert scores.signature.startswith("CHAIR.1+gender.1+diversity.1+wording.1|tok:")
    values = scores.with_intervals().to_dict(per_image=True)
    assert "vocabulary" not in values["per_image"]["1"] | values["intervals"]
    assert values["per_image"]["2"]["gender-error"] is None
    table = scores.table(per_image=True).splitlines()
    assert table[0] == f"{'CHAIR-i':<19}  0.3333"
    assert table[-1].startswith("2") and table[-1].endswith("  invents dog")
    assert evaluate(said, references, metrics=["length"]).metrics == {"length": 4.5}
