"""What a source of data is, and what several of them share.

A source knows one format: how to recognise it cheaply and how to read it. It knows nothing of
the other sources.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from showtell.data.pictures import PictureFinder
from showtell.data.records import Dataset

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
