"""The form of captions: their length, endings and repeated phrases. No references are needed.

The list of bad endings is that of Luo's self-critical.pytorch; the other two are plain counts.
"""

from collections.abc import Sequence

import numpy as np

from showtell.metrics.references import Captions
from showtell.metrics.statistics import Better, Statistics
from showtell.text.tokenizer import BAD_ENDINGS

VERSION = "1"

REPEATED = (2, 3, 4)


NAMES = ("length", "bad-endings", *(f"repeats-{n}" for n in REPEATED))
BETTER: dict[str, Better] = dict.fromkeys(NAMES[1:], "lower")


def statistics(captions: Captions) -> Statistics:
    """The mean number of words, and shares of captions.

    Bad endings are English words, so captions in other languages have no such figure; one is a word
    of ``BAD_ENDINGS``. A repeat of n words is a sequence of n words that a caption has twice, as in
    "a dog and a dog".
    """
    lengths = [len(words) for words in captions.words]
    is_english = captions.references.segmentation.is_english
    endings = [bool(words) and words[-1] in BAD_ENDINGS for words in captions.words]
    repeated = [[repeats(words, n) for words in captions.words] for n in REPEATED]
    columns = zip(NAMES, (lengths, endings, *repeated), strict=True)
    return Statistics.joined(
        [
            Statistics.mean(name, np.array(column, np.float64))
            for name, column in columns
            if is_english or name != "bad-endings"
        ]
    )


def repeats(words: Sequence[str], n: int) -> bool:
    """Whether a sequence of ``n`` words occurs twice; the two may overlap."""
    grams = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    return len(set(grams)) < len(grams)
