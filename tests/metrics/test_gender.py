"""Gender: the labels of pictures, errors and unsupported words, by arithmetic."""

import math

import pytest

from showtell.metrics.gender import NAMES, ratio_of_references, statistics
from showtell.metrics.object_hallucination import ObjectWords
from showtell.metrics.references import Captions, References
from showtell.text.genders import GROUPS, WORDS, genders

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
    references = References({str(n): texts for n, (_, texts) in enumerate(PICTURES)})
    found = statistics(Captions([caption for caption, _ in PICTURES], references))
    assert found.names == NAMES
    total = found.counts.sum(axis=0).tolist()
    # error, neutral, ratio, unsupported
    assert list(zip(total[::2], total[1::2], strict=True)) == [(1, 5), (1, 5), (1, 2), (3, 8)]
    assert found.figures().tolist() == [1 / 5, 1 / 5, 1 / 2, 3 / 8]
    assert math.isnan(found.per_image[5, 0])
    assert ratio_of_references(references.captions) == 3 / 2


def test_nothing_to_count() -> None:
    references = References({"1": ["a dog"]})
    assert all(map(math.isnan, statistics(Captions(["a dog"], references)).figures()))
    assert math.isnan(ratio_of_references(references.captions))


def test_the_tables_share_no_word_and_know_the_groups() -> None:
    assert not WORDS["female"] & WORDS["male"]
    for group, words in GROUPS.items():
        gender = "male" if group in ("man", "boy") else "female"
        assert all(genders([word]) == {gender} for word in words)


@pytest.mark.parametrize("word", ["man", "women", "fathers", "bride", "cowboys", "guy"])
def test_gendered_words_are_people(word: str) -> None:
    assert ObjectWords.default().mentioned([word]) == ["person"]
