"""What an encoder says of pictures, as decoders and search take it.

Shapes use one alphabet throughout showtell: ``B`` captions of a batch, ``P`` distinct pictures,
``R`` regions, ``T`` tokens, ``D`` feature width, ``H`` hidden width, ``V`` vocabulary.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from showtell.encoders.concepts import Concepts
from showtell.encoders.store import FeatureStore


class Features(NamedTuple):
    """What an encoder says of ``P`` pictures, and which of them each of ``B`` captions is about.

    Attributes:
        pooled: (P, D) one vector a picture.
        regions: (P, R, D') grid features, None where the decoder needs none.
        mask: (P, R) True where a region is real, None where all are.
        picture_of: (B,) the picture of each caption, so that what is computed of a picture alone is
            computed once for all its captions; None where there is one caption a picture, in
            the pictures' order (B = P).
        concepts: words that the pictures may show; None: a decoder that wants some reads them
            from ``pooled``. With them, and without regions, it is of no picture.
    """

    pooled: Tensor
    regions: Tensor | None = None
    mask: Tensor | None = None
    picture_of: Tensor | None = None
    concepts: Concepts | None = None

    def to(self, device: torch.device | str) -> "Features":
        """The same features on another device."""
        return Features(
            self.pooled.to(device),
            None if self.regions is None else self.regions.to(device),
            None if self.mask is None else self.mask.to(device),
            None if self.picture_of is None else self.picture_of.to(device),
            None if self.concepts is None else self.concepts.to(device),
        )

    def by_caption(self, values: Tensor) -> Tensor:
        """(P, ...) of the pictures -> (B, ...) of the captions."""
        # Not values[picture_of], whose gradient is summed far slower on a processor.
        return values if self.picture_of is None else values.index_select(0, self.picture_of)


def load_features(
    store: FeatureStore,
    rows: NDArray[np.int64],
    views: NDArray[np.int64] | None = None,
    *,
    regions: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Features:
    """Features of some rows of a store on the processor.

    Args:
        rows: (P,) pictures.
        views: (P,) which view of each; None is view 0, the one without augmentation.
        regions: whether the grid is wanted too.
        dtype: of the grid; the pooled features, which are small, are in fp32.
    """
    if views is None:
        views = np.zeros_like(rows)
    pooled = torch.from_numpy(store.pooled(rows, views)).float()
    if not regions:
        return Features(pooled)
    # By way of fp32, which processors convert to and from: three times as fast as fp16 to bf16.
    return Features(pooled, torch.from_numpy(store.grid(rows, views)).float().to(dtype))
