"""Captions in neutral words keep what goes with each word."""

import pytest

from showtell.inference.caption import Caption, neutral_caption


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
