"""What a feature store is on disk: its header, its journal, and the checks that guard them.

A store is a folder:

- ``store.json``: the format, the encoder's fingerprint, how many views, and the shapes;
- ``rows.jsonl``: the journal, one line a picture, appended to only. Either
  ``{"id", "size", "mtime_ns", "first", "views"}``: the picture's features are the rows
  ``first`` to ``first + views - 1`` of the data files, the evaluation view first; or
  ``{"id", "size", "mtime_ns", "error"}``: it could not be read, and why. Of two lines with one
  id the later holds;
- ``pooled.f16``: rows of D little-endian fp16 numbers, and nothing else;
- ``grid.f16``: rows of R x D' likewise, in a store that was made with grid features.

Rows reach the disk before the journal names them (``store_writer.py``), so a store is sound
whenever its writer was stopped: bytes past the journal's last whole line mean nothing.
Knows nothing of pictures, encoders or torch.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from showtell.errors import StoreError

FORMAT = 1
SPEC_FILE = "store.json"
JOURNAL_FILE = "rows.jsonl"
POOLED_FILE = "pooled.f16"
GRID_FILE = "grid.f16"
HALF = np.dtype("<f2")

Half = NDArray[np.float16]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """What a store was made with.

    Attributes:
        encoder: The encoder's name.
        fingerprint: Name, weights and preprocessing; only equal ones may share a store.
        views: Random views of each training picture, besides its evaluation view.
        flips: Whether half of the random views are mirrored.
        seed: Of the random views.
        pooled_size: D.
        grid_size: (R, D'), None where only pooled features are kept.
    """

    encoder: str
    fingerprint: str
    views: int
    seed: int
    pooled_size: int
    grid_size: tuple[int, int] | None
    flips: bool = True

    @property
    def bytes_per_row(self) -> int:
        """Of one view of one picture, in all data files."""
        numbers = self.pooled_size
        if self.grid_size is not None:
            numbers += self.grid_size[0] * self.grid_size[1]
        return numbers * HALF.itemsize

    def check(
        self,
        path: Path,
        *,
        fingerprint: str | None,
        views: int | None,
        grid: bool,
        flips: bool | None = None,
    ) -> None:
        """Refuse a store that was made otherwise than is asked now.

        Raises:
            StoreError: naming what it was made with, what is asked, and what to do.
        """
        advice = "give another folder, or delete this one to have it made again"
        if fingerprint is not None and fingerprint != self.fingerprint:
            raise StoreError(
                f"feature store {path} was made by [{self.fingerprint}], "
                f"not by [{fingerprint}]; {advice}"
            )
        if views is not None and views != self.views:
            raise StoreError(
                f"feature store {path} was made with {self.views} random views a picture, "
                f"not {views}; {advice}"
            )
        if flips is not None and self.views and flips != self.flips:
            mirrored = "mirrored" if self.flips else "not mirrored"
            raise StoreError(
                f"feature store {path} was made with views that are {mirrored}, "
                f"and the opposite is asked for; {advice}"
            )
        if grid and self.grid_size is None:
            raise StoreError(
                f"feature store {path} holds no grid features, and they are asked for; {advice}"
            )

    def check_made(self, path: Path, asked: "StoreSpec") -> None:
        """Refuse a store, made as this says, where ``asked`` needs another.

        Raises:
            StoreError: as ``check``.
        """
        self.check(
            path,
            fingerprint=asked.fingerprint,
            views=asked.views,
            grid=asked.grid_size is not None,
            flips=asked.flips,
        )

    def to_json(self) -> dict[str, Any]:
        """The contents of ``store.json``."""
        return {"format": FORMAT, "dtype": "float16", **asdict(self)}


def read_spec(path: Path) -> StoreSpec | None:
    """The spec of the store at ``path``; None where there is no store yet.

    Raises:
        StoreError: ``store.json`` cannot be read, or is of another format.
    """
    file = path / SPEC_FILE
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        version = values.pop("format")
        if version != FORMAT:
            raise StoreError(
                f"feature store {path} has format {version}, this showtell reads {FORMAT}; "
                "delete it to have it made again"
            )
        del values["dtype"]
        grid = values.pop("grid_size")
        return StoreSpec(grid_size=None if grid is None else (grid[0], grid[1]), **values)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise StoreError(f"{path} is a file, not the folder of a feature store") from None
    except OSError as error:
        raise StoreError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{file} is damaged ({error}); delete the store {path}") from None


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal, read.

    Attributes:
        lines: Of each image id its last line.
        num_rows: Data rows that the journal accounts for.
        num_bytes: Length of the journal up to its last whole line.
    """

    lines: dict[str, dict[str, Any]]
    num_rows: int
    num_bytes: int

    def is_current(self, image_id: str, size: int, mtime_ns: int, views: int) -> bool:
        """Whether the store has what this file gives: its features, or why it has none.

        Args:
            image_id: The picture.
            size: Of its file now, in bytes.
            mtime_ns: When its file was last changed, in ns.
            views: Views that are needed, the evaluation view counted.
        """
        line = self.lines.get(image_id)
        if line is None or (line["size"], line["mtime_ns"]) != (size, mtime_ns):
            return False
        return "error" in line or line["views"] >= views


def read_journal(path: Path) -> Journal:
    """Read the journal of the store at ``path``, leaving out a half last line.

    Raises:
        StoreError: it cannot be read, or a line in it is damaged.
    """
    file = path / JOURNAL_FILE
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        return Journal({}, 0, 0)
    except OSError as error:
        raise StoreError(f"cannot read {file}: {error.strerror}") from None
    num_bytes = text.rfind(b"\n") + 1
    whole = text[:num_bytes].rstrip(b"\n")
    try:
        # One call for all lines: 123,000 of them take a quarter of a second.
        lines = json.loads(b"[" + whole.replace(b"\n", b",") + b"]")
        num_rows = max(
            (line["first"] + line["views"] for line in lines if "first" in line), default=0
        )
        return Journal({line["id"]: line for line in lines}, num_rows, num_bytes)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{file} is damaged ({error}); delete the store {path}") from None
