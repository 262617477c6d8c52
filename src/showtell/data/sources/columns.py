"""Tables of columns with pictures in them: what Parquet and Arrow files share.

A picture is ``{"bytes": ..., "path": ...}`` or plain bytes, whatever its column is called; a column
of paths serves too. The names of captions' and splits' columns are those of tables.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from showtell.data.column_names import (
    CAPTION_NAMES,
    PICTURE_NAMES,
    SPLIT_NAMES,
    caption_names,
    find_name,
    normalised,
    picture_name,
)
from showtell.data.reading import printable
from showtell.data.sources.base import captions_in
from showtell.data.unpack import (
    MOST_BYTES,
    Contents,
    Sample,
    Unpacker,
    damage,
    is_about_content,
)
from showtell.errors import DataError, needs_extra

ROWS_PER_READ = 16
Batches = Callable[[list[str]], Iterable[Any]]
"""Record batches of pyarrow's with the columns of these names, of ``ROWS_PER_READ`` rows each."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of the picture, of its captions and of its split, by name."""

    picture: str
    captions: tuple[str, ...]
    split: str | None

    @property
    def names(self) -> list[str]:
        """All that have to be read."""
        return [self.picture, *self.captions, *([self.split] if self.split else [])]

    @classmethod
    def of_schema(cls, schema: Any, file: Path) -> Self:
        """
        Raises:
            DataError: there is none for the picture, or none for captions.
        """
        picture, captions = _picture_and_captions(schema, file)
        return cls(picture, tuple(captions), find_name(schema.names, SPLIT_NAMES))


def read_table(
    file: Path, unpacker: Unpacker, open_table: Callable[[IO[bytes]], tuple[Any, Batches]]
) -> Contents:
    """The pictures and captions of one file; where it is damaged, those before the damage.

    Args:
        open_table: Gives the schema of an open file, and what reads the columns of these names.

    Raises:
        DataError: there is no column for the picture, or none for captions.
        MissingExtraError: pyarrow is not installed.
    """
    with needs_extra("parquet", f"reading {file}"):
        from pyarrow import ArrowException
    contents = Contents()
    try:
        with open(file, "rb") as opened:
            schema, batches = open_table(opened)
            columns = Columns.of_schema(schema, file)
            add_rows(batches(columns.names), columns, unpacker, contents)
    except (ArrowException, ValueError, LookupError, TypeError, OSError) as error:
        if not is_about_content(error):
            raise
        contents.problems.append(damage(file, str(error), len(contents.samples)))
    return contents


def add_rows(
    batches: Iterable[Any], columns: Columns, unpacker: Unpacker, contents: Contents
) -> None:
    """Take the pictures and captions of record batches.

    Args:
        batches: pyarrow's; each is read into memory.
        columns: Which to read.
        unpacker: Gets the pictures.
        contents: Gets what else there is.
    """
    rows = (row for batch in batches for row in batch.to_pylist())
    for number, row in enumerate(rows):
        said = [text for name in columns.captions for text in captions_in(row[name])]
        chosen = row[columns.split] if columns.split else None
        for name, value in _pictures(row[columns.picture], number):
            _add(name, value, said, chosen, unpacker, contents)


def _picture_and_captions(schema: Any, file: Path) -> tuple[str, list[str]]:
    names = list(schema.names)
    if len(set(names)) < len(names):
        raise DataError(f"{file} has two columns of one name: {', '.join(map(printable, names))}")
    inside = [field.name for field in schema if _holds_pictures(field.type)]
    usual = {f"{name}{ending}" for name in PICTURE_NAMES for ending in ("", "s")}
    picture = next((name for name in inside if normalised(name) in usual), None)
    picture = picture or (inside[0] if inside else picture_name(names))
    captions = [name for name in caption_names(names) if name != picture]
    if picture is None or not captions:
        what, known = ("captions", CAPTION_NAMES) if picture else ("picture", PICTURE_NAMES)
        found = ", ".join(map(printable, names[:20]))
        raise DataError(
            f"{file}: no column for the {what}; found columns: {found}; "
            f"one must be called {', '.join(known)}"
        )
    return picture, captions


def _holds_pictures(kind: Any) -> bool:
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind):
        return _holds_pictures(kind.value_type)
    if types.is_struct(kind):
        return any(kind.field(index).name == "bytes" for index in range(kind.num_fields))
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _pictures(value: Any, number: int) -> Iterator[tuple[str, Any]]:
    """The pictures of one row, each with its name; there may be a list of them."""
    if not isinstance(value, list):
        yield str(number), value
        return
    for place, entry in enumerate(value):
        yield f"{number}.{place}" if len(value) > 1 else str(number), entry


def _add(
    name: str, value: Any, said: list[object], split: Any, unpacker: Unpacker, contents: Contents
) -> None:
    content, path = value, value
    if isinstance(value, dict):
        content, path = value.get("bytes"), value.get("path")
    path = path if isinstance(path, str) else ""
    captions = [text if _is_json(text) else str(text) for text in said]
    if isinstance(content, bytes) and content:
        if len(content) > MOST_BYTES:
            contents.problems.append(("picture too large", name, f"{len(content):,} bytes"))
            return
        file = unpacker.add(content, path)
        contents.samples.append(Sample(name, file, len(content), "", captions, split))
    elif path:
        contents.samples.append(Sample(name, "", 0, path, captions, split))
    else:
        contents.problems.append(("bad row", f"row {name}", "holds no picture and no path"))


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
