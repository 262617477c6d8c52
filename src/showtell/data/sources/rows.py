"""What tables and JSON lines share: rows with a picture, captions, and perhaps a split and an id.

Paths in them are the user's own: relative to the file, absolute, or climbing with ``..``.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from showtell.data.collect import Collector, Draft
from showtell.data.records import Dataset
from showtell.data.sources.base import picture_finder
from showtell.data.splits import KNOWN_SPLIT_NAMES, split_of

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
