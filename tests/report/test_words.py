import math

from hypothesis import given
from hypothesis import strategies as st

from showtell.report.words import WordUse, unlike

TEXTS = st.lists(st.lists(st.sampled_from("abcde"), max_size=6).map(" ".join), max_size=20)


def test_words_lengths_and_endings() -> None:
    use = WordUse.of(["A dog runs.", "a dog runs", "a man with a", "the cat is on", ""])
    assert use.words["a"] == 4
    assert use.lengths == {3: 2, 4: 2, 0: 1}
    assert use.endings == {"a": 1, "on": 1}
    assert (use.num_captions, use.num_distinct) == (5, 4)
    assert use.bad_endings == 2 / 5
    assert use.mean_length == 14 / 5


def test_what_sets_captions_apart() -> None:
    said = WordUse.of(["a dog runs"] * 30 + ["a cat sits"] * 10)
    people = WordUse.of(["a dog runs"] * 10 + ["the cat sits"] * 30)
    more, less = unlike(said, people, 2)
    assert more == ["a", "dog"]
    assert less == ["the", "cat"]


def test_the_order_is_dunnings() -> None:
    """G2 of Dunning (1993, section 5) worked out by hand: of b 0.23, of c 3.24."""
    said, people = WordUse.of(["a a a b"]), WordUse.of(["a b b b c c c c"])
    b = 2 * (1 * math.log(1 / (4 * 4 / 12)) + 3 * math.log(3 / (8 * 4 / 12)))
    c = 2 * (4 * math.log(4 / (8 * 4 / 12)))
    assert 0 < b < c
    assert unlike(said, people) == (["a"], ["c", "b"])


@given(TEXTS, TEXTS)
def test_more_for_one_is_less_for_the_other(one: list[str], two: list[str]) -> None:
    a, b = WordUse.of(one), WordUse.of(two)
    assert unlike(a, b) == unlike(b, a)[::-1]
    assert unlike(a, a) == ([], [])
    assert abs(sum(a.share(word) for word in a.words) - (1 if a.words else 0)) < 1e-9
