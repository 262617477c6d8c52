"""Captions in COCO's results format."""

import json

import pytest

from showtell.evaluation.evaluate import Evaluation
from showtell.inference.caption import Caption
from showtell.metrics.evaluate import evaluate


@pytest.mark.parametrize(
    ("image_id", "written"),
    [
        ("139", 139),
        ("0", 0),
        ("000139", "000139"),
        ("-3", "-3"),
        ("1.0", "1.0"),
        ("٣", "٣"),
        ("a.jpg", "a.jpg"),
        ("9" * 18, 10**18 - 1),
        ("9" * 5000, "9" * 5000),  # more digits than Python makes a number of
    ],
)
def test_ids_that_are_numbers_become_numbers(image_id: str, written: int | str) -> None:
    caption = Caption("a dog", ("a", "dog"), (-1.0, -1.0, -1.0), 0.4)
    scores = evaluate({image_id: "a dog"}, {image_id: ["a dog"]})
    [row] = Evaluation({image_id: caption}, scores).coco_results()
    assert json.loads(json.dumps(row)) == {"image_id": written, "caption": "a dog"}
