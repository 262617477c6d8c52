"""Captions in other words keep what goes with each word."""

import numpy as np
import pytest

from showtell.decoding.hypotheses import Hypotheses
from showtell.inference.caption import Caption, captions_of, neutral_caption
from showtell.text.vocabulary import END, PAD, WordVocabulary


def caption(text: str, **more: object) -> Caption:
    words = tuple(text.split())
    log_probs = tuple(-0.1 * (place + 1) for place in range(len(words) + 1))
    return Caption(text, words, log_probs, 0.8, **more)  # type: ignore[arg-type]


def test_new_words_have_the_numbers_of_the_old_ones() -> None:
    attention = tuple((float(place), 0.0) for place in range(6))
    found = neutral_caption(caption("a policeman and his dog", attention=attention))
    assert found.text == "a police officer and their dog"
    assert found.words == tuple(found.text.split())
    assert found.log_probs == pytest.approx((-0.1, -0.2, 0.0, -0.3, -0.4, -0.5, -0.6))
    assert found.attention is not None
    assert [row[0] for row in found.attention] == [0, 1, 1, 2, 3, 4, 5]
    assert found.confidence == 0.8


def test_words_that_are_left_out_take_their_numbers_along() -> None:
    found = neutral_caption(caption("a female surfer"))
    assert found.words == ("a", "surfer")
    assert found.log_probs == pytest.approx((-0.1, -0.3, -0.4))


def test_alternatives_and_captions_that_a_person_would_write() -> None:
    found = neutral_caption(caption("a dog", alternatives=(caption("a man"),)))
    assert (found.text, found.alternatives[0].text) == ("a dog", "a person")
    written = Caption("A man, with his dog.", ("A", "man", ",", "with", "his", "dog", "."), (), 0.5)
    found = neutral_caption(written)
    assert found.text == "A person, with their dog."
    assert found.words == ("A", "person", ",", "with", "their", "dog", ".")
    assert found.log_probs == ()
    bare = Caption("A man and a woman", (), (), 0.5)
    assert neutral_caption(bare).text == "Two people"
    assert neutral_caption(Caption("", (), (), 0.0)).text == ""


VOCABULARY = WordVocabulary.build(dict.fromkeys(["a", "red", "man", "dog", "runs"], 1))


def found(said: list[str], doubted: list[str]) -> Hypotheses:
    """Captions of one picture, in some of whose words the detector does not believe."""
    ids = [[VOCABULARY.words.index(word) for word in text.split()] for text in said]
    tokens = np.full((1, len(said), 8), PAD)
    for row, each in enumerate(ids):
        tokens[0, row, : len(each) + 1] = [*each, END]
    log_probs = np.where(tokens != PAD, -np.arange(8, dtype=np.float32) / 8, np.float32(0))
    sums = log_probs.sum(axis=2)
    marks = np.isin(tokens, [VOCABULARY.words.index(word) for word in doubted])
    return Hypotheses(tokens, log_probs, sums, sums, doubted=marks)


def test_what_is_doubted_is_not_said() -> None:
    (best,) = captions_of(
        found(["a red dog runs", "a dog runs", "a man runs"], ["red", "man"]), VOCABULARY
    )
    assert (best.text, best.words) == ("a dog runs", ("a", "dog", "runs"))
    assert best.log_probs == (0, -2 / 8, -3 / 8, -4 / 8)  # those of the words that are left
    # The second says nothing else now, so it is left out.
    assert [other.text for other in best.alternatives] == ["a person runs"]


def test_what_was_asked_for_is_said_though_it_is_doubted() -> None:
    (best,) = captions_of(
        found(["a red man runs", "a red dog runs"], ["red", "man"]),
        VOCABULARY,
        allows=lambda words: "red" in words,
    )
    assert [best.text, best.alternatives[0].text] == ["a red man runs", "a red dog runs"]


def test_equal_captions_stay_where_nothing_was_left_out() -> None:
    (best,) = captions_of(found(["a dog runs", "a dog runs"], []), VOCABULARY)  # two samples
    assert [other.text for other in best.alternatives] == ["a dog runs"]
