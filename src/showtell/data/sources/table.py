"""CSV and TSV: a header that names the columns, one caption or one picture a row.

Also the tables that Flickr8k and Flickr30k are passed around as (``captions.txt`` with commas,
``results.csv`` with ``|``), and the ``metadata.csv`` of a Hugging Face image folder.
"""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from showtell.data.reading import printable, read_text
from showtell.data.records import Dataset
from showtell.data.sources.base import (
    CAPTION_NAMES,
    ID_NAMES,
    PICTURE_NAMES,
    SPLIT_NAMES,
    Row,
    Source,
    collect_rows,
    find_name,
    normalised,
    peek,
)
from showtell.errors import DataError

DELIMITERS = ",\t;|"
TABLE_NAMES = ("captions.csv", "captions.tsv", "captions.txt", "metadata.csv")
_NUMBERED_CAPTION = re.compile(r"^captions?_?\d+$")


def matches(path: Path) -> bool:
    """A ``.csv`` or ``.tsv``, a text file whose first line names such columns, or its folder."""
    if path.is_dir():
        return bool(_tables(path))
    suffix = path.suffix.lower()
    if suffix in {".csv", ".tsv"}:
        return True
    if suffix != ".txt":
        return False
    header = peek(path).lstrip("\ufeff").partition("\n")[0]
    names = header.rstrip("\r").split(_delimiter(header))
    return bool(find_name(names, PICTURE_NAMES) and _caption_columns(names))


def load(path: Path, images: Path | None) -> Dataset:
    """Read a table, or the one that a folder holds.

    Raises:
        DataError: no table, not UTF-8, unknown columns, bad quoting, or nothing usable.
    """
    file = _only_table(path) if path.is_dir() else path
    return collect_rows(_rows(file), file, str(path), "csv", images)


def _tables(folder: Path) -> list[Path]:
    found = [folder / name for name in TABLE_NAMES if (folder / name).is_file()]
    return [file for file in found if file.suffix != ".txt" or matches(file)]


def _only_table(folder: Path) -> Path:
    tables = _tables(folder)
    if len(tables) != 1:
        names = ", ".join(file.name for file in tables) or "none"
        raise DataError(
            f"{folder} should hold one of {', '.join(TABLE_NAMES)}, found {names}; give the file"
        )
    return tables[0]


def _delimiter(header: str) -> str:
    return max(DELIMITERS, key=header.count)


def _caption_columns(names: list[str]) -> list[str]:
    """The column of captions with any numbered ones (``caption_1`` ... ``caption_5``)."""
    numbered = [name for name in names if _NUMBERED_CAPTION.match(normalised(name))]
    one = find_name(names, CAPTION_NAMES)
    return [one, *numbered] if one is not None else numbered


def _rows(file: Path) -> Iterator[Row]:
    text = read_text(file)
    if not text.strip():
        raise DataError(f"{file} is empty; its first line must name the columns")
    if "\0" in text:
        raise DataError(f"{file} holds NUL characters, so it is no text table; save it as UTF-8")
    delimiter = _delimiter(text.partition("\n")[0])
    # An unclosed quote would swallow the rest of the file without a word; strict tells.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        yield from _read(reader, file)
    except csv.Error as error:
        raise DataError(
            f"{file}:{reader.line_num}: {error}; a quote inside a quoted cell is written twice"
        ) from None


def _read(reader: Iterator[list[str]], file: Path) -> Iterator[Row]:
    names = next(reader)
    columns = {name: number for number, name in reversed(list(enumerate(names)))}
    picture, captions = find_name(names, PICTURE_NAMES), _caption_columns(names)
    if picture is None or not captions:
        what, usual = ("picture", PICTURE_NAMES) if picture is None else ("caption", CAPTION_NAMES)
        found = ", ".join(printable(name) for name in names[:20])
        raise DataError(
            f"{file}: no column for the {what}; found columns: {found}; "
            f"the first line must name one of {', '.join(usual)}"
        )
    split, image_id = find_name(names, SPLIT_NAMES), find_name(names, ID_NAMES)
    for number, cells in enumerate(reader, 2):
        if not cells:
            continue
        where = f"{file.name}: row {number}"

        def cell(name: str | None, cells: list[str] = cells) -> str | None:
            index = len(cells) if name is None else columns[name]
            return cells[index] if index < len(cells) else None

        said = [text for name in captions if (text := cell(name)) is not None]
        if len(captions) > 1:  # a picture may have fewer captions than the table has columns
            said = [text for text in said if text.strip()]
        elif not said:
            said = [""]
        yield Row(where, cell(picture), said, cell(split), cell(image_id))


SOURCE = Source(
    name="csv",
    description="a CSV or TSV with a column for the picture and one for the caption",
    looks_for="a .csv or .tsv, or a folder with captions.csv",
    matches=matches,
    load=load,
)
