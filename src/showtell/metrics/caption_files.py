"""Files of captions and of references, read as entries: an image's names and its captions.

Captions: COCO's results format, JSON lines (as ``showtell caption`` writes them; one is enough), a
CSV or TSV with a header, or one JSON object of captions by image. References: the same with any
number of captions an image, COCO's annotations, or a Karpathy split file.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from showtell.core.messages import some
from showtell.data.column_names import (
    CAPTION_NAMES,
    ID_NAMES,
    PICTURE_NAMES,
    SPLIT_NAMES,
    caption_names,
    find_name,
)
from showtell.data.reading import listed_captions, parse_json, printable, read_text
from showtell.data.sources.table import TableText
from showtell.errors import DataError, ScoringError

TABLES = {".csv", ".tsv", ".txt"}


@dataclass
class Entry:
    """The captions of one image in a file.

    Attributes:
        names: what the file calls the image, by the kind of name: "id", "file name", "number".
        captions: of the image; anything but a string is a fault of the file.
        split: None where the file has no splits.
        confidence: of the captioner, as ``showtell caption`` writes it; None where there is none.
        others: less likely captions, as ``showtell caption --num-captions`` writes them.
    """

    names: dict[str, str]
    captions: list[Any] = field(default_factory=list)
    split: str | None = None
    confidence: float | None = None
    others: list[Any] = field(default_factory=list)

    @property
    def image_id(self) -> str:
        """The first of its names."""
        return next(iter(self.names.values()))


def read_results(
    path: Path, notes: list[str] | None = None, *, several: bool = False
) -> list[Entry]:
    """One caption for each image, in the file's order.

    Args:
        several: an image may have several captions: in a list, in rows of its own, or beside the
            best one as ``showtell caption --num-captions`` writes them.
        notes: gets a line for each thing about the file that a person should know.

    Raises:
        ScoringError: the file cannot be read, has another form or no captions, names an image
            twice, or has a caption that is not a string.
    """
    entries = list(_entries(_value(path, [] if notes is None else notes), path))
    if not entries:
        raise ScoringError(f"{path}: no captions to score")
    bad = [n for n, entry in enumerate(entries) if not entry.names or not entry.captions]
    if bad:
        raise ScoringError(
            f"{path}: {len(bad)} of {len(entries)} entries lack an image_id (a number or a string) "
            f"or a caption: number {some(bad)}, counted from 0"
        )
    wrong = [e.image_id for e in entries if not all(isinstance(text, str) for text in e.captions)]
    if wrong:
        raise ScoringError(
            f"{path}: {len(wrong)} captions are not strings: of images {some_names(wrong)}"
        )
    if several:
        every = [replace(entry, captions=entry.captions + entry.others) for entry in entries]
        return _merged(every, path)
    twice = [e.image_id for e in entries if len(e.captions) > 1]
    if twice := [*twice, *repeated([e.image_id for e in entries])]:
        hint = "remove the duplicates"
        if any(len({*entry.captions}) > 1 for entry in _merged(entries, path)):
            hint = (
                "keep one of each (`showtell score` takes several if only --metric self-CIDEr, "
                "--metric Div-1 or --metric Div-2 is asked for: these measure variety)"
            )
        raise ScoringError(
            f"{path}: {len(twice)} images have more than one caption: {some_names(twice)}; {hint}"
        )
    return entries


def read_references(path: Path, notes: list[str] | None = None) -> list[Entry]:
    """The images that have references, in the file's order.

    Args:
        notes: gets a line for each thing about the file that a person should know.

    Raises:
        ScoringError: the file cannot be read or has another form, or a reference is not a string.
    """
    value = _value(path, [] if notes is None else notes)
    if isinstance(value, dict) and isinstance(value.get("annotations"), list):
        entries = _coco(value, path)
    elif isinstance(value, dict) and isinstance(value.get("images"), list):
        entries = _karpathy(value["images"], path)
    else:
        entries = _merged(_entries(value, path), path)
    if not (found := [entry for entry in entries if entry.captions]):
        raise ScoringError(
            f"{path}: no image with sentences; expected COCO annotations, a Karpathy split file, "
            "or a table or JSON rows with image_id and caption"
        )
    return found


def _coco(value: dict[str, Any], path: Path) -> list[Entry]:
    entries: dict[str, Entry] = {}
    images = value.get("images")
    for number, image in enumerate(images if isinstance(images, list) else []):
        image_id = _id(image.get("id")) if isinstance(image, dict) else None
        if image_id is None:
            raise ScoringError(f"{path}: entry {number} of images has no id")
        entries[image_id] = Entry(_names({"id": image_id, "file name": image.get("file_name")}))
    wrong: list[object] = []
    for number, annotation in enumerate(value["annotations"]):
        is_object = isinstance(annotation, dict)
        image_id = _id(annotation.get("image_id")) if is_object else None
        if image_id is None:
            raise ScoringError(f"{path}: entry {number} of annotations has no image_id")
        caption = annotation.get("caption")
        if isinstance(caption, str):
            entries.setdefault(image_id, Entry({"id": image_id})).captions.append(caption)
        else:
            wrong.append(annotation.get("id", number))
    if wrong:
        raise ScoringError(
            f"{path}: {len(wrong)} annotations have no caption that is a string: {some(wrong)}"
        )
    return list(entries.values())


def _karpathy(images: list[Any], path: Path) -> list[Entry]:
    entries = []
    for number, image in enumerate(images):
        sentences = image.get("sentences") if isinstance(image, dict) else None
        names = {}
        if isinstance(image, dict):
            keys = {"id": "cocoid", "file name": "filename", "number": "imgid"}
            names = _names({kind: image.get(key) for kind, key in keys.items()})
        if not names or not isinstance(sentences, list):
            raise ScoringError(f"{path}: entry {number} of images lacks a name or sentences")
        captions = [s.get("raw") if isinstance(s, dict) else None for s in sentences]
        entry = Entry(names, captions, str(image.get("split")))
        if not all(isinstance(caption, str) for caption in captions):
            name = printable(entry.image_id)
            raise ScoringError(f"{path}: a sentence of image {name} is not a string")
        entries.append(entry)
    return entries


def _merged(entries: Iterable[Entry], path: Path) -> list[Entry]:
    """One entry an image; a file may have a row for each caption."""
    merged: dict[str, Entry] = {}
    for number, entry in enumerate(entries):
        if not entry.names:
            raise ScoringError(f"{path}: entry {number}, counted from 0, lacks an image_id or path")
        if not all(isinstance(text, str) for text in entry.captions):
            name = printable(entry.image_id)
            raise ScoringError(f"{path}: a caption of image {name} is not a string")
        merged.setdefault(entry.image_id, replace(entry, captions=[])).captions.extend(
            entry.captions
        )
    return list(merged.values())


def _value(path: Path, notes: list[str]) -> Any:
    """What a file holds: a JSON value, or a list of rows; ``notes`` gets what is odd about it."""
    try:
        text = read_text(path)
        if path.suffix.lower() in TABLES and text.lstrip()[:1] not in ("[", "{"):
            return list(_table(text, path, notes))
        if path.suffix.lower() in {".jsonl", ".ndjson"} or _is_lines(text):
            # Not splitlines(): JSON strings may hold U+2028, which ends no line here.
            lines = enumerate(text.split("\n"), 1)
            return [parse_json(line, path, number) for number, line in lines if line.strip()]
        return parse_json(text, path)
    except DataError as error:
        raise ScoringError(f"{error}{_file_in(path)}") from None


def _file_in(folder: Path) -> str:
    """What to say where a folder of data was given: the files in it that may have captions."""
    if not folder.is_dir():
        return ""
    places = [folder, folder / "annotations"]  # where COCO's are
    paths = [path for place in places if place.is_dir() for path in sorted(place.iterdir())]
    readable = [p for p in paths if p.suffix.lower() in TABLES | {".json", ".jsonl", ".ndjson"}]
    likely = [path for path in readable if "caption" in path.name.lower()]
    likely = likely or [path for path in readable if path.suffix.lower() != ".txt"]
    return f"; did you mean {' or '.join(map(str, likely[:3]))}?" if likely else ""


def _is_lines(text: str) -> bool:
    """Whether each of the first two lines is a JSON object."""
    lines = [line.strip() for line in text.lstrip().split("\n", 2)[:2]]
    return len(lines) == 2 and all(line[:1] == "{" and line[-1:] == "}" for line in lines)


def _table(text: str, path: Path, notes: list[str]) -> Iterator[dict[str, Any]]:
    table = TableText(text)
    names, num = table.names, len(table.names)
    file_name = find_name(names, PICTURE_NAMES)
    rows = table.rows(
        picture=None if file_name is None else names.index(file_name),
        last_is_caption=caption_names(names) == names[-1:],
    )
    for number, cells in rows:
        if len(cells) != num:
            raise ScoringError(
                f"{path}: row {number} has {len(cells)} cells, but the header names {num}; "
                f"a caption with {table.delimiter!r} in it needs quotes around it"
            )
        yield dict(zip(names, cells, strict=True))
    notes += table.notes(path.name)


def _entries(value: Any, path: Path) -> Iterator[Entry]:
    """The rows of a file's value, each with the names and the captions that it has."""
    if isinstance(value, dict) and _is_row(value):
        yield _entry(value)
    elif isinstance(value, dict) and all(map(_is_said, value.values())):
        for name, said in value.items():
            yield Entry({"id": name}, said if isinstance(said, list) else [said])
    elif isinstance(value, list):
        yield from map(_entry, value)
    else:
        raise ScoringError(
            f"{path}: expected a list of captions as in COCO's results, "
            '[{"image_id": 1, "caption": "a dog"}, ...], or JSON lines, a table, COCO annotations '
            f"or a Karpathy split file; found a {type(value).__name__}"
        )


def _is_row(value: Mapping[str, object]) -> bool:
    """Whether it is a row of one image, as a line of JSON lines is, and not captions by image."""
    return bool(find_name(value, (*ID_NAMES, *PICTURE_NAMES)) and caption_names(value))


def _is_said(value: object) -> bool:
    """Whether it is a caption or a list of captions."""
    texts = value if isinstance(value, list) else [value]
    return all(isinstance(text, str) for text in texts)


def _entry(row: object) -> Entry:
    if not isinstance(row, dict):
        return Entry({})
    keys = {"id": find_name(row, ID_NAMES), "file name": find_name(row, PICTURE_NAMES)}
    names = _names({kind: row[key] for kind, key in keys.items() if key is not None})
    one = find_name(row, CAPTION_NAMES)
    captions: list[Any] = []
    for key in caption_names(row):
        # A numbered cell may be empty.
        captions += [text for text in _texts(row[key]) if text or key == one]
    split = find_name(row, SPLIT_NAMES)
    others = row.get("alternatives")
    others = others if isinstance(others, list) else []
    return Entry(
        names,
        captions,
        None if split is None else str(row[split]),
        _number(row.get("confidence")),
        [other.get("caption") for other in others if isinstance(other, dict)],
    )


def _texts(value: Any) -> list[Any]:
    """The captions of a cell, which may hold a list of them."""
    if isinstance(value, list):
        return value
    listed = listed_captions(value) if isinstance(value, str) else None
    return [value] if listed is None else listed


def _number(value: object) -> float | None:
    """A confidence, also from a table's cell; None for what is not a number."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        with suppress(ValueError):
            return float(value)
    return None


def _names(given: Mapping[str, object]) -> dict[str, str]:
    found = {kind: _id(value) for kind, value in given.items()}
    return {kind: name for kind, name in found.items() if name is not None}


def _id(value: object) -> str | None:
    """An id as text; None for what is not an id. 139.0, as pandas writes it, is 139."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return str(value).strip() or None


def repeated(names: Iterable[str]) -> list[str]:
    """The names that come more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def some_names(names: Sequence[str]) -> str:
    """The first of them, for a message; they are a file's, and may hold anything."""
    return some([printable(name) for name in names])
