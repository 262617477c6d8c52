"""The journal of a bulk run: what is done, line by line, so that a killed run can resume.

Each line is a JSON object: the first says which model writes the journal, then comes a record for
each picture. Lines are flushed after each batch; a line that was cut off is removed when the
journal is opened again. What failed for a reason that may pass is not among them, so that a run
that resumes tries it again; such failures are in a temporary file without a name. A lock allows one
writer at a time; the system releases it when the process ends.
"""

import json
import os
import shlex
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile
from pathlib import Path
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Any, Self

from showtell.bulk.formats import Record, to_line
from showtell.core.files import InUseError, errors_about, is_special, open_locked, parse_json
from showtell.errors import DataError

SUFFIX = ".partial"
SECONDS_BETWEEN_SYNCS = 5.0
MOST_IN_MEMORY = 2**20  # bytes of failures that may pass; more are in a file


def journal_of(path: Path) -> Path:
    """Where the journal of a run lies that writes ``path`` at its end."""
    return path.with_name(path.name + SUFFIX)


class BegunOtherwise(DataError):
    """A journal is of a run with another model, or with other settings."""


class Journal:
    """The journal at ``path``, made where there is none; used in a ``with`` block.

    Args:
        path: of the file.
        identity: what the records follow from; a journal with another one is not gone on with.
        restart: throw away one that has another identity.

    Attributes:
        done: the pictures in it, and whether each was met again in this run.
        num_failed: how many of these failed.

    Raises:
        BegunOtherwise: it was begun with another identity.
        DataError: another process is writing it, or another file is in its place.
    """

    def __init__(self, path: Path, identity: Record, *, restart: bool = False) -> None:
        self.path = path
        self.done: dict[str, bool] = {}
        self.num_failed = 0
        self._replaced: dict[str, Record] = {}  # in place of what the file has
        self._synced = time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_special(path):
            raise self._not_ours()
        try:
            with errors_about(path.with_name(path.name.removesuffix(SUFFIX)), path):
                self._file = open_locked(path)
        except InUseError:
            raise DataError(f"another process is writing {path}; wait for it, or stop it") from None
        try:
            self._recover(identity, restart=restart)
        except BaseException:
            self._file.close()
            raise
        # Closed by ``__exit__``.
        self._passing = SpooledTemporaryFile(MOST_IN_MEMORY, dir=str(path.parent))  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._passing.close()

    def add(self, records: Iterable[Record]) -> None:
        """Append records, and hand them to the system."""
        for record in records:
            self._file.write(to_line(record).encode())
            self._count(record)
        self._file.flush()
        if time.monotonic() - self._synced > SECONDS_BETWEEN_SYNCS:  # against power cuts
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def hold(self, failure: Record) -> None:
        """Note the failure of a picture for this run alone: one that resumes tries it again."""
        self._passing.seek(0, os.SEEK_END)
        self._passing.write(to_line(failure).encode())
        self._count(failure)

    def take_over(self, records: Iterable[Record]) -> None:
        """Append records that were finished before; their pictures are still to be met.

        One whose picture is in the journal already takes the place of what is there.
        """
        for record in records:
            if record["path"] in self.done:
                self._replaced[record["path"]] = record
            else:
                self.add([record])
            self.done[record["path"]] = False

    def meets(self, path: str) -> bool:
        """Whether a picture is done; it then counts as one of this run's."""
        if path not in self.done:
            return False
        self.done[path] = True
        return True

    def records(self, others: Callable[[Record], bool] | None = None) -> Iterator[Record]:
        """Those of the pictures that this run has met or added, in the journal's order; then those
        that took the place of others, and failures that may pass.

        Args:
            others: which records of other pictures come as well, failures never; None: none.
        """
        for record in self._lasting():
            is_other = others is not None and "error" not in record and others(record)
            if self.done[record["path"]] or is_other:
                yield record
        place = 0
        while line := self._line_at(place):
            yield parse_json(line)
            place += len(line)

    def all_records(self) -> Iterator[Record]:
        """Every record, of whatever pictures."""
        with open(self.path, "rb") as file:
            next(file)
            yield from map(parse_json, file)

    def _lasting(self) -> Iterator[Record]:
        """Each picture's record, in the journal's order; then those that took another's place."""
        yield from (r for r in self.all_records() if r["path"] not in self._replaced)
        yield from self._replaced.values()

    def remove(self) -> None:
        """Take it away; what it held is elsewhere by now."""
        self.path.unlink(missing_ok=True)

    def _line_at(self, place: int) -> bytes:
        """A line of the failures that may pass; whoever reads them keeps a place of their own."""
        self._passing.seek(place)
        return self._passing.readline()

    def _recover(self, identity: Record, *, restart: bool) -> None:
        self._file.seek(0)
        head = self._file.readline()
        begun = _parse(head)
        if not _is_head(head, begun, identity):
            raise self._not_ours()
        if begun is None or (restart and begun != identity):
            self._file.truncate(0)
            self._file.write(json.dumps(identity).encode() + b"\n")
            self._file.flush()
            return
        if begun != identity:
            raise BegunOtherwise(
                f"{self.path} was begun with another model or other settings, and stopped: go on "
                f"with those, or begin anew: rm {shlex.quote(str(self.path))}"
            )
        whole = len(head)
        for line in self._file:
            record = _parse(line)
            if record is None or "path" not in record:
                break
            whole += len(line)
            self._count(record)
            self.done[record["path"]] = False
        self._file.truncate(whole)

    def _not_ours(self) -> DataError:
        return DataError(
            f"showtell must write a journal to {self.path}, but that file is something else: "
            "rename it, or give another name for the output"
        )

    def _count(self, record: Record) -> None:
        self.done[record["path"]] = True
        self.num_failed += "error" in record


def peek(path: Path) -> tuple[Record, Iterator[Record]]:
    """The identity and the whole records of a journal that is left as it is; none: both empty."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError:
        return {}, iter(())
    identity, *records = [_parse(line) for line in lines] or [None]
    whole = takewhile(lambda record: record is not None and "path" in record, records)
    return identity or {}, (record for record in whole if record is not None)


def _is_head(line: bytes, begun: Record | None, identity: Record) -> bool:
    """Whether a file's first line may begin a journal: a head, one that was cut off, or nothing."""
    if begun is not None:
        return "path" not in begun and not identity.keys().isdisjoint(begun)
    first_key = json.dumps(identity).encode().partition(b":")[0]
    return not line.endswith(b"\n") and first_key.startswith(line[: len(first_key)])


def _parse(line: bytes) -> dict[str, Any] | None:
    """A line's object; None where it was cut off."""
    if not line.endswith(b"\n"):
        return None
    try:
        value = parse_json(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
