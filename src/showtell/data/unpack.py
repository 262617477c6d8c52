"""Pictures inside Parquet tables and tar archives, unpacked once into the cache folder.

Training opens every picture many times, from several processes and in random order, and compares
the files' sizes and times with its feature store. Archives cannot be read so; files can. Each
archive is therefore unpacked into a folder of the cache, named by the archive's path, size and time
of change. The files in it are numbered, so no name that an archive holds touches the disk. The
folder appears in one step (a rename), complete with an index of what was found.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from showtell.core.files import cache_folder, short_digest, write_text
from showtell.core.progress import Progress
from showtell.data.pictures import PICTURE_SUFFIXES
from showtell.data.reading import chosen_encoding, printable
from showtell.errors import DataError, reason_of
from showtell.images import heif

FORMAT = 3  # raise it when the same archive comes to be unpacked otherwise
MOST_BYTES = 256 * 2**20  # of one picture
MOST_TEXT = 2**20  # bytes of one text
INDEX = "index.json"
_FILE_NAME = re.compile(r"[0-9]{8}(\.[a-z]{1,4})?")

_progress: ContextVar[Progress | None] = ContextVar("progress", default=None)


@contextmanager
def unpacking_progress(progress: Progress | None) -> Iterator[None]:
    """Within the block, ``progress`` is called with the number of unpacked pictures, and 0."""
    token = _progress.set(progress)
    try:
        yield
    finally:
        _progress.reset(token)


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture of an archive.

    Attributes:
        name: Unique within the archive; the image id is made of it.
        file: Its unpacked file's name; "" where it was not unpacked.
        num_bytes: The size of that file.
        path: A path that stands in the archive instead of the picture; "" where there is none.
        captions: What the archive says of it, unchecked.
        split: The value of the archive's split column; None where it has none.
        styles: Of the captions, unchecked; one each, or none.
    """

    name: str
    file: str
    num_bytes: int
    path: str
    captions: list[Any]
    split: Any = None
    styles: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class Contents:
    """What an archive holds.

    Attributes:
        samples: Its pictures.
        problems: Kind, place and detail of what could not be used.
        unsupported: Names of pictures of kinds that showtell does not read.
    """

    samples: list[Sample] = field(default_factory=list)
    problems: list[tuple[str, str, str]] = field(default_factory=list)
    unsupported: list[str] = field(default_factory=list)


class Unpacker:
    """Writes the pictures of one archive into a folder under numbers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.num_pictures = 0

    def add(self, content: bytes, name: str) -> str:
        """Write a picture.

        Args:
            content: Its bytes.
            name: Its name in the archive, of which only a known suffix is kept.

        Returns:
            The file's name.
        """
        suffix = os.path.splitext(name)[1].lower()
        file = f"{self.num_pictures:08d}{suffix if suffix in PICTURE_SUFFIXES else ''}"
        (self._folder / file).write_bytes(content)
        self.num_pictures += 1
        if (progress := _progress.get()) is not None:
            progress(self.num_pictures, 0)
        return file


def damage(archive: Path, reason: str, num_read: int) -> tuple[str, str, str]:
    """The problem of an archive that cannot be read to its end.

    Raises:
        DataError: no picture of it could be read.
    """
    reason = printable(" ".join(reason.split()))[:200]
    if not num_read:
        raise DataError(f"{archive} cannot be read: {reason}")
    return "damaged archive", archive.name, f"only its first {num_read:,} pictures: {reason}"


def is_about_content(error: Exception) -> bool:
    """Whether an OSError is a library's complaint about a file's content, and not the system's."""
    return not isinstance(error, OSError) or (error.errno is None and error.filename is None)


def unpack(archive: Path, read: Callable[[Path, Unpacker], Contents]) -> tuple[Contents, Path, str]:
    """Unpack an archive, or find it unpacked by an earlier run.

    Args:
        archive: The file.
        read: Reads the archive and hands its pictures to the unpacker.

    Returns:
        What it holds, the folder of the unpacked files, and a sentence for the user ("" where
        nothing had to be unpacked).

    Raises:
        DataError: the archive cannot be read, or the cache folder cannot be written.
    """
    try:
        info = os.stat(archive)
    except OSError as error:
        raise DataError(f"cannot read {archive}: {error.strerror}") from None
    asked = [FORMAT, heif.is_installed(), os.path.abspath(archive)]
    if (encoding := chosen_encoding()) is not None:
        asked.append(encoding)
    key = json.dumps([*asked, info.st_size, info.st_mtime_ns])
    folder = cache_folder() / "unpacked" / short_digest(key, length=24)
    contents = _read_index(folder)
    if contents is not None:
        return contents, folder, ""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        contents = read(archive, Unpacker(temporary))
        for sample in contents.samples:
            if sample.file:  # the archive's time, so that features stay valid when unpacked anew
                os.utime(temporary / sample.file, ns=(info.st_mtime_ns, info.st_mtime_ns))
        write_text(temporary / INDEX, json.dumps(_to_json(contents)))
        _move(temporary, folder)
    except OSError as error:
        raise DataError(
            f"cannot unpack {archive} into {folder.parent}: {reason_of(error)}; "
            "set SHOWTELL_CACHE to a folder on a disk with room"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    num_bytes = sum(sample.num_bytes for sample in contents.samples)
    if not num_bytes:
        return contents, folder, ""
    return (
        contents,
        folder,
        (
            f"the pictures of {archive.name} were unpacked into {folder} "
            f"({num_bytes / 1e6:,.1f} MB; it may be deleted at any time)"
        ),
    )


def _move(temporary: Path, folder: Path) -> None:
    """Give the folder its name; a damaged one of that name goes, one that is whole stays."""
    try:
        os.rename(temporary, folder)
    except OSError:
        if _read_index(folder) is not None:  # another process was faster
            return
        shutil.rmtree(folder)
        os.rename(temporary, folder)


def _to_json(contents: Contents) -> dict[str, Any]:
    return {
        "samples": [[getattr(s, f.name) for f in fields(Sample)] for s in contents.samples],
        "problems": contents.problems,
        "unsupported": contents.unsupported,
    }


def _read_index(folder: Path) -> Contents | None:
    """What lies unpacked in ``folder``; None where it is not whole."""
    try:
        value = json.loads((folder / INDEX).read_bytes())
        samples = [Sample(*entry) for entry in value["samples"]]
        for sample in samples:
            if not sample.file:
                continue
            if not _FILE_NAME.fullmatch(sample.file):
                return None
            if os.stat(folder / sample.file).st_size != sample.num_bytes:
                return None
        problems = [(kind, where, detail) for kind, where, detail in value["problems"]]
        return Contents(samples, problems, value["unsupported"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
