"""Captions for words that a classifier has and captions hardly ever use.

A word that captions lack is spoken of as one like it is: "an airplane flying through a blue sky"
also teaches what is said of a rocket (Hendricks et al. 2016, arXiv 1511.05284, section 3.3, give an
unseen word the weights of the seen word nearest to it; here it gets some of that word's captions).
"""

from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from itertools import islice

from showtell.text.tokenizer import tokenize

MOST_CAPTIONS = 300  # that a rare word takes over
VOWELS = "aeiou"


def words_like() -> dict[str, tuple[str, ...]]:
    """For ImageNet's words that COCO's captions have little of, more common ones like them."""
    text = resources.files("showtell.training").joinpath("rare_words.txt").read_text("utf-8")
    pairs = (line.split(":") for line in text.splitlines())
    return {rare: tuple(alike.split()) for rare, alike in pairs}


def captions_with_rare_words(
    captions: Sequence[str],
    counts: Mapping[str, int],
    alike: Mapping[str, Sequence[str]],
    least: int,
) -> list[str]:
    """New captions in which rare words stand where words like them stood.

    Args:
        captions: of which some have the common words.
        counts: how often words are there.
        alike: for each rare word the common ones whose place it may take.
        least: a word that is there as often as this is not rare.
    """
    rare = {word: common for word, common in alike.items() if counts.get(word, 0) < least}
    wanted = {word for common in rare.values() for word in common}
    with_word: dict[str, list[list[str]]] = {word: [] for word in sorted(wanted)}
    for caption in captions:
        words = tokenize(caption)
        for word in wanted.intersection(words):
            with_word[word].append(words)
    made: list[str] = []
    for word, common in rare.items():
        share = MOST_CAPTIONS // len(common)
        for other in common:
            chosen = _spread(with_word[other], share)
            made.extend(" ".join(_in_place(words, other, word)) for words in chosen)
    return made


def _spread(items: Sequence[list[str]], most: int) -> Iterable[list[str]]:
    """At most so many of them, from all over."""
    return islice(items[:: max(len(items) // most, 1)], most)


def _in_place(words: Sequence[str], other: str, word: str) -> list[str]:
    """``words`` with ``word`` for ``other``, and the article that it wants."""
    changed = [word if old == other else old for old in words]
    article = "an" if word[0] in VOWELS else "a"
    return [
        article if here in ("a", "an") and following == word else here
        for here, following in zip(changed, [*changed[1:], ""], strict=True)
    ]
