"""JSON lines: one object a line with a picture and its captions; also one JSON list of them.

``{"path": "a.jpg", "captions": ["A dog .", "A brown dog ."], "split": "train"}``
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from showtell.data.reading import parse_json, printable, read_text
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
    peek,
)
from showtell.errors import DataError

FILE_NAMES = ("captions.jsonl", "metadata.jsonl")


def matches(path: Path) -> bool:
    """A ``.jsonl`` or ``.ndjson``, a ``.json`` that is a list, or a folder with such a file."""
    if path.is_dir():
        return bool(_files(path))
    if path.suffix.lower() == ".json":
        return peek(path).lstrip("\ufeff \t\r\n").startswith("[")
    return path.suffix.lower() in {".jsonl", ".ndjson"}


def load(path: Path, images: Path | None) -> Dataset:
    """Read a file of JSON lines, or the one that a folder holds.

    Raises:
        DataError: no file, bad JSON (with its line), or nothing usable.
    """
    file = path
    if path.is_dir():
        files = _files(path)
        if len(files) != 1:
            raise DataError(f"{path} should hold one of {', '.join(FILE_NAMES)}; give the file")
        file = files[0]
    return collect_rows(_rows(file), file, str(path), "jsonl", images)


def _files(folder: Path) -> list[Path]:
    return [folder / name for name in FILE_NAMES if (folder / name).is_file()]


def _rows(file: Path) -> Iterator[Row]:
    text = read_text(file)
    if not text.strip():
        raise DataError(f"{file} is empty; each line is an object with path and captions")
    first = True
    for where, value in _values(text, file):
        if not isinstance(value, dict):
            detail = f"{where} is a {type(value).__name__}, expected an object"
            yield Row(f"{where} ({detail})", None, ())
            continue
        row = _row(where, value)
        if first and not (isinstance(row.file_name, str) and row.captions):
            found = ", ".join(printable(str(key)) for key in value) or "none"
            raise DataError(
                f"{file.parent / where}: no key for the picture or none for the captions; found: "
                f"{found}; write path and captions"
            )
        first = False
        yield row


def _values(text: str, file: Path) -> Iterator[tuple[str, Any]]:
    if text.lstrip().startswith("["):
        for number, value in enumerate(parse_json(text, file), 1):
            yield f"{file.name}: item {number}", value
        return
    # Not splitlines(): JSON strings may hold U+2028, which ends no line here.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"{file.name}:{number}", parse_json(line, file, number)


def _row(where: str, value: dict[str, Any]) -> Row:
    caption_name = find_name(value, CAPTION_NAMES)
    said = value[caption_name] if caption_name is not None else []
    captions = said if isinstance(said, list) else [said]

    def get(wanted: tuple[str, ...]) -> Any:
        name = find_name(value, wanted)
        return value[name] if name is not None else None

    return Row(where, get(PICTURE_NAMES), captions, get(SPLIT_NAMES), get(ID_NAMES))


SOURCE = Source(
    name="jsonl",
    description="JSON lines: objects with path and captions, perhaps split and image_id",
    looks_for="a .jsonl, or a JSON list of objects",
    matches=matches,
    load=load,
)
