"""Many pictures in one file: lists of paths, JSON lines, Parquet tables, tar archives.

Archives (WebDataset's shards) are read from front to back, so that a pipe from an object store
serves as well as a disk. Whatever is wrong within becomes a picture that fails with the reason.
"""

import json
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO, Self

from showtell.bulk import remote
from showtell.data.pictures import is_picture_name
from showtell.data.reading import printable
from showtell.errors import DataError, ImageError, MissingExtraError
from showtell.inference.stream import Picture

ROWS_A_READ = 16
NAME_KEYS = ("path", "file_name", "url", "key", "__key__", "image")
BYTES_KEYS = ("image", "bytes", "jpg", "png")


def is_shard(name: str) -> bool:
    """Whether a file holds pictures or the paths of some, by its name."""
    return name.lower().endswith(tuple(READERS))


def read(name: str) -> Iterator[Picture]:
    """The pictures of a shard.

    Raises:
        DataError: it cannot be opened.
        MissingExtraError: what reads it is not installed.
    """
    reader = next(reader for suffix, reader in READERS.items() if name.lower().endswith(suffix))
    with _opened(name) as file:
        try:
            yield from reader(file, name)
        except (OSError, EOFError, ValueError, tarfile.TarError) as error:
            yield broken(name, f"cannot be read to its end: {printable(str(error))}")


def count(name: str) -> int | None:
    """How many pictures a list has; None where only reading all would tell."""
    if not name.lower().endswith((".txt", ".jsonl")) or remote.is_url(name):
        return None
    return sum(1 for _ in read(name))


def broken(name: str, reason: str) -> Picture:
    """A picture that fails."""

    def fail() -> bytes:
        raise ImageError(reason)

    return Picture(name, fail)


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if remote.is_url(name):
        with remote.open_url(name) as file:
            yield file
        return
    try:
        if not stat.S_ISREG(os.stat(name).st_mode):  # a named pipe would hang the run
            raise DataError(f"{name} is not a regular file")
        opened = open(name, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise DataError(f"cannot read {name}: {error.strerror}") from None
    with opened as file:
        yield file


def _read_list(file: BinaryIO, name: str) -> Iterator[Picture]:
    for line in file:
        path = os.fsdecode(line.rstrip(b"\r\n"))
        if path.strip():
            yield _named(path, name)


def _read_jsonl(file: BinaryIO, name: str) -> Iterator[Picture]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            yield broken(f"{name}:{number}", f"bad JSON: {error}")
            continue
        path = _first(value, NAME_KEYS, str) if isinstance(value, dict) else None
        keys = ", ".join(NAME_KEYS)
        yield _named(path, name) if path else broken(f"{name}:{number}", f"has none of {keys}")


def _read_tar(file: BinaryIO, name: str) -> Iterator[Picture]:
    with tarfile.open(fileobj=file, mode="r|*", tarinfo=_Member) as archive:
        for member in archive:
            base = member.name.rpartition("/")[2]
            if member.isdir() or not is_picture_name(base) or base.startswith("."):
                continue
            where = f"{name}/{member.name}"
            if not member.isreg():
                yield broken(where, "is not a regular file")
            elif member.size > remote.MOST_BYTES:
                yield broken(where, f"has more than {remote.MOST_BYTES:,} bytes")
            else:
                content = archive.extractfile(member)
                assert content is not None
                yield Picture(where, partial(_same, content.read()))
            archive.members.clear()  # type: ignore[attr-defined]  # else it keeps every header
        if not isinstance(getattr(archive, "ended_by", None), tarfile.EOFHeaderError):  # type: ignore[attr-defined]
            yield broken(name, "has no end mark: it may be cut off")


class _Member(tarfile.TarInfo):
    """A header that tells its archive how it ended: ``tarfile`` takes a cut for the end."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:  # the name is the base class's
        try:
            return super().fromtarfile(tarfile)
        except Exception as error:
            tarfile.ended_by = error  # type: ignore[attr-defined]
            raise


def _read_parquet(file: BinaryIO, name: str) -> Iterator[Picture]:
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError:
        raise MissingExtraError("parquet", f"reading {name}") from None
    try:
        table = parquet.ParquetFile(file)
        number = 0
        for batch in table.iter_batches(batch_size=ROWS_A_READ):
            for row in batch.to_pylist():
                yield _of_row(row, name, number)
                number += 1
    except ArrowException as error:
        raise ValueError(str(error)) from None


def _of_row(row: dict[str, Any], name: str, number: int) -> Picture:
    inner = row.get("image")
    if isinstance(inner, dict):  # as Hugging Face's datasets keep pictures
        row = inner | {key: value for key, value in row.items() if key != "image"}
        row = {key: row.get(key) or inner.get(key) for key in row}
    path = _first(row, NAME_KEYS, str)
    content = _first(row, BYTES_KEYS, bytes)
    if content is not None:
        return Picture(f"{name}/{path or number}", partial(_same, content))
    return _named(path, name) if path else broken(f"{name}/{number}", "has no picture and no path")


def _first(row: dict[str, Any], keys: tuple[str, ...], kind: type) -> Any:
    return next((row[key] for key in keys if isinstance(row.get(key), kind) and row[key]), None)


def _named(path: str, shard: str) -> Picture:
    """A path in a list: as it stands, or, where there is none, as seen from the list's folder."""
    if remote.is_url(path):
        return remote.picture(path)
    if not os.path.isabs(path) and not os.path.lexists(path):
        if remote.is_url(shard):
            return remote.picture(f"{shard.rpartition('/')[0]}/{path}")
        beside = os.path.join(os.path.dirname(shard), path)
        return Picture(beside if os.path.lexists(beside) else path)
    return Picture(path)


def _same(content: bytes) -> bytes:
    return content


READERS: dict[str, Callable[[BinaryIO, str], Iterator[Picture]]] = {
    ".txt": _read_list,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
    ".tar": _read_tar,
    ".tar.gz": _read_tar,
    ".tgz": _read_tar,
    ".tar.bz2": _read_tar,
    ".tar.xz": _read_tar,
}
