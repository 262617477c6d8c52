"""What a writer of a format is, and where the pictures of an output go."""

import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from showtell.core.messages import counted
from showtell.core.progress import Progress
from showtell.data.pictures import PICTURE_SUFFIXES, is_hidden, is_picture_name
from showtell.data.reading import is_text
from showtell.data.records import Record

Pictures = Literal["copy", "link", "keep"]
MOST_NAME = 200  # bytes of a file's name in UTF-8, its suffix apart; file systems allow 255
SUFFIX_OF_FORMAT = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif", "HEIF": ".heic"}
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')  # on Windows; on others, some of them


@dataclass(frozen=True, slots=True)
class Job:
    """One data set to be written.

    Attributes:
        folder: Where the files go; becomes the output when all is there.
        file: The name of the one file to write; None: a folder is written.
        records: What to write: train first, then val, then test.
        placer: Copies the pictures, or names them where they are.
    """

    folder: Path
    file: str | None
    records: Sequence[Record]
    placer: "Placer"


@dataclass(frozen=True, slots=True)
class Writer:
    """A format that data sets are written in.

    Attributes:
        name: The value of ``--to``.
        description: One line for people.
        write: Writes a job.
        suffix: Of the output, where the format may be one file without its pictures.
        keeps_paths: Whether it can name pictures that lie elsewhere.
        packs: Whether it holds the pictures' bytes.
        holds_styles: Whether it has the styles of captions.
    """

    name: str
    description: str
    write: Callable[[Job], None]
    suffix: str = ""
    keeps_paths: bool = False
    packs: bool = False
    holds_styles: bool = False


class Placer:
    """Puts pictures into an output, each under a name of its own.

    Args:
        folder: Of the output.
        file: The output where it is one file; pictures near it are named from its folder.
        how: Whether pictures are copied, hard-linked (copied where the disk is another), or stay.
        num_pictures: How many there will be.
        progress: Called with how many are done, and ``num_pictures``.

    Attributes:
        near: The folder of the output's file, with a slash at the end; "" where it is a folder.
    """

    def __init__(
        self,
        folder: Path,
        file: Path | None,
        how: Pictures,
        num_pictures: int,
        progress: Progress | None,
    ) -> None:
        self.how = how
        self._folder = folder
        self.near = "" if file is None else os.path.join(os.path.abspath(file.parent), "")
        self._num_pictures = num_pictures
        self._progress = progress
        self._num_done = self._num_renamed = self._num_not_linked = 0
        self._taken: dict[str, dict[str, int]] = {}  # by folder: names, and the next number of each
        self._extra_notes: list[str] = []

    def place(self, record: Record, subfolder: str) -> str:
        """Put a picture into ``subfolder``; its path from the output's folder, with slashes.

        Pictures that stay are named by their absolute path, or from the folder of the output's
        file where they lie below it.
        """
        if self.how == "keep":
            self.done()
            path = os.path.abspath(record.path)
            return path[len(self.near) :] if self.is_near(path) else path
        folder = self._folder / subfolder
        if subfolder not in self._taken:
            folder.mkdir(parents=True, exist_ok=True)
        name = self.name_for(record, subfolder)
        self._bring(record.path, folder / name)
        self.done()
        return f"{subfolder}/{name}"

    def is_near(self, path: str) -> bool:
        """Whether a picture that stays, of this absolute path, is named from the output's file."""
        return bool(self.near) and path.startswith(self.near)

    def _bring(self, source: Path, target: Path) -> None:
        if self.how == "link":
            try:
                os.link(os.path.realpath(source), target)
                return
            except OSError:
                self._num_not_linked += 1
        shutil.copy2(source, target)

    def name_for(self, record: Record, subfolder: str = "") -> str:
        """A file name for a picture that no other has in ``subfolder``, in upper or lower case."""
        taken = self._taken.setdefault(subfolder, {})
        own = _own_name(record)
        wanted = picture_file_name(own, record.path)
        stem, suffix = os.path.splitext(wanted)
        name, number = wanted, taken.get(wanted.lower(), 2)
        while name.lower() in taken:
            name, number = f"{stem}-{number}{suffix}", number + 1
        taken[wanted.lower()] = number
        taken.setdefault(name.lower(), 2)
        self._num_renamed += os.path.splitext(name)[0] != os.path.splitext(own)[0]
        return name

    def done(self) -> None:
        """One more picture is written."""
        self._num_done += 1
        if self._progress is not None:
            self._progress(self._num_done, self._num_pictures)

    def note(self, text: str) -> None:
        """A sentence for the user."""
        self._extra_notes.append(text)

    def notes(self) -> list[str]:
        """What was decided for the user."""
        found = list(self._extra_notes)
        if self._num_renamed:
            found.append(
                f"{counted(self._num_renamed, 'picture')} given another file name: the old one "
                "was taken, hidden or not allowed everywhere"
            )
        if self._num_not_linked:
            found.append(
                f"{counted(self._num_not_linked, 'picture')} copied, as the disk cannot link"
            )
        return found


def _own_name(record: Record) -> str:
    """The file name of a picture: that of its id where it has one, else of its file.

    Pictures out of archives lie in the cache under numbers; their ids have their names.
    """
    name = record.image_id.replace("\\", "/").rpartition("/")[2]
    return name if is_picture_name(name) else record.path.name


def picture_file_name(name: str, path: Path) -> str:
    """A file name that is allowed everywhere and read again, as near to ``name`` as can be.

    Args:
        name: The name wanted.
        path: The picture, whose content says the ending where the name has none.
    """
    name = _FORBIDDEN.sub("_", name).strip(" .")
    stem, suffix = os.path.splitext(name)
    if suffix.lower() not in PICTURE_SUFFIXES:
        stem, suffix = name, suffix_of(path)
    stem = stem.encode("utf-8", "surrogatepass")[:MOST_NAME].decode("utf-8", "ignore")
    if not stem or not is_text(stem) or is_hidden(stem + suffix):
        stem = "picture"
    return stem + suffix


def suffix_of(path: Path) -> str:
    """The ending that a picture's content asks for; ``.jpg`` where it cannot be told."""
    try:
        with Image.open(path) as picture:
            format = picture.format or "JPEG"
    except Exception:
        return ".jpg"
    return SUFFIX_OF_FORMAT.get(format, f".{format.lower()}")


def size_of(path: Path) -> tuple[int, int] | None:
    """Width and height in pixels, as stored, by the file's header; None where it has none."""
    try:
        with Image.open(path) as picture:
            return picture.size
    except Exception:
        return None
