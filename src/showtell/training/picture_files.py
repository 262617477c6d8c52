"""The pictures of a run whose encoder trains: which files, and which of them cannot be read.

Takes the place that a feature store has in a run with a frozen encoder. Each picture is decoded
once before training, so that a broken one is left out from the start, as a store does.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from showtell.data.records import Record
from showtell.errors import DataError, ImageError
from showtell.features.images import open_image
from showtell.progress import Reporter
from showtell.work_ahead import num_workers

CHECK_SIDE = 64  # pixels; a JPEG is then decoded at a fraction of its size, yet read to its end


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
