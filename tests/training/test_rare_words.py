"""Captions for words that captions hardly ever use."""

from showtell.encoders.concepts import imagenet_words
from showtell.text.tokenizer import tokenize
from showtell.training.text_captions import MOST_CAPTIONS, captions_with_rare_words, words_like


def test_a_rare_word_stands_where_one_like_it_stood() -> None:
    captions = ["A plane in the sky.", "Two birds", "Look: a plane on a road"]
    made = captions_with_rare_words(captions, {"plane": 2}, {"rocket": ("plane",)}, 5)
    assert made == ["a rocket in the sky", "look a rocket on a road"]


def test_the_article_follows_the_word() -> None:
    assert captions_with_rare_words(
        ["a bird and a cat by an old bird"], {}, {"ostrich": ("bird",)}, 1
    ) == ["an ostrich and a cat by an old ostrich"]
    assert captions_with_rare_words(["an apple"], {}, {"pear": ("apple",)}, 1) == ["a pear"]


def test_a_word_that_is_there_often_enough_is_left_alone() -> None:
    captions = ["a bird"] * 3
    assert captions_with_rare_words(captions, {"owl": 5}, {"owl": ("bird",)}, 5) == []
    assert len(captions_with_rare_words(captions, {"owl": 4}, {"owl": ("bird",)}, 5)) == 3


def test_many_captions_give_some_from_all_over() -> None:
    captions = [f"a bird number {i}" for i in range(1000)] + ["a duck"] * 10
    made = captions_with_rare_words(captions, {}, {"owl": ("bird", "duck")}, 5)
    assert len(made) == MOST_CAPTIONS // 2 + 10
    numbers = [int(caption.split()[-1]) for caption in made[: MOST_CAPTIONS // 2]]
    assert numbers[0] == 0
    assert numbers[-1] > 800


def test_the_words_are_single_and_most_are_the_classifiers() -> None:
    """A word the classifier never says would only dilute what is learnt."""
    alike = words_like()
    named = {word for name in imagenet_words() for word in name.split()}
    assert all(
        tokenize(word) == [word] for word in (*alike, *(w for c in alike.values() for w in c))
    )
    assert not set(alike) - named
    assert not [word for word, common in alike.items() if word in common]
