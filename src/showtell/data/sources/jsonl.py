"""JSON of rows: one object a line, one list of objects, or one object of captions by picture.

``{"path": "a.jpg", "captions": ["A dog .", "A brown dog ."], "split": "train"}``

A JSON file may also be an object of columns (``{"path": ["a.jpg"], "caption": ["A dog ."]}``, as
pandas writes tables), ``{"a.jpg": "A dog ."}``, kohya's ``meta_cap.json``
(``{"a": {"caption": "A dog ."}}``), or TextCaps' ``{"data": [...]}`` (Sidorov et al. 2020,
"TextCaps: a Dataset for Image Captioning with Reading Comprehension").
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from showtell.data.column_names import caption_names, picture_name
from showtell.data.reading import parse_json, printable, read_text
from showtell.data.records import Dataset
from showtell.data.sources.base import (
    Place,
    Row,
    RowFile,
    Source,
    captions_in,
    find_places,
    is_json_list,
    load_rows,
    only_file,
    peek,
    row_of,
)
from showtell.errors import DataError

FILE_NAMES = ("captions.jsonl", "metadata.jsonl")
_OTHER_FORMATS = re.compile(r'"(?:images|annotations|sentences)"\s*:\s*\[')
_CAPTIONS_BY_PICTURE = re.compile(r'\s*\{\s*"(?:[^"\\]|\\.)*+"\s*:\s*(?:"|\[\s*"|(?P<object>\{))')
_CAPTION_KEY = re.compile(r'"(?:captions?|caption_str|text|prompt)"\s*:')


def matches(path: Path) -> bool:
    """A ``.jsonl`` or ``.ndjson``, a ``.json`` of rows, or a folder with such a file."""
    if path.is_dir():
        return bool(_places(path))
    if path.suffix.lower() != ".json":
        return path.suffix.lower() in {".jsonl", ".ndjson"}
    text = peek(path)
    if is_json_list(text):
        return True
    if _OTHER_FORMATS.search(text):
        return False
    if '"caption_str"' in text:
        return True
    match = _CAPTIONS_BY_PICTURE.match(text.lstrip("\ufeff"))
    return bool(match and (not match["object"] or _CAPTION_KEY.search(text)))


def load(path: Path, images: Path | None) -> Dataset:
    """Read a file of rows, or those that a folder holds.

    Raises:
        DataError: no file, bad JSON (with its line), or nothing usable.
    """
    if not path.is_dir():
        files = [_row_file(path)]
    else:
        places = _places(path) or [Place(path, None, "")]
        usual = f"of {', '.join(FILE_NAMES)}"
        files = [
            _row_file(only_file(_files(place.folder), place.folder, usual), place)
            for place in places
        ]
    return load_rows(files, str(path), "jsonl", images, [])


def _row_file(file: Path, place: Place | None = None) -> RowFile:
    # TextCaps names folders of Open Images (train/0f.jpg) whichever folder its pictures are in.
    return RowFile(file, _rows(file), place, bare=file.suffix.lower() == ".json")


def _places(folder: Path) -> list[Place]:
    return find_places(folder, lambda place: bool(_files(place)))


def _files(folder: Path) -> list[Path]:
    return [folder / name for name in FILE_NAMES if (folder / name).is_file()]


def _rows(file: Path) -> Iterator[Row]:
    text = read_text(file)
    if not text.strip():
        raise DataError(f"{file} is empty; each line is an object with path and captions")
    first = None
    has_picture = has_captions = False
    for where, value in _values(text, file):
        if not isinstance(value, dict):
            fault = f"a {type(value).__name__} where an object was expected"
            yield Row(where, None, (), fault=fault)
            continue
        first = first or (where, value)
        has_picture = has_picture or picture_name(value) is not None
        has_captions = has_captions or bool(caption_names(value))
        yield row_of(where, value)
    if first is not None and not (has_picture and has_captions):
        where, value = first
        found = ", ".join(printable(str(key)) for key in list(value)[:20]) or "none"
        missing = "captions" if has_picture else "picture"
        raise DataError(
            f"{file.parent / where}: no key for the {missing}, here or in any other row; found: "
            f"{found}; write path and captions"
        )


def _values(text: str, file: Path) -> Iterator[tuple[str, Any]]:
    if is_json_list(text):
        yield from _items(parse_json(text, file), file)
        return
    if file.suffix.lower() == ".json" and not _is_lines(text):
        value = parse_json(text, file, hook=_keep_all)
        if isinstance(value, dict) and isinstance(value.get("data"), list):
            yield from _items(value["data"], file)
        elif isinstance(value, dict) and (rows := _rows_of_columns(value)) is not None:
            yield from _items(rows, file)
        elif isinstance(value, dict):
            for name, said in value.items():
                yield f"{file.name}: {printable(name)}", _of_picture(name, said)
        else:
            yield from _items([value], file)
        return
    # Not splitlines(): JSON strings may hold U+2028, which ends no line here.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"{file.name}:{number}", parse_json(line, file, number)


def _rows_of_columns(value: dict[str, Any]) -> list[Any] | None:
    """The rows of an object of columns, as pandas writes it; None where it is none.

    A column is a list, or an object of values by the number of the row.
    """
    if picture_name(value) is None or not caption_names(value):
        return None
    columns = [list(c.values()) if isinstance(c, dict) else c for c in value.values()]
    if not all(isinstance(column, list) for column in columns):
        return None
    if len({len(column) for column in columns}) != 1:
        return None
    return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]


def _is_lines(text: str) -> bool:
    """Whether a JSON file holds one object a line."""
    first, _, rest = text.lstrip().partition("\n")
    return first.startswith("{") and first.rstrip().endswith("}") and rest.startswith("{")


def _items(values: list[Any], file: Path) -> Iterator[tuple[str, Any]]:
    for number, value in enumerate(values, 1):
        yield f"{file.name}: item {number}", value


def _of_picture(name: str, said: Any) -> dict[str, Any]:
    """The row of one picture in an object of captions by picture."""
    entries = said if isinstance(said, list) else [said]
    captions: list[object] = []
    for entry in entries:
        if isinstance(entry, dict):
            captions += [text for key in caption_names(entry) for text in captions_in(entry[key])]
        else:
            captions += captions_in(entry)
    return {"path": name, "captions": captions}


def _keep_all(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which a key that comes twice keeps all of its values, in one list."""
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    lists: dict[str, list[Any]] = {}
    for name, entry in pairs:
        lists.setdefault(name, []).extend(entry if isinstance(entry, list) else [entry])
    counts = Counter(name for name, _ in pairs)
    return {name: lists[name] if counts[name] > 1 else value[name] for name in value}


SOURCE = Source(
    name="jsonl",
    description="JSON lines: objects with path and captions, perhaps split and image_id",
    looks_for="a .jsonl, or a .json list of objects or object of captions by picture",
    matches=matches,
    load=load,
    tells_edits=True,
)
