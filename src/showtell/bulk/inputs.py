"""What a user names on the command line, as a stream of pictures.

Files, folders with all below them, globs, lists, archives (``shards.py``) and URLs
(``remote.py``). Folders are walked while the pictures are taken, so there may be any number.
"""

import glob
import os
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from showtell.bulk import remote, shards
from showtell.data.pictures import is_picture_name
from showtell.errors import DataError
from showtell.inference.stream import Picture


@dataclass(frozen=True)
class Inputs:
    """The pictures behind names, to be gone through as often as need be.

    Attributes:
        names: as the user gave them.
        paths: the files, folders, shards and URLs that they stand for.
        single: those of ``paths`` that the user named one by one.
        count: how many pictures there are; None where only reading all would tell.
        num_texts: names that were left out: texts beside pictures, which are no lists.
    """

    names: tuple[str, ...]
    paths: tuple[str, ...]
    single: frozenset[str]
    count: int | None = None
    num_texts: int = 0

    def __iter__(self) -> Iterator[Picture]:
        for path in self.paths:
            yield from _pictures(path)

    def has_failed(self, failures: Container[str]) -> bool:
        """Whether something that was named on its own gave no caption: a picture, or a whole list.

        Args:
            failures: the paths that have none.
        """
        return any(
            all(str(picture.path) in failures for picture in _pictures(path))
            for path in self.single
        )

    def describe_skipped(self) -> str:
        """A sentence about what was left out; empty where nothing was."""
        if not self.num_texts:
            return ""
        return f"left out: {self.num_texts:,} .txt beside pictures of the same name, no lists"


def find_inputs(names: Sequence[str]) -> Inputs:
    """Look what the names stand for; a file that does not exist is kept, and fails later.

    Raises:
        DataError: a folder has no picture in it, a glob matches nothing, a list or a URL cannot
            be read, or all are texts beside pictures.
    """
    paths: list[str] = []
    single = set()
    for name in names:
        if remote.is_url(name):
            paths += remote.expand(name)
        elif glob.has_magic(name) and not os.path.lexists(name):
            matches = sorted(glob.glob(name, recursive=True))
            if not matches:
                raise DataError(f"no file matches {name!r}")
            paths += [match for match in matches if not os.path.isdir(match)] or matches
        else:
            paths.append(str(Path(name)))
            if not os.path.isdir(name):
                single.add(paths[-1])
    texts = _texts_of_pictures(paths)
    left = [path for path in paths if path not in texts]
    if texts and not left:
        raise DataError(f"{paths[0]} is the text of the picture beside it, no list: name pictures")
    return Inputs(tuple(names), tuple(left), frozenset(single - texts), _count(left), len(texts))


def _texts_of_pictures(paths: Sequence[str]) -> set[str]:
    """``cat.txt`` and ``cat.png.txt`` where there are ``cat.jpg`` and ``cat.png``."""
    texts = [path for path in paths if path.lower().endswith(".txt") and not remote.is_url(path)]
    described: set[str] = set()
    for folder in {os.path.dirname(path) for path in texts}:
        try:
            pictures = [name for name in os.listdir(folder or ".") if is_picture_name(name)]
        except OSError:  # whoever reads the list says what is wrong
            continue
        for name in pictures:
            described |= {os.path.join(folder, stem) for stem in (name, os.path.splitext(name)[0])}
    return {path for path in texts if os.path.splitext(path)[0] in described}


def _count(paths: Sequence[str]) -> int | None:
    total: int | None = 0
    for path in paths:
        number = shards.count(path) if shards.is_shard(path) else 1
        if not shards.is_shard(path) and not remote.is_url(path) and os.path.isdir(path):
            number = sum(1 for _ in walk(path))
            if not number:
                raise DataError(f"the folder {path!r} has no pictures in it")
        total = None if total is None or number is None else total + number
    return total


def _pictures(path: str) -> Iterator[Picture]:
    if shards.is_shard(path):
        yield from shards.read(path)
    elif remote.is_url(path):
        yield remote.picture(path)
    elif os.path.isdir(path):
        yield from map(Picture, walk(path))
    else:
        yield Picture(path)


def walk(folder: str) -> Iterator[str]:
    """The files below a folder that are named like pictures, sorted; whatever they really are.

    Links to folders are followed, but no folder is entered twice, so loops end.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            info = os.stat(place)
            if (info.st_dev, info.st_ino) in seen:
                continue
            seen.add((info.st_dev, info.st_ino))
            with os.scandir(place) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if place == folder:
                raise DataError(f"cannot read the folder {place}: {error.strerror}") from None
            yield place  # it fails like a picture, and is listed
            continue
        below = []
        for entry in found:
            if _is_folder(entry):
                below.append(entry.path)
            elif is_picture_name(entry.name):
                yield entry.path
        waiting += reversed(below)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself
        return False
