"""The pictures of a run whose encoder trains, read anew at each step.

A run with a frozen encoder reads features from a store; here ``PictureFiles`` and ``PictureLoader``
take its place. Each picture is decoded once before training, so that a broken one is left out from
the start. At each step worker processes cut a fresh view of each of its pictures, and the encoder
encodes them with a gradient. A view follows from (seed, step, picture) alone, so neither the number
of workers nor where a run was stopped changes it. A picture has one view a step, however many of
its captions the step has.
"""

import hashlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from showtell.config import Config
from showtell.core.device import Runtime
from showtell.core.distributed import Processes
from showtell.core.prefetch import num_workers
from showtell.core.progress import Reporter
from showtell.data.records import Record
from showtell.encoders.encoder import Encoder
from showtell.encoders.features import Features
from showtell.errors import DataError, ImageError
from showtell.images.open import Pixels, open_image
from showtell.images.views import ViewWorkers
from showtell.training.batches import Rows, part_of_pictures

CHECK_SIDE = 64  # pixels; a JPEG is then decoded at a fraction of its size, yet read to its end
PICTURE_STREAM = 3  # keeps the views' random numbers apart from the sampler's and the samples'
STEPS_AHEAD = 2  # batches that are decoded while one is trained on
MOST_WORKERS = 16


@dataclass(frozen=True)
class PictureFiles:
    """Pictures by their row numbers.

    Attributes:
        records: a row each.
        failures: image id -> why that picture cannot be read.
    """

    records: Sequence[Record]
    failures: dict[str, str]

    @classmethod
    def check(cls, records: Sequence[Record], report: Reporter) -> "PictureFiles":
        """Try to decode each picture of ``records``.

        Raises:
            DataError: none can be read.
        """
        failures: dict[str, str] = {}
        with ThreadPoolExecutor(num_workers(), thread_name_prefix="check") as pool:
            reasons = pool.map(_reason, [record.path for record in records])
            for done, (record, reason) in enumerate(zip(records, reasons, strict=True), 1):
                if reason:
                    failures[record.image_id] = reason
                if done % 100 == 0 or done == len(records):
                    report.progress("checking", done, len(records), "pictures")
        if len(failures) == len(records):
            raise DataError(
                "encoder.train_from needs the pictures themselves and none can be read "
                f"({next(iter(failures.values()))}): say where they are with --images, or leave "
                "encoder.train_from out to train on stored features"
            )
        return cls(records, failures)

    def rows(self, image_ids: Sequence[str]) -> NDArray[np.int64]:
        """Row numbers (B,) of pictures."""
        row_of = {record.image_id: row for row, record in enumerate(self.records)}
        return np.array([row_of[image_id] for image_id in image_ids], dtype=np.int64)


def _reason(path: Path) -> str | None:
    try:
        open_image(path, min_side=CHECK_SIDE)
    except ImageError as error:
        return str(error)
    return None


class PictureLoader:
    """Decodes, augments and encodes training pictures.

    Args:
        regions: whether the decoder needs the grid.
    """

    def __init__(
        self,
        *,
        pictures: PictureFiles,
        encoder: Encoder,
        runtime: Runtime,
        config: Config,
        regions: bool,
    ) -> None:
        self.pictures, self.encoder, self.runtime = pictures, encoder, runtime
        self.regions, self.seed = regions, config.seed
        self.augments, self.flips = config.encoder.views > 0, config.encoder.flips
        asked = config.encoder.num_workers
        self._workers = ViewWorkers(
            encoder.preprocessing, min(num_workers(), MOST_WORKERS) if asked is None else asked
        )
        self._coming: deque[tuple[int, Rows]] = deque()
        self._views: dict[tuple[int, int], Future[Pixels | str]] = {}

    def expect(self, batches: Sequence[Rows], step: int) -> None:
        """Steps ``step``, ``step`` + 1, ... will ask for these pictures."""
        if self._workers.num_workers:
            self._coming = deque((step + i, np.unique(rows)) for i, rows in enumerate(batches))
            self._views = {}

    def of_pictures(self, rows: Rows, step: int, part: Rows) -> Features:
        """One view of each picture of a batch's part, on the runtime's device."""
        images = self._images(rows[part], step)
        with self.runtime.autocast():
            features: Features = self.encoder(images.to(self.runtime.device), regions=self.regions)
        if features.regions is None:
            return features
        return features._replace(regions=features.regions.to(self.runtime.dtype))

    def of_captions(self, rows: Rows, step: int, part: Rows) -> Features:
        """A view of each picture that the part's captions are of, and which caption is of which."""
        rows, index = np.unique(rows[part], return_inverse=True)
        features = self.of_pictures(rows, step, np.arange(len(rows)))
        return features._replace(picture_of=torch.from_numpy(index).to(self.runtime.device))

    def part_of_captions(self, rows: Rows, processes: Processes) -> Rows:
        """A picture's captions stay together: it is encoded once."""
        return part_of_pictures(rows, processes)

    def close(self) -> None:
        """End the worker processes."""
        self._workers.close()
        self._coming, self._views = deque(), {}

    def _images(self, rows: Rows, step: int) -> Tensor:
        """uint8 (P, 3, S, S), channels last in memory."""
        keys = [(step, int(row)) for row in rows]
        self._ask(keys)
        while self._coming and self._coming[0][0] <= step + STEPS_AHEAD:
            coming, pictures = self._coming.popleft()
            if coming > step:
                self._ask([(coming, int(row)) for row in pictures])
        size = self.encoder.preprocessing.size
        images = np.empty((len(rows), size, size, 3), np.uint8)
        for image, key in zip(images, keys, strict=True):
            pixels = self._views.pop(key).result()
            if isinstance(pixels, str):
                raise ImageError(f"{pixels}; it could be read when the run began")
            image[:] = pixels.transpose(1, 2, 0)
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    def _ask(self, keys: Sequence[tuple[int, int]]) -> None:
        """Have views cut that nobody was asked for yet."""
        for step, row in keys:
            if (step, row) not in self._views:
                record = self.pictures.records[row]
                self._views[step, row] = self._workers.submit(
                    record.path,
                    seed=self._seed(record, step) if self.augments else None,
                    flips=self.flips,
                )

    def _seed(self, record: Record, step: int) -> tuple[int, ...]:
        digest = hashlib.sha256(record.image_id.encode("utf-8", "surrogatepass")).digest()
        return (self.seed, step, PICTURE_STREAM, int.from_bytes(digest[:8], "big"))
