"""The form of captions: their length, endings and repeated phrases. No references are needed.

The list of bad endings is that of Luo's self-critical.pytorch; the other two are plain counts.
"""

from collections.abc import Sequence

import numpy as np

from showtell.metrics.statistics import Statistics
from showtell.text.tokenizer import BAD_ENDINGS

VERSION = "1"

REPEATED = (2, 3, 4)


def statistics_of_words(captions: Sequence[Sequence[str]]) -> tuple[Statistics, ...]:
    """ "length", "bad-endings" and "repeats-2" to "repeats-4" of N captions, by their words.

    The length is the mean number of words. A bad ending is one of ``BAD_ENDINGS``. A repeat of n
    words is a sequence of n words that a caption has twice, as "a dog and a dog and".
    """
    endings = [bool(words) and words[-1] in BAD_ENDINGS for words in captions]
    return (
        Statistics.mean("length", np.array([len(words) for words in captions], np.float64)),
        Statistics.mean("bad-endings", np.array(endings, np.float64)),
        *(
            Statistics.mean(f"repeats-{n}", np.array([repeats(w, n) for w in captions], np.float64))
            for n in REPEATED
        ),
    )


def repeats(words: Sequence[str], n: int) -> bool:
    """Whether a sequence of ``n`` words occurs twice; the two may overlap."""
    grams = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    return len(set(grams)) < len(grams)
