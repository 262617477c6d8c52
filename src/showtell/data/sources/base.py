"""What a source of data is, and what several sources share.

A ``Source`` reads one format: it recognises it cheaply and loads it.

Tables, JSON files and Parquet files share rows: each ``Row`` names a picture, and has captions and
perhaps a split and an id. Columns and keys are found by their usual names. The user wrote these
files, so a path in them may be absolute or climb with ``..``; relative paths start at the file.
"""

import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from showtell.core.messages import counted
from showtell.data.collect import Collector, Draft
from showtell.data.column_names import (
    CAPTION_NAMES,
    EDITED_NAMES,
    ID_NAMES,
    PICTURE_NAMES,
    SPLIT_NAMES,
    STYLE_NAMES,
    caption_names,
    find_name,
    is_edited,
    model_name,
    picture_name,
)
from showtell.data.ids import id_text
from showtell.data.pictures import PictureFinder
from showtell.data.reading import chosen_encoding, encoding_of, note_input, printable
from showtell.data.records import Dataset, Split
from showtell.data.splits import split_in_name, split_of
from showtell.errors import DataError

PEEK_BYTES = 65_536
FLICKR_FOLDERS = ("flickr30k_images", "flickr30k-images", "Flicker8k_Dataset")


@dataclass(frozen=True, slots=True)
class Source:
    """One format that data comes in.

    Attributes:
        name: The value of ``--format``.
        description: One line for people.
        looks_for: What ``matches`` looks for; follows the words "looked for".
        matches: Whether a path looks like this format; reads at most a little of it.
        load: Reads it; the second argument is the folder of the pictures, if the user named one.
        notes_inputs: Whether ``load`` notes all that it looks at (``note_input``), so that a
            large data set may be kept in the cache as it was read.
        is_container: Whether the pictures lie inside archives. A folder that another source
            recognises too is then left to the other one.
        tells_edits: Whether its rows may say which captions are a model's own (``only_edited``).
    """

    name: str
    description: str
    looks_for: str
    matches: Callable[[Path], bool]
    load: Callable[[Path, Path | None], Dataset]
    notes_inputs: bool = False
    is_container: bool = False
    tells_edits: bool = False


def peek(path: Path) -> str:
    """The beginning and the end of a text file, enough to tell one format from another.

    Returns "" for what cannot be read: ``load`` reports that.
    """
    try:
        if not path.is_file():
            return ""
        with open(path, "rb") as file:
            head = file.read(PEEK_BYTES)
            size = file.seek(0, 2)
            file.seek(max(len(head), size - PEEK_BYTES) & ~3)  # between characters of UTF-16
            tail = file.read()
    except (OSError, ValueError):
        return ""
    encoding = encoding_of(head[:4])
    rest = encoding_of(head[2:6]) if encoding == "utf-16" else encoding
    return f"{head.decode(encoding, 'replace')}\n{tail.decode(rest, 'replace')}"


def is_json_list(text: str) -> bool:
    """Whether the text of a JSON file begins with a list."""
    return text.lstrip("\ufeff \t\r\n").startswith("[")


def picture_finder(
    images: Path | None,
    bases: Iterable[Path],
    subfolders: Iterable[str],
    *,
    split: Split | None = None,
    bare: bool = False,
    other_name: Callable[[str], str] | None = None,
) -> PictureFinder:
    """Looks in ``images`` where the user named it, else in the usual places.

    Args:
        images: The folder of the pictures that the user named, or None.
        bases: Folders that may hold the pictures or a folder of them, best guess first.
        subfolders: Usual names of such a folder, best guess first; "." is the base itself, which
            else comes last. In ``images``, which the user named, it comes first.
        split, other_name: As ``PictureFinder`` takes them.
        bare: As ``PictureFinder`` takes it; always so in ``images``.
    """
    is_named = images is not None
    names = dict.fromkeys((".", *subfolders) if is_named else (*subfolders, "."))
    roots = (images,) if images is not None else tuple(bases)
    folders = [root / name for root in roots for name in names]
    splits = {
        root / name: split_of_name
        for root in roots
        for name in names
        if (split_of_name := split_in_name(name)) is not None
    }
    return PictureFinder(
        folders, splits=splits, split=split, bare=bare or is_named, other_name=other_name
    )


class Place(NamedTuple):
    """A folder in which files of a data set lie.

    Attributes:
        folder: The folder.
        split: The split that its name says.
        prefix: Its path from the data set's folder, with a slash at the end.
    """

    folder: Path
    split: Split | None
    prefix: str


def find_places(root: Path, has_files: Callable[[Path], bool]) -> list[Place]:
    """The folders of a data set that have certain files.

    They are ``root`` itself, or its split folders (``train``, ``val`` ...), or ``data`` below it,
    or the split folders of ``data``; the first of these that has files. Hugging Face data sets
    are laid out in these ways.
    """
    for base in (root, root / "data", root / "default"):
        note_input(base)
        prefix = "" if base == root else f"{base.name}/"
        if has_files(base):
            return [Place(base, None, prefix)]
        places = [
            Place(base / name, split, f"{prefix}{name}/")
            for name in _names(base)
            if (split := split_of(name)) is not None and has_files(base / name)
        ]
        if places:
            return places
    return []


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def files_ending(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files of a folder with one of these suffixes, sorted; hidden ones are left out."""
    return [
        folder / name
        for name in _names(folder)
        if name.lower().endswith(suffixes) and name[0] != "." and (folder / name).is_file()
    ]


def only_file(files: Sequence[Path], folder: Path, usual: str) -> Path:
    """The one file of a folder.

    Args:
        files: What was found.
        folder: Where.
        usual: What was looked for, for the message.

    Raises:
        DataError: there is none, or there are several.
    """
    if len(files) == 1:
        return files[0]
    names = ", ".join(printable(file.name) for file in files[:9]) or "none"
    raise DataError(f"{folder} should hold one {usual}, found {names}; give the file")


def captions_in(value: object) -> list[object]:
    """The captions of a JSON or Parquet value: a text, a list of texts, or of ``{"raw": text}``."""
    if value is None:
        return []
    found = []
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, dict):
            name = find_name(map(str, entry), ("raw", *CAPTION_NAMES))
            found += captions_in(entry[name] if name is not None else None) or [entry]
        else:
            found.append(entry)
    return found


_only_edited: ContextVar[bool] = ContextVar("only_edited", default=False)


@contextmanager
def only_edited(wanted: bool) -> Iterator[None]:
    """Within the block, rows are left out whose captions are a model's own."""
    token = _only_edited.set(wanted)
    try:
        yield
    finally:
        _only_edited.reset(token)


class Row(NamedTuple):
    """One row of a file, as found; ``fault`` says why it cannot be used.

    ``styles`` are of the captions, one each; one for all; or none. ``untouched``: a model wrote the
    captions, and nobody has edited them.
    """

    where: str
    file_name: object
    captions: Sequence[object]
    split: object = None
    image_id: object = None
    fault: str = ""
    styles: Sequence[object] = ()
    untouched: bool = False


def row_of(where: str, value: dict[str, Any]) -> Row:
    """The row that a JSON object is."""
    captions = [
        caption for name in caption_names(value) for caption in captions_in(value.get(name))
    ]

    def get(name: str | None) -> Any:
        return None if name is None else value[name]

    named = picture_name(value)
    file_name = get(named)
    if named != find_name(value, PICTURE_NAMES):  # an id: 139 may be 139.jpg
        file_name = id_text(file_name)
    split, image_id = find_name(value, SPLIT_NAMES), find_name(value, ID_NAMES)
    said = get(find_name(value, STYLE_NAMES))
    styles = said if isinstance(said, list) else [] if said is None else [said]
    fault = ""
    if len(styles) == 1:
        styles = styles * len(captions)
    elif styles and len(styles) != len(captions):
        fault = f"{len(styles)} styles for {len(captions)} captions"
    untouched = bool(get(model_name(value))) and not is_edited(get(find_name(value, EDITED_NAMES)))
    return Row(where, file_name, captions, get(split), get(image_id), fault, styles, untouched)


class RowFile(NamedTuple):
    """A file of rows, and what its place says of all of them.

    Attributes:
        file: The file; relative picture paths start at its folder.
        rows: What it holds.
        place: The folder it lies in, where the data set has several.
        bare: As ``PictureFinder`` takes it.
    """

    file: Path
    rows: Iterable[Row]
    place: Place | None = None
    bare: bool = False


def load_rows(
    files: Iterable[RowFile], name: str, source: str, images: Path | None, notes: list[str]
) -> Dataset:
    """The data set of files of rows; several rows may be about one picture.

    Args:
        files: What to read.
        name: What the user called the data set.
        source: The source's name.
        images: The folder of the pictures that the user named, or None.
        notes: Sentences about decisions; may grow while the rows are read.

    Raises:
        DataError: nothing usable is in them, or no picture is found.
    """
    collector = Collector(name, source, PictureFinder([]), own_paths=True)
    for file, rows, place, bare in files:
        folders = (".", "images", "Images", "train_images", "test_images", *FLICKR_FOLDERS)
        split, prefix = (place.split, place.prefix) if place else (None, "")
        collector.finder = picture_finder(
            images, [file.parent], folders, split=split or split_in_name(file.stem), bare=bare
        )
        for row in rows:
            _add(row, collector, split, prefix)
    collector.notes += notes
    if collector.num_untouched or _only_edited.get():
        collector.notes.append(_about_untouched(collector, images))
    return collector.finish()


def _about_untouched(collector: Collector, images: Path | None) -> str:
    """What is said of captions that a model wrote and nobody edited.

    Raises:
        DataError: there are no others, and these are left out.
    """
    num, total = collector.num_untouched, collector.num_captions
    if not _only_edited.get():
        command = ["showtell", "data", "convert", collector.name, "-o", "mine.jsonl"]
        command += ["--images", str(images)] if images else []
        command += ["--encoding", encoding] if (encoding := chosen_encoding()) else []
        return (
            f"a model wrote {num:,} of {counted(total, 'caption')}, and nobody edited them "
            "(`edited` is empty or false): a model learns nothing from its own captions, and "
            "figures on them are too good; delete these rows, or leave them out: "
            f"{shlex.join(command)} --only-edited"
        )
    if num and not collector.ids():
        raise DataError(
            f"{collector.name} has no caption that a person edited: a model wrote all {num:,}; "
            "write true into `edited` of the rows that you have corrected"
        )
    if num:
        return f"left out: {counted(num, 'caption')} that a model wrote and nobody edited"
    return "no caption is marked as a model's own, so all are kept"


def _add(row: Row, collector: Collector, place_split: Split | None, prefix: str) -> None:
    if row.fault:
        collector.problem("bad row", row.where, row.fault)
        return
    if not (isinstance(row.file_name, str) and row.file_name.strip()):
        collector.problem("bad row", row.where, "names no picture")
        return
    if row.untouched and _only_edited.get():
        collector.num_untouched += len(row.captions)
        return
    file_name = row.file_name.strip()
    own_id = (id_text(row.image_id) or "").strip()
    image_id = own_id or (file_name if os.path.isabs(file_name) else prefix + file_name)
    if collector.known(image_id):
        draft = collector.draft(image_id)
    else:
        draft = collector.add_picture(
            image_id, file_name, place_split, said_split=row.split, may_join=not own_id
        )
    if draft is None or not _agrees(row, draft, image_id, file_name, place_split, collector):
        return
    num_before = len(draft.captions)
    collector.add_captions(draft, row.captions, row.where, row.styles)
    if row.untouched:
        collector.num_untouched += len(draft.captions) - num_before


def _agrees(
    row: Row,
    draft: Draft,
    image_id: str,
    file_name: str,
    place_split: Split | None,
    collector: Collector,
) -> bool:
    """Whether a row of a picture names the same file and split as the first; else a problem."""
    if image_id == draft.image_id and file_name != draft.file_name:
        detail = f"{row.where}: {file_name}, but the id was {draft.file_name} before"
        collector.problem("duplicate id", draft.image_id, detail)
        return False
    said = place_split if row.split in (None, "") else row.split
    if said is not None and split_of(str(said)) != draft.split:
        detail = f"{row.where}: {said}, but {draft.split} before; row skipped"
        collector.problem("conflicting splits", draft.image_id, detail)
        return False
    return True
