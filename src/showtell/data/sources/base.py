"""What a source of data is, and what several of them share.

A source knows one format: how to recognise it cheaply and how to read it. It knows nothing of
the other sources.

MERGED: What tables and JSON lines share: rows with a picture, captions, perhaps a split and an id.

Paths in them are the user's own: relative to the file, absolute, or climbing with ``..``.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from showtell.data.collect import Collector, Draft
from showtell.data.pictures import PictureFinder
from showtell.data.records import Dataset
from showtell.data.splits import KNOWN_SPLIT_NAMES, split_of

PEEK_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Source:
    """One format that data comes in.

    Attributes:
        name: What ``--format`` takes.
        description: One line for people.
        looks_for: What ``matches`` goes by, to follow "looked for".
        matches: Whether a path looks like this format; reads at most a little of it.
        load: Reads it; the second argument is where the user says that the pictures are.
        notes_inputs: Whether ``load`` notes all that it looks at (``data/inputs.py``), so that a
            large data set may be kept in the cache as it was read.
    """

    name: str
    description: str
    looks_for: str
    matches: Callable[[Path], bool]
    load: Callable[[Path, Path | None], Dataset]
    notes_inputs: bool = False


def peek(path: Path) -> str:
    """The beginning and the end of a file, enough to tell one format from another.

    Returns "" for what cannot be read: recognising is no place to complain.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(PEEK_BYTES)
            size = file.seek(0, 2)
            file.seek(max(len(head), size - PEEK_BYTES))
            tail = file.read()
    except OSError:
        return ""
    return (head + b"\n" + tail).decode("utf-8", "replace")


def picture_finder(
    images: Path | None,
    bases: Iterable[Path],
    subfolders: Iterable[str],
    other_name: Callable[[str], str] | None = None,
) -> PictureFinder:
    """Looks in ``images`` where the user named it, else in the usual places.

    Args:
        images: The user's word on where pictures are, or None.
        bases: Folders that may hold the pictures or a folder of them, best guess first.
        subfolders: Usual names of such a folder, best guess first.
        other_name: As ``PictureFinder`` takes it.
    """
    names = tuple(subfolders)
    roots = (images,) if images is not None else tuple(bases)
    folders = [folder for root in roots for folder in (*(root / name for name in names), root)]
    return PictureFinder(folders, bare=images is not None, other_name=other_name)


# Usual names of each role, the likeliest first; compared in lower case with _ for space and -.
PICTURE_NAMES = (
    *("path", "image", "image_path", "file_name", "filename", "filepath", "file_path", "file"),
    *("image_file", "image_filename", "image_name", "img", "img_path", "picture", "photo"),
)
CAPTION_NAMES = ("caption", "captions", "text", "sentence", "comment", "description", "alt_text")
SPLIT_NAMES = ("split", "subset", "partition")
ID_NAMES = ("image_id", "imageid", "img_id")


class Row(NamedTuple):
    """One row of a file, as found."""

    where: str
    file_name: object
    captions: Sequence[object]
    split: object = None
    image_id: object = None


def normalised(name: str) -> str:
    """A column's name as it is compared: ``Image Name`` is ``image_name``."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def find_name(names: Iterable[str], wanted: Sequence[str]) -> str | None:
    """Which of ``names`` plays a role, given the role's usual names."""
    known: dict[str, str] = {}
    for name in names:
        known.setdefault(normalised(name), name)
    return next((known[name] for name in wanted if name in known), None)


def collect_rows(
    rows: Iterable[Row], file: Path, name: str, source: str, images: Path | None
) -> Dataset:
    """The data set of a file's rows; several rows may speak of one picture.

    Raises:
        DataError: nothing usable is in them, or no picture is found.
    """
    finder = picture_finder(images, [file.parent], ("images", "Images"))
    collector = Collector(name, source, finder, own_paths=True)
    for row in rows:
        _add(row, collector)
    return collector.finish()


def _add(row: Row, collector: Collector) -> None:
    if not (isinstance(row.file_name, str) and row.file_name.strip()):
        collector.problem("bad row", row.where, "names no picture")
        return
    file_name = row.file_name.strip()
    image_id = file_name if row.image_id in (None, "") else str(row.image_id).strip()
    if collector.known(image_id):
        draft = collector.draft(image_id)
        if draft is None or not _agrees(row, draft, file_name, collector):
            return
    else:
        split = None
        if row.split not in (None, ""):
            split = split_of(str(row.split))
            if split is None:
                detail = f"{row.where}: {row.split!r}; known: {KNOWN_SPLIT_NAMES}"
                collector.skip_picture(image_id, "unknown split", detail)
                return
        draft = collector.add_picture(image_id, file_name, split)
    if draft is not None:
        for caption in row.captions:
            collector.add_caption(draft, caption, row.where)


def _agrees(row: Row, draft: Draft, file_name: str, collector: Collector) -> bool:
    """Whether a later row of a picture names the same file and split; else a problem."""
    if file_name != draft.file_name:
        detail = f"{row.where}: {file_name}, but the id was {draft.file_name} before"
        collector.problem("duplicate id", draft.image_id, detail)
        return False
    if row.split not in (None, "") and split_of(str(row.split)) != draft.split:
        detail = f"{row.where}: {row.split}, but {draft.split} before; row skipped"
        collector.problem("conflicting splits", draft.image_id, detail)
        return False
    return True
