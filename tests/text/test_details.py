"""Captions without what is doubted of them: a table of cases, and that the rest stays as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from showtell.text.details import DETAILS, KINDS, without_doubted
from showtell.text.genders import WORDS

# What is said, which of its words are doubted, and what is left.
CASES = [
    ("a young girl in a red dress is running", "young red", "a girl is running"),
    ("a young girl in a red dress is running", "dress", "a young girl is running"),
    ("a young girl in a red dress is running", "girl", "a young child in a red dress is running"),
    ("a young man in a yellow shirt is surfing", "man yellow", "a young person is surfing"),
    # Two adjectives.
    ("a black and white dog is running", "black", "a white dog is running"),
    ("a black and white dog is running", "white", "a black dog is running"),
    ("a black and white dog is running", "black white", "a dog is running"),
    ("a small orange cat on a bed", "small", "an orange cat on a bed"),
    ("a small orange cat on a bed", "orange", "a small cat on a bed"),
    ("a very old elephant", "old", "an elephant"),
    ("a light blue umbrella on the sand", "blue", "an umbrella on the sand"),
    # Adjectives that describe no noun, or the only thing that tells two apart, or a kind of thing.
    ("a man dressed in black and white", "black white", "a man dressed in black and white"),
    ("the dog is brown", "brown", "the dog is brown"),
    ("a red car and a blue car", "red", "a red car and a blue car"),
    ("a two year old boy", "old", "a two year old boy"),
    ("a man riding a dirt bike", "dirt", "a man riding a dirt bike"),
    ("a black and white photo of a man", "black", "a black and white photo of a man"),
    ("a woman with blonde hair", "blonde", "a woman with blonde hair"),
    ("a horse on a grassy area", "grassy", "a horse on a grassy area"),
    # Clothes.
    ("a man wearing a hat is standing", "hat", "a man is standing"),
    ("a man in a black top hat is singing", "black", "a man is singing"),
    ("a girl in a pink bathing suit is in the pool", "suit", "a girl is in the pool"),
    ("a group of people in costumes are dancing", "costumes", "a group of people are dancing"),
    ("a man is wearing a red hat", "red hat", "a man is wearing a hat"),
    ("a man in a hat with a feather", "hat", "a man in a hat with a feather"),
    ("a man in a red shirt and a woman", "red", "a man in a shirt and a woman"),
    ("a man in a suit", "suit", "a man in a suit"),
    # Animals.
    ("a brown dog is running on the sand", "dog", "a brown animal is running on the sand"),
    ("two brown horses in a field", "horses", "two brown animals in a field"),
    ("a dog sitting on a car", "dog", "an animal sitting on a car"),
    ("a teddy bear on a bed", "bear", "a teddy bear on a bed"),
    ("a dog park in a city", "dog", "a dog park in a city"),
    ("a dog and a cat on a bed", "cat", "a dog and a cat on a bed"),
    # Postures, where a place is left.
    ("a brown dog is standing in the grass", "standing", "a brown dog is in the grass"),
    ("a giraffe standing next to a fence", "standing", "a giraffe next to a fence"),
    ("a man is jumping in the air", "jumping", "a man is jumping in the air"),
    ("a man is jumping over a fence", "jumping", "a man is jumping over a fence"),
    ("a boy standing and playing in a field", "playing", "a boy standing and playing in a field"),
    ("a boy is sitting", "sitting", "a boy is sitting"),
    # Other words stay, whatever is thought of them.
    ("a kite over a river", "kite river over", "a kite over a river"),
]


@pytest.mark.parametrize(("said", "doubted", "left"), CASES)
def test_what_is_left(said: str, doubted: str, left: str) -> None:
    words = said.split()
    pairs = without_doubted(words, [word in doubted.split() for word in words])
    assert " ".join(word for word, _ in pairs) == left


SOME = sorted(DETAILS | KINDS.keys() | WORDS["male"] | WORDS["female"])
MORE = ("a", "an", "and", "is", "in", "wearing", "very", "dressed", "running", "tree", "photo")
captions = st.lists(
    st.tuples(st.sampled_from([*MORE, *SOME[::3]]), st.booleans()), min_size=1, max_size=14
)


@given(captions)
def test_words_that_are_not_doubted_stay_in_their_order(caption: list[tuple[str, bool]]) -> None:
    words = [word for word, _ in caption]
    assert without_doubted(words, [False] * len(words)) == [
        (word, place) for place, word in enumerate(words)
    ]
    genders = WORDS["male"] | WORDS["female"]
    doubted = [is_doubted and word not in genders for word, is_doubted in caption]
    pairs = without_doubted(words, doubted)
    places = [place for _, place in pairs]
    assert places == sorted(set(places))
    gone = {words[place] for place in range(len(words)) if place not in places}
    beside = {"and", "very", "light", "in", "wearing", "a", "an", "the"}
    assert gone <= DETAILS | beside
    kept_for_sure = {n for n, mark in enumerate(doubted) if not mark and words[n] not in DETAILS}
    assert {n for n in kept_for_sure if words[n] not in beside} <= {*places}
    for word, place in pairs:
        if word != words[place]:
            assert word in KINDS.values() or {word, words[place]} == {"a", "an"}
