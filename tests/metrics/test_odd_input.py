"""Odd captions, references and ids: answered as the official scorer answers, or in one line."""

import json
from typing import Any

import pytest
from odd_captions import CASES, GOLDEN, images_of, official_scores
from pytest import approx

from showtell.metrics import evaluate, meteor

# Made by tests/odd_captions.py: pycocoevalcap 1.2 (CoreNLP 3.4.1, METEOR 1.5) under Java 17.
OFFICIAL = json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES)
def test_odd_captions(case: str) -> None:
    captions, references = images_of(case)
    scores = evaluate(captions, references)
    expected = OFFICIAL[case]
    for metric, value in scores.metrics.items():
        assert value == approx(expected["corpus"][metric], abs=1e-12), metric
    for image_id, each in scores.per_image.items():
        theirs = expected["images"][image_id]
        assert each == approx({metric: theirs[metric] for metric in each}, abs=1e-12), image_id
    assert ("METEOR" in scores.metrics) == meteor.is_installed()
