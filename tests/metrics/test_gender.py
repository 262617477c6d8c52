"""Gender: the labels of pictures, errors and unsupported words, by arithmetic."""

import math

import pytest

from showtell.metrics.gender import GROUPS, WORDS, genders, ratio_of_references, statistics_of_words
from showtell.metrics.object_hallucination import ObjectWords

# (caption, references), and what each adds to the sums.
PICTURES = [
    ("a man skis", ["a woman skis", "a person skis"]),  # agreed on female; wrong; unsupported
    ("a woman skis", ["a woman skis", "a lady skis"]),  # agreed on female; female
    ("a skier", ["the girl skis", "her skis"]),  # agreed on female; neutral
    ("a man and a woman", ["a man", "he skis"]),  # agreed on male; names both; a woman unsupported
    ("boys", ["a man", "a boy"]),  # agreed on male; male
    ("a woman", ["a man and a woman", "people"]),  # both are there: no label
    ("a woman", ["a tennis player with her racket"]),  # no label, yet a pronoun supports it
    ("a guy", ["a surfer on a wave"]),  # no label; unsupported
    ("a cow and her calf", ["cows"]),  # names nobody
]


def test_by_hand() -> None:
    captions = [caption.split() for caption, _ in PICTURES]
    references = [[text.split() for text in texts] for _, texts in PICTURES]
    found = {one.names[0]: one for one in statistics_of_words(captions, references)}
    sums = {name: one.counts.sum(axis=0).tolist() for name, one in found.items()}
    assert sums == {
        "gender-error": [1, 5],
        "gender-neutral": [1, 5],
        "gender-ratio": [1, 2],
        "gender-unsupported": [3, 8],
    }
    assert found["gender-error"].figures() == [1 / 5]
    assert math.isnan(found["gender-error"].per_image[5, 0])
    assert ratio_of_references(references) == 3 / 2


def test_nothing_to_count() -> None:
    found = statistics_of_words([["a", "dog"]], [[["a", "dog"]]])
    assert all(math.isnan(one.figures()[0]) for one in found)
    assert math.isnan(ratio_of_references([[["a", "dog"]]]))


def test_the_tables_share_no_word_and_know_the_groups() -> None:
    assert not WORDS["female"] & WORDS["male"]
    for group, words in GROUPS.items():
        gender = "male" if group in ("man", "boy") else "female"
        assert all(genders([word]) == {gender} for word in words)


@pytest.mark.parametrize("word", ["man", "women", "fathers", "bride", "cowboys", "guy"])
def test_gendered_words_are_people(word: str) -> None:
    assert ObjectWords.default().mentioned([word]) == ["person"]
