"""Diversity: counts by hand, self-CIDEr by the official CIDEr-D and its authors' formula."""

import math
from typing import Any

import numpy as np
import pytest

from showtell.metrics.diversity import (
    DocumentFrequencies,
    distinct,
    novel,
    of_each_picture,
    self_cider,
    statistics,
)
from showtell.metrics.references import Captions, References

CAPTIONS = [text.split() for text in ("a dog runs", "a dog runs", "a cat", "")]
REFERENCES = [
    [text.split() for text in texts]
    for texts in (
        ["a dog runs on the grass", "the dog is running", "a brown dog on grass"],
        ["a cat sleeps on a mat", "the cat is asleep"],
        ["two people ride on a bus", "people on the bus"],
    )
]
SETS = [
    [
        ["a", "dog", "runs", "on", "the", "grass"],
        ["a", "brown", "dog", "runs", "on", "grass"],
        ["the", "animal", "is", "on", "a", "meadow", "today"],
        ["a", "dog"],
    ],
    [["a", "cat", "sleeps", "here"]] * 3,
    [["a", "bus"]],
]


def test_by_hand() -> None:
    captions = Captions([" ".join(c) for c in CAPTIONS], References({n: ["x"] for n in "1234"}))
    found = statistics(captions)
    # a, dog, runs, cat; a dog, dog runs, a cat; of 8 words
    expected = {"distinct-1": 4 / 8, "distinct-2": 3 / 8, "vocabulary": 4, "unique": 3 / 4}
    assert dict(zip(found.names, found.figures().tolist(), strict=True)) == expected
    assert np.isnan(found.resampled(np.ones((3, 4)))).all()  # they do not follow from sums
    assert novel(captions, {("a", "dog", "runs"), ()}).figures() == [1 / 4]
    assert math.isnan(distinct([[]], 1))


def test_of_each_picture() -> None:
    found = of_each_picture(SETS, DocumentFrequencies(REFERENCES))
    assert found.per_image[:2, :2].tolist() == [[11 / 21, 14 / 21], [4 / 12, 3 / 12]]
    assert found.figures()[0] == pytest.approx((11 / 21 + 4 / 12) / 2)
    assert found.per_image[1, 2] == pytest.approx(0, abs=1e-6)  # three times the same
    assert np.isnan(found.per_image[2]).all()  # a single caption


def test_self_cider_is_that_of_its_authors() -> None:
    """As qingzwang/DiversityMetrics computes it, with the CIDEr-D of pycocoevalcap 1.2."""
    scorer = pytest.importorskip("pycocoevalcap.cider.cider_scorer").CiderScorer
    every = [gram for texts in REFERENCES for gram in {g for w in texts for g in _grams(w)}]

    def similarity(candidate: list[str], reference: list[str]) -> float:
        one: Any = scorer(test=" ".join(candidate), refs=[" ".join(reference)])
        for gram in every:
            one.document_frequency[gram] += 1
        # Its compute_score would count the documents of this pair alone.
        one.compute_doc_freq = lambda: None
        one.crefs, one.ctest = one.crefs * len(REFERENCES), one.ctest * len(REFERENCES)
        return float(one.compute_score()[0])

    captions = SETS[0]
    kernel = np.zeros((4, 4))
    for i in range(4):
        for j in range(i, 4):
            kernel[i, j] = kernel[j, i] = similarity(captions[i], captions[j])
    values = np.sqrt(np.linalg.svd(kernel)[1])
    expected = -np.log10(max(values) / values.sum()) / np.log10(4)
    assert 0.1 < expected < 1
    assert self_cider(captions, DocumentFrequencies(REFERENCES)) == pytest.approx(expected, 1e-12)


def _grams(words: list[str]) -> list[tuple[str, ...]]:
    return [
        tuple(words[start : start + n]) for n in range(1, 5) for start in range(len(words) - n + 1)
    ]


def test_extremes() -> None:
    frequencies = DocumentFrequencies(REFERENCES)
    different = [["one", "two", "three", "four", "five"], ["six", "seven", "eight", "nine", "ten"]]
    assert self_cider(different, frequencies) == pytest.approx(1)
    assert self_cider([["on"], ["on"]], frequencies) != self_cider(different, frequencies)
    assert math.isnan(self_cider([[], []], frequencies))
