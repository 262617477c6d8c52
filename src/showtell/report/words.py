"""Words, lengths and endings of a model's captions, compared with people's."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from showtell.text.segment import PTB, Segmentation
from showtell.text.tokenizer import BAD_ENDINGS


@dataclass(frozen=True)
class WordUse:
    """The words of a set of captions.

    Attributes:
        words: how often each occurs.
        lengths: how many captions have each number of words.
        endings: how often each word ends a caption that should not end with it; of captions in
            English alone.
        num_distinct: how many different captions there are.
    """

    words: Counter[str]
    lengths: Counter[int]
    endings: Counter[str]
    num_distinct: int

    @classmethod
    def of(cls, captions: Iterable[str], segmentation: Segmentation = PTB) -> "WordUse":
        """Cut captions into words, and count them."""
        tokenized = segmentation.words_of_all(list(captions))
        endings = BAD_ENDINGS if segmentation.is_english else frozenset[str]()
        return cls(
            Counter(word for words in tokenized for word in words),
            Counter(len(words) for words in tokenized),
            Counter(words[-1] for words in tokenized if words and words[-1] in endings),
            len({tuple(words) for words in tokenized}),
        )

    @property
    def num_captions(self) -> int:
        return sum(self.lengths.values())

    @property
    def mean_length(self) -> float:
        """Mean number of words in a caption."""
        return self.words.total() / max(self.num_captions, 1)

    @property
    def bad_endings(self) -> float:
        """Share of captions that end in a word such as "a" or "with"."""
        return self.endings.total() / max(self.num_captions, 1)

    def share(self, word: str) -> float:
        """Share of this word among all words."""
        return self.words[word] / max(self.words.total(), 1)

    def length_share(self, length: int) -> float:
        """Share of captions with this many words."""
        return self.lengths[length] / max(self.num_captions, 1)


def unlike(said: WordUse, people: WordUse, num: int = 10) -> tuple[list[str], list[str]]:
    """The words that set captions most apart from people's: said more often, and less often.

    Ranked by the log-likelihood ratio (Dunning 1993, section 5), which a rare word's chance
    occurrence does not raise.
    """
    ranked = {word: _likelihood_ratio(word, said, people) for word in said.words | people.words}
    more = sorted((w for w in ranked if ranked[w] > 0), key=lambda w: (-ranked[w], w))
    less = sorted((w for w in ranked if ranked[w] < 0), key=lambda w: (ranked[w], w))
    return more[:num], less[:num]


def _likelihood_ratio(word: str, said: WordUse, people: WordUse) -> float:
    """G2 of a word's counts in two texts; negative if the first text has fewer."""
    counts = said.words[word], people.words[word]
    totals = said.words.total(), people.words.total()
    if not all(totals):
        return 0.0
    expected = [total * sum(counts) / sum(totals) for total in totals]
    pairs = zip(counts, expected, strict=True)
    ratio = 2 * sum(count * math.log(count / e) for count, e in pairs if count)
    return ratio if counts[0] > expected[0] else -ratio
