"""Parquet tables with pictures in them, as Hugging Face's ``datasets`` writes them.

A picture is ``{"bytes": ..., "path": ...}`` or plain bytes, whatever its column is called; a column
of paths serves too. The names of captions' and splits' columns are those of tables.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from showtell.data.reading import printable
from showtell.data.records import Dataset
from showtell.data.sources.base import (
    CAPTION_NAMES,
    PICTURE_NAMES,
    SPLIT_NAMES,
    Source,
    caption_names,
    captions_in,
    find_name,
    normalised,
    picture_name,
)
from showtell.data.sources.containers import archives_in, load_archives
from showtell.data.unpack import (
    MOST_BYTES,
    Contents,
    Sample,
    Unpacker,
    damage,
    is_about_content,
)
from showtell.errors import DataError, MissingExtraError

SUFFIXES = (".parquet",)
ROWS_PER_READ = 16


def matches(path: Path) -> bool:
    """A ``.parquet``, or a folder of them: at the top, in ``data/`` or in split folders."""
    if path.is_dir():
        return bool(archives_in(path, SUFFIXES))
    return path.suffix.lower() in SUFFIXES


def load(path: Path, images: Path | None) -> Dataset:
    """Read a table, or all tables of a folder.

    Raises:
        DataError: no table, none that can be read, no column for picture or captions, or nothing
            usable.
        MissingExtraError: pyarrow is not installed.
    """
    return load_archives(path, "parquet", SUFFIXES, images, _read)


def _read(file: Path, unpacker: Unpacker) -> Contents:
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError:
        raise MissingExtraError("parquet", f"reading {file}") from None
    contents = Contents()
    try:
        with open(file, "rb") as opened:
            table = parquet.ParquetFile(opened, pre_buffer=False)
            picture, captions, split = _columns(table.schema_arrow, file)
            wanted = [picture, *captions, *([split] if split else [])]
            rows = (
                row
                for batch in table.iter_batches(batch_size=ROWS_PER_READ, columns=wanted)
                for row in batch.to_pylist()
            )
            for number, row in enumerate(rows):
                said = [text for name in captions for text in captions_in(row[name])]
                chosen = row[split] if split else None
                for name, value in _pictures(row[picture], number):
                    _add(name, value, said, chosen, unpacker, contents)
    except (ArrowException, ValueError, LookupError, TypeError, OSError) as error:
        if not is_about_content(error):
            raise
        contents.problems.append(damage(file, str(error), len(contents.samples)))
    return contents


def _columns(schema: Any, file: Path) -> tuple[str, list[str], str | None]:
    """The columns of the picture, of its captions and of its split.

    Raises:
        DataError: there is none for the picture, or none for captions.
    """
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
    return picture, captions, find_name(names, SPLIT_NAMES)


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


SOURCE = Source(
    name="parquet",
    description="Parquet tables with the pictures in them, as Hugging Face has them",
    looks_for="a .parquet, or a folder of them",
    matches=matches,
    load=load,
    is_container=True,
)
