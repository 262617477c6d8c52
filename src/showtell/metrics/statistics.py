"""What a metric needs of each image, so that its figures follow for any resample of the images.

Corpus BLEU is no mean over images, nor is METEOR or the share of invented objects: all three
are functions of sums of counts. ``Statistics`` keeps the counts of each image and that function,
and a mean is the special case of a score and a one. Resampling images is then a product of a
matrix of weights with the counts (as in Koehn 2004, "Statistical significance tests for machine
translation evaluation", section 3, without scoring anything again).
"""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

Better = Literal["higher", "lower"]
"""Which values of a figure are better."""


@dataclass(frozen=True)
class Statistics:
    """Figures of N captions as a function of sums over their images.

    Attributes:
        names: F names of figures.
        counts: (N, K) what each image adds to the sums.
        combine: sums (..., K) -> figures (..., F). A function of a module, or a ``partial`` of one:
            scores travel between processes.
        per_image: (N, F) the figures of each image alone; nan where an image alone has none.
        whole: (F,) figures that do not follow from sums, such as a number of different words; they
            have no value for a resample. nan for those that do follow. None: all do.
        remarks: (N,) what a person should know of each image, such as the objects that its caption
            invents; empty where there is nothing of the kind.
    """

    names: tuple[str, ...]
    counts: Floats
    combine: Callable[[Floats], Floats]
    per_image: Floats
    whole: Floats | None = None
    remarks: tuple[str, ...] = ()

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

    @classmethod
    def of_whole(cls, name: str, value: float, num_images: int) -> Self:
        """Of a figure that does not follow from sums over the images."""
        counts, per_image = np.zeros((num_images, 0)), np.full((num_images, 1), np.nan)
        return cls((name,), counts, _unknown, per_image, whole=np.array([value], np.float64))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The figures of several, of the same images, in their order."""
        ends = np.cumsum([part.counts.shape[1] for part in parts]).tolist()
        combines = tuple(part.combine for part in parts)
        nothing = [np.full(len(part.names), np.nan) for part in parts]
        return cls(
            tuple(name for part in parts for name in part.names),
            np.concatenate([part.counts for part in parts], axis=1),
            partial(_joined, combines, ends[:-1]),
            np.concatenate([part.per_image for part in parts], axis=1),
            np.concatenate(
                [
                    none if p.whole is None else p.whole
                    for p, none in zip(parts, nothing, strict=True)
                ]
            ),
            next((part.remarks for part in parts if part.remarks), ()),
        )

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
            whole=None if self.whole is None else self.whole[places],
        )

    def is_whole(self, name: str) -> bool:
        """Whether a figure does not follow from sums, so that no image and no resample has it."""
        return self.whole is not None and not np.isnan(self.whole[self.names.index(name)])

    def figures(self) -> Floats:
        """(F,) of all images."""
        # Column by column, which rounds as the mean of the scores does.
        figures = self.combine(np.array([column.sum() for column in self.counts.T]))
        return (
            figures if self.whole is None else np.where(np.isnan(self.whole), figures, self.whole)
        )

    def resampled(self, weights: Floats) -> Floats:
        """(R, F) figures of R resamples; ``weights`` (R, N) say how often each has each image."""
        return self.combine(weights @ self.counts)

    def at(self, images: NDArray[np.int64]) -> Self:
        """The statistics of these images, in this order; an image may occur again."""
        return replace(self, counts=self.counts[images], per_image=self.per_image[images])


def _selected(combine: Callable[[Floats], Floats], places: list[int], sums: Floats) -> Floats:
    return combine(sums)[..., places]


def _joined(
    combines: tuple[Callable[[Floats], Floats], ...], ends: list[int], sums: Floats
) -> Floats:
    parts = zip(combines, np.split(sums, ends, axis=-1), strict=True)
    return np.concatenate([combine(part) for combine, part in parts], axis=-1)


def _unknown(sums: Floats) -> Floats:
    return np.full((*sums.shape[:-1], 1), np.nan)


def _ratio(sums: Floats) -> Floats:
    """(..., 2) -> (..., 1); nan for a whole of 0."""
    whole = sums[..., 1:]
    return np.divide(sums[..., :1], whole, out=np.full_like(whole, np.nan), where=whole != 0)
