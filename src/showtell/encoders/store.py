"""The feature store: the features of many pictures on disk, memory-mapped for reading.

A store is a folder:

- ``store.json``: the format, the encoder's fingerprint, how many views, and the shapes;
- ``rows.jsonl``: the journal, one line for each picture, only ever appended to. A line is either
  ``{"id", "size", "mtime_ns", "first", "views", "digest"}``: the picture's features are the rows
  ``first`` to ``first + views - 1`` of the data files, the evaluation view first; the digest is of
  its file's bytes, and stores made by earlier versions lack it. Or it is
  ``{"id", "size", "mtime_ns", "error", "may_pass"}``: the picture could not be read, why, and
  whether the reason may pass, so that it is tried again; earlier versions did not write that. If an
  id has several lines, the last one counts;
- ``pooled.f16``: rows of D little-endian fp16 numbers;
- ``grid.f16``: rows of R x D' such numbers, in a store with grid features.

Rows reach the disk before the journal names them (``store_writer.py``). So a store is sound
whenever its writer was stopped: bytes that the journal's last whole line does not cover mean
nothing.

``StoreSpec`` is the header, ``Journal`` the journal, ``FeatureStore`` a store opened for reading.
This module imports no torch.
"""

import errno
import json
import math
import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from showtell.core.files import check_regular, read_json
from showtell.errors import StoreError

FORMAT = 1
SPEC_FILE = "store.json"
JOURNAL_FILE = "rows.jsonl"
POOLED_FILE = "pooled.f16"
GRID_FILE = "grid.f16"
HALF = np.dtype("<f2")
MOST_SPEC = 2**16  # bytes of store.json
MOST_ROWS = 2**48

Size = Annotated[int, Field(gt=0, lt=2**31)]

Half = NDArray[np.float16]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """How the features of a store were made.

    Attributes:
        encoder: the encoder's name.
        fingerprint: the encoder's name, weights and preprocessing; all features of a store have
            the same.
        views: random views of each training picture, besides its evaluation view.
        flips: whether half of the random views are mirrored.
        seed: of the random views.
        pooled_size: D.
        grid_size: (R, D'), None if only pooled features are kept.
        precision: that the encoder computed in, ``fp32`` or ``bf16``; None: not known, as of stores
            made by earlier versions.
    """

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")  # of what store.json holds

    encoder: str
    fingerprint: str
    views: Annotated[int, Field(ge=0, le=255)]
    seed: int
    pooled_size: Size
    grid_size: tuple[Size, Size] | None
    flips: bool = True
    precision: str | None = None

    @property
    def bytes_per_row(self) -> int:
        """Size of one view of one picture, in all data files."""
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
        """Refuse a store whose features are not those that are needed now.

        Raises:
            StoreError: it names what the store has, what is needed, and what to do.
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
        """Refuse the store at ``path``, which this spec describes, if ``asked`` needs another.

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
    """The spec of the store at ``path``; None if there is no store yet.

    Raises:
        StoreError: ``store.json`` cannot be read, or is of another format.
    """
    file = path / SPEC_FILE
    try:
        values = read_json(file, MOST_SPEC)
        version = values.pop("format")
        if version != FORMAT:
            raise StoreError(
                f"feature store {path} has format {version}, this showtell reads {FORMAT}; "
                "delete it to have it made again"
            )
        del values["dtype"]
        return TypeAdapter(StoreSpec).validate_json(json.dumps(values))
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise StoreError(f"{path} is a file, not the folder of a feature store") from None
    except OSError as error:
        raise StoreError(f"cannot read {file}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
        raise StoreError(f"{file} is damaged ({reason}); delete the store {path}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{file} is damaged ({error}); delete the store {path}") from None


@dataclass(frozen=True, slots=True)
class Journal:
    """The content of a journal.

    Attributes:
        lines: the last line of each image id.
        num_rows: data rows that the journal names.
        num_bytes: length of the journal up to its last whole line.
    """

    lines: dict[str, dict[str, Any]]
    num_rows: int
    num_bytes: int

    def is_current(self, image_id: str, size: int, mtime_ns: int, views: int) -> bool:
        """Whether the store has this picture's features, or the reason why it has none.

        Args:
            image_id: the picture.
            size: of its file now, in bytes.
            mtime_ns: when its file was last changed, in ns.
            views: views that are needed, including the evaluation view.
        """
        line = self.lines.get(image_id)
        if line is None or (line["size"], line["mtime_ns"]) != (size, mtime_ns):
            return False
        return not _may_pass(line) if "error" in line else line["views"] >= views

    def has_failed(self, image_id: str, size: int, mtime_ns: int) -> bool:
        """Whether this picture's file, as it is now, could not be read."""
        line = self.lines.get(image_id, {})
        return "error" in line and (line["size"], line["mtime_ns"]) == (size, mtime_ns)

    def digest(self, image_id: str, size: int, views: int) -> str:
        """The digest of the file whose features the store has, if it may be the same file as now.

        A copy has another date, and the same bytes. "" where there is nothing to compare.
        """
        line = self.lines.get(image_id, {"error": ""})
        if "error" in line or line["size"] != size or line["views"] < views:
            return ""
        return str(line.get("digest", ""))


_SYSTEMS_REASONS = frozenset(os.strerror(number).lower() for number in errno.errorcode)


def _may_pass(line: dict[str, Any]) -> bool:
    """Whether a picture that could not be read is worth another try, by its line.

    A file that was not there has the date 0: once it is there, its date is another.
    """
    if not line["mtime_ns"]:
        return False
    error = line["error"]
    # Of earlier versions the words tell: the system's own, or those of an extra that is missing.
    by_words = error.rpartition(": ")[2] in _SYSTEMS_REASONS or " needs an extra: " in error
    return bool(line.get("may_pass", by_words))


def read_journal(path: Path) -> Journal:
    """Read the journal of the store at ``path``, without a last line that is not whole.

    Raises:
        StoreError: it cannot be read, or a line in it is damaged.
    """
    file = path / JOURNAL_FILE
    try:
        check_regular(file)
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
        if not all(map(_is_line, lines)):
            raise ValueError("a line in it has values that cannot be")
        num_rows = max(
            (line["first"] + line["views"] for line in lines if "first" in line), default=0
        )
        return Journal({line["id"]: line for line in lines}, num_rows, num_bytes)
    except RecursionError:
        raise StoreError(f"{file} is nested too deeply; delete the store {path}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{file} is damaged ({error}); delete the store {path}") from None


def _is_line(line: Any) -> bool:
    """Whether this is what ``StoreWriter`` writes about a picture."""
    if not isinstance(line, dict) or not isinstance(line["id"], str):
        return False
    numbers = [line["size"], line["mtime_ns"]]
    if "error" in line:
        is_whole = isinstance(line["error"], str) and set(map(type, numbers)) == {int}
        return is_whole and isinstance(line.get("may_pass", False), bool)
    numbers += [line["first"], line["views"]]
    is_whole = set(map(type, numbers)) == {int} and isinstance(line.get("digest", ""), str)
    return is_whole and 0 <= line["first"] < MOST_ROWS and 1 <= line["views"] <= 256


def make_store(path: Path) -> str:
    """The command that makes a store, or adds to it what it lacks."""
    return f"showtell features DATA -o {shlex.quote(str(path))}"


class FeatureStore:
    """A store opened for reading: a snapshot of what its journal named at that time.

    Attributes:
        path: its folder.
        spec: how its features were made.
        failures: image id -> why that picture could not be read.
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
        """Open the store at ``path`` and check that it has what the caller needs.

        Args:
            path: its folder.
            fingerprint: of the encoder that must have made it; None: any.
            views: random views of each training picture that it must have; None: any.
            grid: whether it must have grid features.

        Raises:
            StoreError: there is none, it is damaged, or it has other features.
        """
        spec = read_spec(path)
        if spec is None:
            raise StoreError(f"no feature store at {path}; make it: {make_store(path)}")
        spec.check(path, fingerprint=fingerprint, views=views, grid=grid)
        return cls(path, spec, read_journal(path))

    def __len__(self) -> int:
        """The number of pictures with features."""
        return len(self._row_of)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._row_of

    @property
    def image_ids(self) -> Iterable[str]:
        """Ids of the pictures with features, in the order of their row numbers."""
        return self._row_of.keys()

    def rows(self, image_ids: Sequence[str]) -> Rows:
        """Row numbers (B,) of pictures, for the methods below.

        Raises:
            StoreError: some have no features; it names the first, and what to do.
        """
        try:
            return np.array([self._row_of[image_id] for image_id in image_ids], dtype=np.int64)
        except KeyError:
            missing = [image_id for image_id in image_ids if image_id not in self._row_of]
        reason, command = self.failures.get(missing[0]), make_store(self.path)
        detail = f": {reason}" if reason else f"; add them: {command}"
        raise StoreError(
            f"{len(missing)} of {len(image_ids)} pictures have no features in {self.path}, "
            f"the first is {missing[0]!r}{detail}"
        )

    def num_views(self, rows: Rows) -> Rows:
        """How many views each picture has, (B,), including the evaluation view."""
        return self._views[rows]

    def pooled(self, rows: Rows, views: Rows | int = 0) -> Half:
        """Pooled features (B, D).

        Args:
            rows: (B,) row numbers.
            views: (B,) or one for all: 0 is the evaluation view, 1 and up are random views.
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
        """Memory-map a data file: a row is read from the disk when it is needed."""
        if 0 in shape:
            return np.empty(shape, dtype=HALF)
        file = self.path / name
        try:
            if check_regular(file) < math.prod(shape) * HALF.itemsize:
                raise ValueError(f"{name} is too short")
            return np.memmap(file, dtype=HALF, mode="r", shape=shape)
        except (OSError, ValueError):
            raise StoreError(
                f"{file} is missing or shorter than {JOURNAL_FILE} says; "
                f"delete the store {self.path}"
            ) from None
