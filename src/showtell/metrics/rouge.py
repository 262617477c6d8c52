"""ROUGE-L as COCO computes it (Lin 2004, section 3: the longest common subsequence).

The best precision and the best recall are taken over the references independently; beta is 1.2.
The length of a longest common subsequence is computed with the bits of an integer (Hyyrö 2004,
"Bit-parallel LCS-length computation revisited", figure 3): one addition for each reference word.
"""

from collections.abc import Sequence

import numpy as np

from showtell.metrics.references import Captions
from showtell.metrics.statistics import Statistics

VERSION = "1"

_BETA_SQUARED = 1.2**2


def statistics(captions: Captions) -> Statistics:
    """ROUGE-L of one caption an image."""
    pairs = zip(captions.words, captions.references.captions, strict=True)
    return Statistics.mean("ROUGE-L", np.array([rouge_l(*pair) for pair in pairs]))


def rouge_l(hypothesis: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """ROUGE-L of one caption against an image's references, 0 to 1.

    A caption without words counts as one empty word, as in COCO's program, where splitting an empty
    string gives one.
    """
    hypothesis = hypothesis or [""]
    masks: dict[str, int] = {}
    for place, word in enumerate(hypothesis):
        masks[word] = masks.get(word, 0) | (1 << place)
    full = (1 << len(hypothesis)) - 1
    precision = recall = 0.0
    for reference in references:
        row = full
        for word in reference or [""]:
            mask = masks.get(word)
            if mask is not None:
                hits = row & mask
                row = ((row + hits) | (row - hits)) & full
        common = len(hypothesis) - row.bit_count()
        precision = max(precision, common / len(hypothesis))
        recall = max(recall, common / (len(reference) or 1))
    if not precision or not recall:
        return 0.0
    return (1 + _BETA_SQUARED) * precision * recall / (recall + _BETA_SQUARED * precision)
