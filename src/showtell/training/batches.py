"""The features that a step reads: of which pictures, and of which random view of each.

Both depend only on (seed, step). So a run that was stopped in the middle of an epoch resumes
as if it had not been stopped, and several processes see together what one process would see.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from showtell.config import Config
from showtell.core.device import Runtime
from showtell.core.distributed import Processes
from showtell.encoders.features import Features, load_features
from showtell.encoders.store import FeatureStore

VIEW_STREAM = 1  # keeps the views' random numbers apart from the sampler's

Rows = NDArray[np.int64]


class Loader(Protocol):
    """Where an objective has its pictures' features from."""

    def expect(self, batches: Sequence[Rows], step: int) -> None:
        """Steps ``step``, ``step`` + 1, ... will ask for these rows; so it may read ahead."""

    def of_pictures(self, rows: Rows, step: int, part: Rows) -> Features:
        """One view of each picture of a batch's part, on the runtime's device.

        Args:
            rows: (P,) distinct ones, of the whole batch.
            part: (P',) places in ``rows``.
        """

    def of_captions(self, rows: Rows, step: int, part: Rows) -> Features:
        """The features that the captions of a batch's part are about.

        Args:
            rows: (B,) each caption's picture, of the whole batch.
            part: (B',) places in ``rows``, as ``part_of_captions`` gives them.
        """

    def part_of_captions(self, rows: Rows, processes: Processes) -> Rows:
        """Which captions of a batch are this process's, as places in ``rows``; perhaps none.

        Args:
            rows: (B,) each caption's picture.
        """

    def close(self) -> None:
        """Let go of what it holds."""


@dataclass(frozen=True)
class ViewLoader:
    """Loads features of random views of training pictures.

    Attributes:
        num_views: augmented views of each picture; view 0, without augmentation, comes besides.
        regions: whether the decoder needs the grid.
    """

    store: FeatureStore
    runtime: Runtime
    seed: int
    num_views: int
    regions: bool

    @classmethod
    def from_config(
        cls, store: FeatureStore, runtime: Runtime, config: Config, *, regions: bool
    ) -> "ViewLoader":
        """As the settings of a run ask."""
        return cls(store, runtime, config.seed, config.encoder.views, regions)

    def expect(self, batches: Sequence[Rows], step: int) -> None:
        """Rows of a store are there at once."""

    def close(self) -> None:
        """Nothing to let go of."""

    def of_pictures(self, rows: Rows, step: int, part: Rows) -> Features:
        """One view of each picture of a batch's part, on the runtime's device."""
        rng = np.random.default_rng((self.seed, step, VIEW_STREAM))
        views = rng.integers(0, self.num_views + 1, len(rows))
        features = load_features(
            self.store, rows[part], views[part], regions=self.regions, dtype=self.runtime.dtype
        )
        return features.to(self.runtime.device)

    def of_captions(self, rows: Rows, step: int, part: Rows) -> Features:
        """A view for each caption of a batch's part; with regions, one view a picture.

        Regions are large and looked at anew by each caption: what is computed of them is shared.
        """
        if not self.regions:
            return self.of_pictures(rows, step, part)
        rows, index = np.unique(rows, return_inverse=True)
        pictures, index = np.unique(index[part], return_inverse=True)
        features = self.of_pictures(rows, step, pictures)
        return features._replace(picture_of=torch.from_numpy(index).to(self.runtime.device))

    def part_of_captions(self, rows: Rows, processes: Processes) -> Rows:
        """With regions, a picture's captions stay together: what is computed of it is shared."""
        if not self.regions:
            return np.array(processes.part(len(rows)), np.int64)
        return part_of_pictures(rows, processes)


def part_of_pictures(rows: Rows, processes: Processes) -> Rows:
    """As ``part_of_captions``, all captions of a picture together."""
    _, index, counts = np.unique(rows, return_inverse=True, return_counts=True)
    first = (np.cumsum(counts) - counts)[index]  # captions of the pictures before
    own = processes.part(len(rows))
    return np.flatnonzero((first >= own.start) & (first < own.stop))
