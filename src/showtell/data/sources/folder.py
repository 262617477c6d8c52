"""A folder of pictures, each with a text file of the same name: one caption a line.

``cat.jpg`` goes with ``cat.jpg.txt``, ``cat.txt`` or ``cat.caption``. Folders within are read as
well; those named train, val or test at the top say the split. Programs that tag pictures write
keywords between commas into ``cat.txt``: where a ``cat.caption`` lies beside it, that is read.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from showtell.core.messages import counted
from showtell.data.check_captions import looks_like_tags
from showtell.data.collect import Collector
from showtell.data.pictures import (
    PictureFinder,
    SidecarFinder,
    is_hidden,
    is_picture_name,
    is_plain_file,
    is_unsupported_picture,
)
from showtell.data.reading import is_text, lines_of, read_text
from showtell.data.records import Dataset
from showtell.data.sources.base import Source
from showtell.data.splits import split_of
from showtell.errors import DataError, reason_of

MAX_FOLDERS_PEEKED = 200


def matches(path: Path) -> bool:
    """A folder in which some picture has its text file; looks into the first folders only."""
    if not path.is_dir():
        return False
    for number, (_, names) in enumerate(_walk(path, [])):
        if number >= MAX_FOLDERS_PEEKED:
            return False
        sidecars = SidecarFinder(names)
        if any(is_picture_name(name) and sidecars.find(name) for name in names):
            return True
    return False


def load(path: Path, images: Path | None) -> Dataset:
    """Read every picture under ``path`` with the text file beside it.

    Args:
        path: The folder with the text files.
        images: Another folder of the same layout, with the pictures, where they lie apart.

    Raises:
        DataError: no folder, or no picture in it has a caption.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; the folder format takes one with pictures in it")
    root = images or path
    collector = Collector(str(path), "folder", PictureFinder([root]))
    unreadable: list[tuple[str, str]] = []
    tags = _Tags()
    for place, names in _walk(root, unreadable):
        texts = names if root == path else _file_names(path / place)
        sidecars = SidecarFinder({*texts, *filter(is_picture_name, names)})
        used = set()
        for name in names:
            if is_unsupported_picture(name):
                used.add(sidecars.find(name))
                collector.leave_out(name)
            if not is_picture_name(name):
                continue
            found = list(sidecars.texts_of(name))
            used.update(found or [""])
            relative = (place / name).as_posix()
            texts_beside = [path / place / sidecar for sidecar in found]
            _add(relative, root, texts_beside, collector, tags)
        for name in sidecars.texts:
            if name not in used and used:
                where = (place / name).as_posix()
                collector.problem("annotation without its image", where, "no picture of that name")
    for where, reason in unreadable:
        collector.problem("unreadable folder", where, reason)
    collector.notes += tags.notes()
    return collector.finish()


@dataclass(slots=True)
class _Tags:
    """How many text files hold tags, and what was done about it."""

    num_passed_over: int = 0
    num_read: int = 0

    def notes(self) -> list[str]:
        found = []
        if self.num_passed_over:
            files = counted(self.num_passed_over, "text file")
            found.append(f"{files} with tags ignored: the sentences beside them were read")
        if self.num_read:
            pictures = counted(self.num_read, "picture")
            found.append(
                f"the captions of {pictures} are lists of tags, not sentences; a model "
                "trained on them will write tags"
            )
        return found


def _add(
    relative: str, root: Path, sidecars: list[Path], collector: Collector, tags: _Tags
) -> None:
    if not is_text(relative):
        collector.problem("bad file name", relative, "not UTF-8; rename the file")
        return
    if not sidecars:
        collector.skip_uncaptioned(relative, root / relative, "no text file beside it")
        return
    try:
        lines = _captions_of(sidecars, tags)
    except DataError as error:
        collector.skip_picture(relative, "unreadable captions", str(error))
        return
    top, _, rest = relative.partition("/")
    draft = collector.add_picture(relative, relative, split_of(top) if rest else None)
    if draft is not None:
        for line in lines:
            if line.strip():  # a blank line between captions is a matter of style
                collector.add_caption(draft, line)


def _captions_of(sidecars: list[Path], tags: _Tags) -> list[str]:
    """The lines of the closest text file; of the next one where that one holds tags.

    Raises:
        DataError: a file cannot be read.
    """
    lines = lines_of(read_text(sidecars[0]))
    if not _are_tags(lines):
        return lines
    for other in sidecars[1:]:
        found = lines_of(read_text(other))
        if any(map(str.strip, found)) and not _are_tags(found):
            tags.num_passed_over += 1
            return found
    tags.num_read += 1
    return lines


def _are_tags(lines: list[str]) -> bool:
    return len(lines) == 1 and looks_like_tags(lines[0])


def _file_names(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if is_plain_file(entry)}
    except OSError:
        return set()


def _walk(root: Path, unreadable: list[tuple[str, str]]) -> Iterator[tuple[Path, list[str]]]:
    """Each folder's path from ``root`` and its files' names, sorted; links followed, no loops.

    Hidden files and folders are left out (``is_hidden``). Folders that cannot
    be listed are added to ``unreadable`` with the reason.
    """
    seen: set[str] = set()
    waiting = [Path()]
    while waiting:
        place = waiting.pop()
        real = os.path.realpath(root / place)
        if real in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(root / place) as entries:
                shown = [entry for entry in entries if not is_hidden(entry.name)]
        except OSError as error:
            unreadable.append((str(root / place), reason_of(error)))
            continue
        yield place, sorted(entry.name for entry in shown if is_plain_file(entry))
        folders = sorted(entry.name for entry in shown if _is_folder(entry))
        waiting.extend(place / name for name in reversed(folders))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself
        return False


SOURCE = Source(
    name="folder",
    description="a folder of pictures with .txt or .caption files beside them, one caption a line",
    looks_for="pictures with a .txt of the same name",
    matches=matches,
    load=load,
)
