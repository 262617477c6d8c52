"""Whether captions name the gender that people name (Hendricks et al. 2018, arXiv 1803.09797).

Section 4 of the paper labels a picture by its references: one gender or the other if a reference
names it and no reference names the other. Over these pictures it defines

    gender-error = captions that name the other gender alone / pictures
    gender-ratio = captions that name women alone / captions that name men alone

A caption with "person", or with both genders, is not an error; ``gender-neutral`` is the share of
captions that name none. Over all pictures, ``gender-unsupported`` is the share of genders that
captions name and no reference names: a guess, right or wrong.

Words are counted, not persons, and what a caption calls somebody is not who they are.
"""

from collections.abc import Sequence

import numpy as np

from showtell.metrics.references import Captions
from showtell.metrics.statistics import Better, Statistics
from showtell.text.genders import genders

VERSION = "1"

NAMES = ("gender-error", "gender-neutral", "gender-ratio", "gender-unsupported")
BETTER: dict[str, Better] = {"gender-error": "lower", "gender-unsupported": "lower"}

# A reference's "her racket" supports a caption's "woman"; a caption's "a cow and her calf" names
# no woman.
_PRONOUNS = {
    "female": frozenset({"she", "her", "hers", "herself"}),
    "male": frozenset({"he", "him", "his", "himself"}),
}


def statistics(captions: Captions) -> Statistics:
    """The four figures of one caption an image."""
    pairs = zip(captions.words, captions.references.captions, strict=True)
    rows = [_count(*pair) for pair in pairs]
    counts = np.array(rows, np.float64).reshape(-1, 7)
    agreed, wrong, neutral, female, male, unsupported, named = counts.T
    return Statistics.joined(
        [
            Statistics.ratio("gender-error", wrong, agreed),
            Statistics.ratio("gender-neutral", neutral, agreed),
            Statistics.ratio("gender-ratio", female, male),
            Statistics.ratio("gender-unsupported", unsupported, named),
        ]
    )


def _count(words: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[int, ...]:
    """What one caption adds to the sums of ``statistics``."""
    said = genders(words)
    seen = frozenset[str]().union(*map(genders, references))
    agreed = len(seen) == 1
    one = said if agreed and len(said) == 1 else frozenset[str]()
    mentioned = {word for reference in references for word in reference}
    supported = seen | {gender for gender, names in _PRONOUNS.items() if names & mentioned}
    return (
        agreed,
        bool(one - seen),
        agreed and not said,
        "female" in one,
        "male" in one,
        len(said - supported),
        len(said),
    )


def ratio_of_references(references: Sequence[Sequence[Sequence[str]]]) -> float:
    """What gender-ratio should be: pictures of women over pictures of men, by their references.

    nan where no references agree on men.
    """
    seen = [frozenset[str]().union(*map(genders, captions)) for captions in references]
    num_male = seen.count(frozenset({"male"}))
    return seen.count(frozenset({"female"})) / num_male if num_male else float("nan")
