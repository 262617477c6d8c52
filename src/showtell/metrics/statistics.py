"""What a metric needs of each image, so that its figures follow for any resample of the images.

Corpus BLEU is no mean over images, nor is METEOR or the share of invented objects: all three
are functions of sums of counts. ``Statistics`` keeps the counts of each image and that function,
and a mean is the special case of a score and a one. Resampling images is then a product of a
matrix of weights with the counts (as in Koehn 2004, "Statistical significance tests for machine
translation evaluation", section 3, without scoring anything again).
"""

from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Statistics:
    """Figures of N captions as a function of sums over their images.

    Attributes:
        names: F names of figures.
        counts: (N, K) what each image adds to the sums.
        combine: sums (..., K) -> figures (..., F). A function of a module, or a ``partial`` of one:
            scores travel between processes.
        per_image: (N, F) the figures of each image alone; nan where an image alone has none.
    """

    names: tuple[str, ...]
    counts: Floats
    combine: Callable[[Floats], Floats]
    per_image: Floats

    @classmethod
    def mean(cls, name: str, scores: Floats) -> Self:
        """Of a metric that is the mean of the images' scores (N,)."""
        ones = np.ones(len(scores))
        return cls((name,), np.stack([scores, ones], axis=1), _ratio, scores[:, None])

    @classmethod
    def ratio(cls, name: str, parts: Floats, wholes: Floats) -> Self:
        """Of a share: the sum of ``parts`` (N,) over the sum of ``wholes`` (N,)."""
        counts = np.stack([parts, wholes], axis=1).astype(np.float64)
        return cls((name,), counts, _ratio, _ratio(counts))

    def only(self, wanted: Container[str]) -> Self:
        """Those of the figures whose names are wanted."""
        places = [place for place, name in enumerate(self.names) if name in wanted]
        if len(places) == len(self.names):
            return self
        return replace(
            self,
            names=tuple(self.names[place] for place in places),
            combine=partial(_selected, self.combine, places),
            per_image=self.per_image[:, places],
        )

    def figures(self) -> Floats:
        """(F,) of all images."""
        # Column by column, which rounds as the mean of the scores does.
        return self.combine(np.array([column.sum() for column in self.counts.T]))

    def resampled(self, weights: Floats) -> Floats:
        """(R, F) figures of R resamples; ``weights`` (R, N) say how often each has each image."""
        return self.combine(weights @ self.counts)

    def at(self, images: NDArray[np.int64]) -> Self:
        """The statistics of these images, in this order; an image may occur again."""
        return replace(self, counts=self.counts[images], per_image=self.per_image[images])


def _selected(combine: Callable[[Floats], Floats], places: list[int], sums: Floats) -> Floats:
    return combine(sums)[..., places]


def _ratio(sums: Floats) -> Floats:
    """(..., 2) -> (..., 1); nan for a whole of 0."""
    whole = sums[..., 1:]
    return np.divide(sums[..., :1], whole, out=np.full_like(whole, np.nan), where=whole != 0)
