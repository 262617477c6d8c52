"""Which tokens a word detector doubts, by hand."""

import numpy as np
import pytest

from showtell.config import DecodingConfig
from showtell.decoding.constraints.named_words import named_words
from showtell.decoding.doubt import Doubt
from showtell.decoding.reranking import SIGNS, Reranker
from showtell.text.subwords import SubwordVocabulary
from showtell.text.vocabulary import SPECIAL_WORDS, WordVocabulary

WORDS = (*SPECIAL_WORDS, "a", "red", "dog", "man", "woman", "boy", "tree")
A, RED, DOG, MAN, WOMAN, BOY, TREE = range(4, 11)
SEEN = (RED, DOG, MAN, WOMAN, TREE)  # what the detector knows: no boys
PRIOR = (0.05, 0.2, 0.4, 0.1, 0.1)


def detector() -> Reranker:
    return Reranker(
        words=np.array(SEEN),
        prior=np.array(PRIOR, np.float32),
        weight=np.zeros((len(SEEN), 3), np.float32),
        bias=np.zeros(len(SEEN), np.float32),
        num_windows=0,
        choice=np.zeros(len(SIGNS)),
    )


def doubted(below: float, captions: list[list[int]], *seen: float) -> list[list[bool]]:
    """For captions of one picture with these probabilities of the detector's words."""
    tokens = np.zeros((1, len(captions), max(map(len, captions))), np.int64)
    for row, caption in enumerate(captions):
        tokens[0, row, : len(caption)] = caption
    marks = Doubt.of(below, WORDS).marks(tokens, np.array([seen], np.float32), detector())
    return [row[: len(caption)] for row, caption in zip(marks[0].tolist(), captions, strict=True)]


def test_what_is_less_probable_than_without_a_picture_is_doubted() -> None:
    captions = [[A, RED, DOG], [A, DOG], [A, TREE]]
    nothing = [False, False]
    # The priors are 0.05 and 0.2. Trees are no detail.
    found = doubted(1, captions, 0.04, 0.19, 0.4, 0.1, 0.01)
    assert found == [[False, True, True], [False, True], nothing]
    found = doubted(1, captions, 0.06, 0.21, 0.4, 0.1, 0.01)
    assert found == [[False] * 3, nothing, nothing]
    found = doubted(2, captions, 0.09, 0.41, 0.4, 0.1, 0.01)
    assert found == [[False, True, False], nothing, nothing]


def test_the_gender_that_the_picture_speaks_against_is_doubted() -> None:
    captions = [[A, MAN], [A, WOMAN], [A, MAN, A, WOMAN], [A, DOG], [A, BOY]]
    nothing = [False, False]
    # Men are four times as frequent as women. In this picture they are three times as probable, so
    # it speaks for a woman; and a boy is a male word, though the detector does not know it.
    found = doubted(1, captions, 0.5, 0.5, 0.3, 0.1, 0.5)
    assert found == [[False, True], nothing, [False] * 4, nothing, [False, True]]
    found = doubted(1, captions, 0.5, 0.5, 0.5, 0.1, 0.5)  # five times
    assert found == [nothing, [False, True], [False] * 4, nothing, nothing]
    found = doubted(0.7, captions, 0.5, 0.5, 0.3, 0.1, 0.5)  # 3/4 of what is usual is enough
    assert found == [nothing, nothing, [False] * 4, nothing, nothing]


def test_words_of_other_languages_and_pieces_of_words_are_not_doubted() -> None:
    counts = dict.fromkeys(["a", "red", "dog", "man"], 2)
    english, german = WordVocabulary.build(counts), WordVocabulary.build(counts)
    german.language = "de"
    settings = DecodingConfig(doubt=1)
    assert named_words(settings, english).doubt == Doubt.of(1, english.words)
    assert named_words(DecodingConfig(), english).doubt is None
    for other in (german, SubwordVocabulary.build(counts, 3)):
        assert named_words(settings, other).doubt is None


@pytest.mark.parametrize(
    ("caption", "is_allowed"),
    [
        ("a red dog", True),
        ("a big red dog", True),
        ("a dog", False),
        ("a red dog in a park", False),
        ("a red dog in a big tree", False),
        ("a red dog in a tree", True),
    ],
)
def test_what_is_asked_for_comes_first(caption: str, is_allowed: bool) -> None:
    vocabulary = WordVocabulary.build(
        dict.fromkeys(["a", "red", "dog", "in", "park", "big", "tree"], 1)
    )
    asked = DecodingConfig(required_words=("red dog",), forbidden_words=("big tree", "park"))
    assert named_words(asked, vocabulary).allows(caption.split()) is is_allowed
