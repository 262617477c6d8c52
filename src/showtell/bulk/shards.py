"""Many pictures in one file: lists of paths, JSON lines, Parquet tables, tar archives.

Archives (WebDataset's shards) are read from front to back, so that a pipe from an object store
works as well as a disk. A problem inside a shard becomes a failed picture with the reason.
"""

import os
import stat
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, BinaryIO

from showtell.bulk.naming import UniqueNames, broken, held, is_leftover, is_picture_member
from showtell.bulk.remote import listed_picture
from showtell.core.files import parse_json
from showtell.core.urls import MOST_BYTES, is_url, local_path, open_url
from showtell.data.column_names import PICTURE_NAMES, URL_NAMES, normalised
from showtell.data.reading import encoding_of, printable
from showtell.data.tar import members
from showtell.errors import DataError, needs_extra
from showtell.inference.stream import Picture

MOST_ROWS_A_READ = 16
BYTES_A_READ = 2**26  # of a table, about
NAMES = (*PICTURE_NAMES, *URL_NAMES, "key", "__key__")
"""What lists and tables call a picture's path or URL; the first of these counts."""

BYTES_KEYS = ("image", "img", "bytes", "jpg", "jpeg", "png", "webp")
PICTURE_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")

Read = Callable[[BinaryIO, str, "Counter[str]"], Iterator[Picture]]


def is_shard(name: str) -> bool:
    """Whether a file holds pictures or the paths of some, by its name."""
    return name.lower().endswith(tuple(READERS))


def read(name: str, left_out: Counter[str]) -> Iterator[Picture]:
    """The pictures of a shard.

    Args:
        left_out: counts, by suffix, pictures of kinds that showtell does not read.

    Raises:
        DataError: it cannot be opened.
        MissingExtraError: what reads it is not installed.
    """
    reader = next(reader for suffix, reader in READERS.items() if name.lower().endswith(suffix))
    with _opened(name) as file:
        try:
            yield from reader(file, name, left_out)
        except (OSError, EOFError, ValueError, tarfile.TarError) as error:
            reason = f"cannot be read to its end: {printable(str(error))}"
            yield broken(name, reason, may_pass=True)


def count(name: str) -> int | None:
    """How many pictures a list has; None where only reading all would tell."""
    if not name.lower().endswith((".txt", ".jsonl")) or is_url(name):
        return None
    return sum(1 for _ in read(name, Counter()))


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if is_url(name):
        with open_url(name) as file:
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


def _read_list(file: BinaryIO, name: str, left_out: Counter[str]) -> Iterator[Picture]:
    for line in _lines(file):
        path = os.fsdecode(line.rstrip(b"\r\n"))
        if path.strip():
            yield from _named(path, name)


def _read_jsonl(file: BinaryIO, name: str, left_out: Counter[str]) -> Iterator[Picture]:
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        try:
            value = parse_json(line)
        except ValueError as error:
            yield broken(f"{name}:{number}", f"bad JSON: {error}")
            continue
        path = _name_in(value) if isinstance(value, dict) else None
        if path:
            yield from _named(path, name)
        else:
            yield broken(f"{name}:{number}", f"has none of {', '.join(NAMES)}")


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a text file as UTF-8, without its byte order mark."""
    head = file.read(4)
    encoding = encoding_of(head)
    if not encoding.startswith("utf-8"):
        text = (head + file.read(MOST_BYTES)).decode(encoding)
        yield from (line.encode("utf-8", "surrogateescape") for line in text.split("\n"))
        return
    first = (head + file.readline()).removeprefix(b"\xef\xbb\xbf")
    yield from chain((line for line in first.split(b"\n") if line), file)


def _read_tar(file: BinaryIO, name: str, left_out: Counter[str]) -> Iterator[Picture]:
    unique = UniqueNames()
    for member, content in members(file):
        if member.isdir() or not is_picture_member(member.name, left_out):
            continue
        where = unique(f"{name}/{member.name}")
        if not member.isreg():
            yield broken(where, "is not a regular file")
        elif member.size > MOST_BYTES:
            yield broken(where, f"has more than {MOST_BYTES:,} bytes")
        else:
            yield held(where, content())


def _read_parquet(file: BinaryIO, name: str, left_out: Counter[str]) -> Iterator[Picture]:
    with needs_extra("parquet", f"reading {name}"):
        from pyarrow import ArrowException, parquet
    try:
        table = parquet.ParquetFile(file)
        groups = map(table.metadata.row_group, range(table.metadata.num_row_groups))
        a_row = sum(group.total_byte_size for group in groups) / max(table.metadata.num_rows, 1)
        rows = max(1, min(MOST_ROWS_A_READ, int(BYTES_A_READ / max(a_row, 1))))
        number = 0
        for batch in table.iter_batches(batch_size=rows):
            for place in range(batch.num_rows):  # not all at once, which would copy the batch
                yield from _of_row(batch.slice(place, 1).to_pylist()[0], name, number)
                number += 1
    except ArrowException as error:
        raise ValueError(str(error)) from None


def _of_row(row: dict[str, Any], name: str, number: int) -> Iterator[Picture]:
    """The pictures of a row: those whose bytes it holds, else the one that it names."""
    where = f"{name}/{number}"
    cells = [(column, *found) for column, value in row.items() for found in _held(column, value)]
    unique = UniqueNames()
    for column, content, inner in cells:
        told = inner or (_name_in(row) if len(cells) == 1 else None)
        which = [column] if len(cells) > 1 else []
        parts = [where, *which, *([told.lstrip("/")] if told else [])]
        yield held(unique("/".join(parts)), content)
    if not cells:
        if path := _name_in(row):
            yield from _named(path, name)
        else:
            yield broken(where, "has no picture and no path")


def _held(column: str, value: Any) -> Iterator[tuple[bytes, str | None]]:
    """The pictures in a cell, with their names: bytes, ``{bytes, path}``, or a list of these."""
    if isinstance(value, list):
        for one in value:
            yield from _held(column, one)
    elif isinstance(value, dict):
        content, path = value.get("bytes"), value.get("path")
        if isinstance(content, bytes) and content:
            yield content, path if isinstance(path, str) else None
    elif (isinstance(value, bytes) and value) and (
        column.lower() in BYTES_KEYS or value.startswith(PICTURE_STARTS)
    ):
        yield value, None


def _name_in(row: dict[str, Any]) -> str | None:
    """The path or URL that a row of a list or a table has, under any usual name."""
    values = {normalised(key): value for key, value in row.items()}
    for name in NAMES:
        value = values.get(name)
        if isinstance(value, dict):  # as Hugging Face's data sets keep pictures
            value = value.get("path")
        if isinstance(value, str) and value:
            return value
    return None


def _named(path: str, shard: str) -> Iterator[Picture]:
    """A path in a list: as it stands, or, where there is none, as seen from the list's folder."""
    if is_leftover(path):
        return
    if is_url(path) or is_url(shard):
        yield listed_picture(path, shard)
        return
    path = local_path(path)
    if not os.path.isabs(path) and not os.path.lexists(path):
        beside = os.path.join(os.path.dirname(shard), path)
        path = beside if os.path.lexists(beside) else path
    yield Picture(path)


READERS: dict[str, Read] = {
    ".txt": _read_list,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
    ".tar": _read_tar,
    ".tar.gz": _read_tar,
    ".tgz": _read_tar,
    ".tar.bz2": _read_tar,
    ".tar.xz": _read_tar,
}
