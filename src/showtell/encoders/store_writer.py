"""Writing a feature store so that it can be stopped at any moment, even by a power cut.

Rows are appended to the data files and flushed to the disk before the journal names them. Opening a
store for writing cuts off whatever the journal does not name. A lock, which the system releases
when the process ends in any way, allows one writer at a time.
"""

import json
import os
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from showtell.core.files import lock, write_json
from showtell.encoders.store import (
    GRID_FILE,
    HALF,
    JOURNAL_FILE,
    POOLED_FILE,
    SPEC_FILE,
    Half,
    StoreSpec,
    read_journal,
    read_spec,
)
from showtell.errors import StoreError, reason_of

LOCK_FILE = "lock"


class StoreWriter:
    """The writer of a store, which it makes if there is none; used in a ``with`` block.

    A picture's rows and its journal line come separately: ``append`` takes rows in any portions, as
    batches come from the encoder, and ``add`` says which picture the next rows belong to.

    Attributes:
        spec: how the store's features are made.
        failures: image id -> why that picture could not be read.
        num_saved: pictures that this writer has flushed to the disk.

    Raises:
        StoreError: another process is writing it, its features do not fit ``spec``, it is damaged,
            or the disk cannot be written.
    """

    def __init__(self, path: Path, spec: StoreSpec) -> None:
        self.path = path
        self.num_saved = 0
        self._files: dict[str, FileIO] = {}
        with ExitStack() as opened:
            try:
                path.mkdir(parents=True, exist_ok=True)
                _refuse_links(path)
                _lock(opened.enter_context(open(path / LOCK_FILE, "ab")), path)
                self.spec = self._settle_spec(spec)
                self._recover(opened)
            except OSError as error:
                raise self._refused(error) from None
            self._opened = opened.pop_all()  # from here on closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            # Ctrl-C also keeps what is done. After a failed write nothing more is written.
            if self._is_sound:
                self.flush()
        finally:
            self._opened.close()

    def is_current(self, image_id: str, size: int, mtime_ns: int, views: int) -> bool:
        """As ``Journal.is_current``, for what was there when the writer opened the store."""
        return self._journal.is_current(image_id, size, mtime_ns, views)

    def digest(self, image_id: str, size: int, views: int) -> str:
        """As ``Journal.digest``."""
        return self._journal.digest(image_id, size, views)

    def renew(self, image_id: str, mtime_ns: int) -> None:
        """Note the date of a file that holds the same bytes as before: a copy of it, say."""
        self._pending.append((self._journal.lines[image_id] | {"mtime_ns": mtime_ns}, 0))

    def add(self, image_id: str, size: int, mtime_ns: int, views: int, digest: str = "") -> None:
        """Claim the next ``views`` rows, which ``append`` will bring, for a picture."""
        line = {"id": image_id, "size": size, "mtime_ns": mtime_ns}
        line |= {"first": self._claimed, "views": views}
        self._pending.append((line | ({"digest": digest} if digest else {}), views))
        self._claimed += views
        self.failures.pop(image_id, None)

    def add_failure(
        self, image_id: str, size: int, mtime_ns: int, reason: str, *, may_pass: bool = False
    ) -> None:
        """Note that a picture could not be read; one that may be readable later is tried again."""
        line = {"id": image_id, "size": size, "mtime_ns": mtime_ns, "error": reason}
        line |= {"may_pass": may_pass}
        if line != self._journal.lines.get(image_id):
            self._pending.append((line, 0))
        self.failures[image_id] = reason

    def append(self, pooled: Half, grid: Half | None) -> None:
        """Append rows, in the order of the claims: pooled (n, D) and grid (n, R, D').

        Raises:
            StoreError: the disk is full or cannot be written; what was flushed stays valid.
        """
        self._is_sound = False
        self._write(POOLED_FILE, pooled.astype(HALF, copy=False))
        if self.spec.grid_size is not None:
            assert grid is not None
            self._write(GRID_FILE, grid.astype(HALF, copy=False))
        self._written += len(pooled)
        self._is_sound = True

    def flush(self) -> None:
        """Flush rows to the disk, then name in the journal each picture that has all its rows.

        Raises:
            StoreError: the disk is full or cannot be written; what was flushed stays valid.
        """
        lines, num_done = [], 0
        for line, views in self._pending:
            if self._named + views > self._written:
                break
            self._named += views
            num_done += 1
            lines.append(json.dumps(line, separators=(",", ":")))
        if not lines:
            return
        self._is_sound = False
        for name in self._files:
            if name != JOURNAL_FILE:
                self._sync(name)
        text = "".join(f"{line}\n" for line in lines).encode()
        self._write(JOURNAL_FILE, np.frombuffer(text, dtype=np.uint8))
        self._sync(JOURNAL_FILE)
        del self._pending[:num_done]
        self.num_saved += num_done
        self._is_sound = True

    def _settle_spec(self, asked: StoreSpec) -> StoreSpec:
        made = read_spec(self.path)
        if made is None:
            write_json(self.path / SPEC_FILE, asked.to_json())
            return asked
        made.check_made(self.path, asked)
        return made

    def _recover(self, opened: ExitStack) -> None:
        """Cut off whatever the journal does not name, and continue from there."""
        self._journal = read_journal(self.path)
        self.failures = {
            key: line["error"] for key, line in self._journal.lines.items() if "error" in line
        }
        self._named = self._written = self._claimed = self._journal.num_rows
        self._pending: list[tuple[dict[str, Any], int]] = []
        row_bytes = {POOLED_FILE: self.spec.pooled_size * HALF.itemsize}
        if self.spec.grid_size is not None:
            row_bytes[GRID_FILE] = self.spec.bytes_per_row - row_bytes[POOLED_FILE]
        lengths = {name: self._written * width for name, width in row_bytes.items()}
        lengths[JOURNAL_FILE] = self._journal.num_bytes
        for name, length in lengths.items():
            file = self._files[name] = opened.enter_context(FileIO(self.path / name, "ab"))
            if os.fstat(file.fileno()).st_size < length:
                raise StoreError(
                    f"{self.path / name} is shorter than {JOURNAL_FILE} says; "
                    f"delete the store {self.path}"
                )
            file.truncate(length)
        self._is_sound = True

    def _write(self, name: str, values: "np.ndarray[Any, Any]") -> None:
        rest = memoryview(np.ascontiguousarray(values).data).cast("B")
        try:
            while rest:
                rest = rest[self._files[name].write(rest) :]
        except OSError as error:
            raise self._refused(error) from None

    def _sync(self, name: str) -> None:
        try:
            os.fsync(self._files[name].fileno())
        except OSError as error:
            raise self._refused(error) from None

    def _refused(self, error: OSError) -> StoreError:
        kept = f"; this run's {self.num_saved} pictures so far are kept" if self.num_saved else ""
        return StoreError(
            f"cannot write the feature store {self.path}: {reason_of(error)}{kept}; "
            "solve that, then run the same command again"
        )


def _refuse_links(path: Path) -> None:
    """Raise StoreError where a store's file is a link: cutting it would cut what it points to."""
    for name in (LOCK_FILE, SPEC_FILE, JOURNAL_FILE, POOLED_FILE, GRID_FILE):
        if (path / name).is_symlink():
            raise StoreError(
                f"{path / name} is a link, and a store that is written to may have none: put the "
                "file itself there, or give another folder"
            )


def _lock(file: IO[bytes], path: Path) -> None:
    """Hold the lock on ``file`` until it is closed or the process ends.

    Raises:
        StoreError: another process holds it.
    """
    if not lock(file):
        raise StoreError(
            f"another process is writing the feature store {path}; wait for it to end, "
            "or give another folder"
        ) from None
