"""The feature store: what an encoder saw in each picture, kept on disk and memory-mapped.

What lies in its folder is told in ``store_files.py``; ``store_writer.py`` writes it. Knows
nothing of pictures, encoders or torch.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from showtell.errors import StoreError
from showtell.features.store_files import (
    GRID_FILE,
    HALF,
    JOURNAL_FILE,
    POOLED_FILE,
    Half,
    Journal,
    Rows,
    StoreSpec,
    read_journal,
    read_spec,
)


class FeatureStore:
    """A store, opened to read from: a snapshot of what its journal named at that time.

    Attributes:
        path: Its folder.
        spec: What it was made with.
        failures: Image id -> why that picture could not be read.
    """

    def __init__(self, path: Path, spec: StoreSpec, journal: Journal) -> None:
        self.path = path
        self.spec = spec
        good = {key: line for key, line in journal.lines.items() if "error" not in line}
        self.failures: dict[str, str] = {
            key: line["error"] for key, line in journal.lines.items() if "error" in line
        }
        self._row_of = {image_id: row for row, image_id in enumerate(good)}
        self._first = np.array([line["first"] for line in good.values()], dtype=np.int64)
        self._views = np.array([line["views"] for line in good.values()], dtype=np.int64)
        self._pooled = self._map(POOLED_FILE, (journal.num_rows, spec.pooled_size))
        self._grid = (
            None
            if spec.grid_size is None
            else self._map(GRID_FILE, (journal.num_rows, *spec.grid_size))
        )

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        fingerprint: str | None = None,
        views: int | None = None,
        grid: bool = False,
    ) -> Self:
        """Open the store at ``path``, making sure that it is what the caller needs.

        Args:
            path: Its folder.
            fingerprint: Of the encoder that it must have been made by; None: any.
            views: Random views of each training picture that it must have; None: any.
            grid: Whether it must have grid features.

        Raises:
            StoreError: there is none, it is damaged, or it was made otherwise.
        """
        spec = read_spec(path)
        if spec is None:
            raise StoreError(
                f"no feature store at {path}; make it: showtell features DATA -o {path}"
            )
        spec.check(path, fingerprint=fingerprint, views=views, grid=grid)
        return cls(path, spec, read_journal(path))

    def __len__(self) -> int:
        """Pictures with features."""
        return len(self._row_of)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._row_of

    @property
    def image_ids(self) -> Iterable[str]:
        """Ids of the pictures with features, in the order of their row numbers."""
        return self._row_of.keys()

    def rows(self, image_ids: Sequence[str]) -> Rows:
        """Row numbers (B,) of pictures; resolve them once, then read by them.

        Raises:
            StoreError: some have no features: how many, which first, and what to do.
        """
        try:
            return np.array([self._row_of[image_id] for image_id in image_ids], dtype=np.int64)
        except KeyError:
            missing = [image_id for image_id in image_ids if image_id not in self._row_of]
        reason = self.failures.get(missing[0])
        detail = f": {reason}" if reason else f"; add them: showtell features DATA -o {self.path}"
        raise StoreError(
            f"{len(missing)} of {len(image_ids)} pictures have no features in {self.path}, "
            f"the first is {missing[0]!r}{detail}"
        )

    def num_views(self, rows: Rows) -> Rows:
        """How many views each picture has, (B,): its evaluation view and its random ones."""
        return self._views[rows]

    def pooled(self, rows: Rows, views: Rows | int = 0) -> Half:
        """Pooled features (B, D).

        Args:
            rows: (B,) row numbers.
            views: (B,) or one for all: 0 is the evaluation view, from 1 on the random ones.
        """
        return self._pooled.take(self._data_rows(rows, views), axis=0)

    def grid(self, rows: Rows, views: Rows | int = 0) -> Half:
        """Grid features (B, R, D'), for arguments as in ``pooled``; the store must have them."""
        assert self._grid is not None, "open the store with grid=True"
        return self._grid.take(self._data_rows(rows, views), axis=0)

    def _data_rows(self, rows: Rows, views: Rows | int) -> Rows:
        assert np.all((np.asarray(views) >= 0) & (views < self._views[rows])), "no such view"
        return self._first[rows] + views

    def _map(self, name: str, shape: tuple[int, ...]) -> Half:
        """Memory-map a data file: rows are read from the disk as they are asked for."""
        if 0 in shape:
            return np.empty(shape, dtype=HALF)
        file = self.path / name
        try:
            return np.memmap(file, dtype=HALF, mode="r", shape=shape)
        except (OSError, ValueError):
            raise StoreError(
                f"{file} is missing or shorter than {JOURNAL_FILE} says; "
                f"delete the store {self.path}"
            ) from None
