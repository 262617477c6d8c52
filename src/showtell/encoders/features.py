"""``Features``: what decoders and search read about pictures.

Their arrays are torch's, or NumPy's where a model runs without torch: this module imports none.

Shapes use one alphabet throughout showtell: ``B`` captions of a batch, ``P`` distinct pictures,
``R`` regions, ``T`` tokens, ``D`` feature width, ``H`` hidden width, ``V`` vocabulary.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from showtell.encoders.store import FeatureStore

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Concepts(NamedTuple):
    """Words that may fit a picture.

    Attributes:
        words: (P, K) ids of the vocabulary, ``<pad>`` where there are fewer.
        scores: (P, K) how sure the classifier is of each, from 0 to 1.
    """

    words: "Tensor"
    scores: "Tensor"

    def to(self, device: "torch.device | str") -> "Concepts":
        """The same on another device."""
        return Concepts(self.words.to(device), self.scores.to(device))


class Closer(NamedTuple):
    """What a classifier finds in parts of pictures; of each word, its largest score counts.

    Attributes:
        rare_word: (P,) the likeliest of the ``concepts.RARE`` words; ``<pad>`` if there is none.
        rare_score: (P,) its score, from 0 to 1.
        uncommon_score: (P,) the largest score of a ``concepts.UNCOMMON`` word in the whole
            picture.
        concepts: the likeliest of all words.
    """

    rare_word: "Tensor"
    rare_score: "Tensor"
    uncommon_score: "Tensor"
    concepts: Concepts


class Features(NamedTuple):
    """An encoder's features of ``P`` pictures, and which picture each of ``B`` captions is about.

    Attributes:
        pooled: (P, D) one vector for each picture.
        regions: (P, R, D') grid features; None if the decoder needs none.
        mask: (P, R) True where a region is real; None if all are.
        picture_of: (B,) the picture of each caption. Work that depends on the picture alone is then
            done once for all its captions. None if each picture has one caption, in the
            pictures' order (B = P).
        concepts: words that the pictures may show. None: a decoder with concepts reads them from
            ``pooled``. Concepts without regions stand for a caption without a picture.
    """

    pooled: "Tensor"
    regions: "Tensor | None" = None
    mask: "Tensor | None" = None
    picture_of: "Tensor | None" = None
    concepts: Concepts | None = None

    def to(self, device: "torch.device | str") -> "Features":
        """The same features on another device."""
        return Features(
            self.pooled.to(device),
            None if self.regions is None else self.regions.to(device),
            None if self.mask is None else self.mask.to(device),
            None if self.picture_of is None else self.picture_of.to(device),
            None if self.concepts is None else self.concepts.to(device),
        )

    def by_caption(self, values: "Tensor") -> "Tensor":
        """(P, ...) of the pictures -> (B, ...) of the captions."""
        # The gradient of values[picture_of] is much slower to sum on a processor.
        return values if self.picture_of is None else values.index_select(0, self.picture_of)


def load_features(
    store: FeatureStore,
    rows: NDArray[np.int64],
    views: NDArray[np.int64] | None = None,
    *,
    regions: bool = False,
    dtype: "torch.dtype | None" = None,
) -> Features:
    """Read the features of some rows of a store, onto the processor.

    Args:
        rows: (P,) pictures.
        views: (P,) which view of each; None: the evaluation view, 0.
        regions: whether to read the grid too.
        dtype: of the grid, by default fp32; pooled features are small, and in fp32.
    """
    import torch

    if views is None:
        views = np.zeros_like(rows)
    pooled = torch.from_numpy(store.pooled(rows, views)).float()
    if not regions:
        return Features(pooled)
    # Through fp32, which processors convert fast: three times as fast as fp16 to bf16 directly.
    return Features(
        pooled, torch.from_numpy(store.grid(rows, views)).float().to(dtype or torch.float32)
    )
