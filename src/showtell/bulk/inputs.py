"""What a user names on the command line, as a stream of pictures.

A user may name files, folders (with their subfolders), globs, lists and archives (``shards.py``),
URLs (``remote.py``), and ``-``, a picture's file from standard input. Folders are walked while
pictures are captioned, so their size does not matter.
"""

import glob
import os
import sys
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from showtell.bulk import remote, shards
from showtell.bulk.naming import broken, held, is_picture_member
from showtell.core.files import short_digest
from showtell.core.urls import MOST_BYTES, is_url, local_path
from showtell.data.pictures import (
    SIDECAR_SUFFIXES,
    describe_unsupported,
    is_hidden,
    is_picture_name,
    sidecar_names,
)
from showtell.errors import DataError
from showtell.inference.stream import Picture, picture_at

STANDARD_INPUT = "-"

CLOSED_ARCHIVES = (".zip", ".7z", ".rar")
"""Kinds of archives that are not read; a file of one that a person names fails with advice."""


@dataclass(frozen=True)
class Inputs:
    """The pictures behind names, to be gone through as often as need be.

    Attributes:
        names: as the user gave them.
        paths: the files, folders, shards and URLs that they stand for.
        single: those of ``paths`` that the user named one by one.
        count: how many pictures there are; None where only reading all would tell.
        texts: how many names were left out, by suffix: texts beside pictures, which are not lists.
        left_out: how many pictures of kinds that showtell does not read lie in folders, by suffix.
        known: the pictures of some of ``paths``, which are not to be looked for by their names.
        left_out_of_archives: the same of archives, as far as they were read the last time.
    """

    names: tuple[str, ...]
    paths: tuple[str, ...]
    single: frozenset[str] = frozenset()
    count: int | None = None
    texts: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    known: Mapping[str, Picture] = field(default_factory=dict)
    left_out_of_archives: Counter[str] = field(default_factory=Counter, init=False)

    def __iter__(self) -> Iterator[Picture]:
        self.left_out_of_archives.clear()
        for path in self.paths:
            yield from self._pictures(path, self.left_out_of_archives)

    def has_failed(self, failures: Container[str]) -> bool:
        """Whether something that was named on its own gave no caption: a picture, or a whole list.

        Args:
            failures: the paths that have none.
        """
        return any(
            all(str(picture.path) in failures for picture in self._pictures(path, Counter()))
            for path in self.single
        )

    def _pictures(self, path: str, left_out_of_archives: Counter[str]) -> Iterator[Picture]:
        if (picture := self.known.get(path)) is not None:
            yield picture
        elif shards.is_shard(path):
            yield from shards.read(path, left_out_of_archives)
        elif is_url(path):
            yield picture_at(path)
        elif os.path.isdir(path):
            yield from walk(path, Counter())
        elif path.lower().endswith(CLOSED_ARCHIVES) and os.path.isfile(path):
            kind = os.path.splitext(path)[1].lower()
            advice = "unpack it and name the folder (.tar archives are read)"
            yield broken(path, f"{kind} archives are not read: {advice}")
        else:
            yield Picture(path)

    @property
    def is_one_picture(self) -> bool:
        """Whether the user named a single picture, whose text needs no path."""
        return len(self.paths) == self.count == 1

    @property
    def unreadable(self) -> Counter[str]:
        """How many files of kinds that cannot be read were left out so far, by suffix."""
        return self.left_out + self.left_out_of_archives

    def describe_skipped(self) -> str:
        """A line for each kind of thing that was left out; empty where nothing was."""
        lines = []
        if self.texts:
            found = ", ".join(f"{count:,} {suffix}" for suffix, count in self.texts.most_common())
            lines.append(f"left out: {found}, not lists but texts of pictures of the same name")
        if self.unreadable:
            lines.append(describe_unsupported(self.unreadable))
        return "\n".join(lines)


def find_inputs(names: Sequence[str], *, own: Sequence[Path] = ()) -> Inputs:
    """Look what the names stand for; a file that does not exist is kept, and fails later.

    Args:
        own: files that the run writes; beside pictures they are left out, so that ``*`` resumes.

    Raises:
        DataError: a folder has no picture in it, a glob matches nothing, a list or a URL cannot
            be read, all are texts beside pictures, or there is nothing on standard input.
    """
    paths: list[str] = []
    single = set()
    left_out: Counter[str] = Counter()
    piped = _read_standard_input() if STANDARD_INPUT in names else None
    for name in map(local_path, names):
        if name == STANDARD_INPUT and piped is not None:
            paths.append(str(piped.path))
            single.add(paths[-1])
        elif is_url(name):
            found = remote.expand(name, left_out)
            paths += found
            if found == [name]:  # no folder and no glob
                single.add(name)
        elif glob.has_magic(name) and not os.path.lexists(name):
            paths += _matches(name)
        else:
            paths.append(str(Path(name)))
            if os.path.isdir(name):
                _check_readable(name)
            else:
                single.add(paths[-1])
    written = {str(path) for path in own}
    if not {*paths} <= written:
        paths = [path for path in paths if path not in written]
        single -= written
    texts = _texts_of_pictures(paths)
    left = tuple(path for path in paths if path not in texts)
    if texts and not left:
        raise DataError(
            f"{paths[0]} is the text of the picture beside it, not a list: give the pictures' names"
        )
    number = _count(left, left_out)
    suffixes = Counter(os.path.splitext(path)[1].lower() for path in texts)
    known = {} if piped is None else {str(piped.path): piped}
    return Inputs(tuple(names), left, frozenset(single - texts), number, suffixes, left_out, known)


def _matches(pattern: str) -> list[str]:
    """The files and folders that a glob matches; with ``**`` a folder's files match themselves."""
    matches = sorted(str(Path(match)) for match in glob.glob(pattern, recursive=True))
    if not matches:
        raise DataError(f"no file matches {pattern!r}")
    if "**" in pattern:
        return [match for match in matches if not os.path.isdir(match)] or matches
    return [match for match in matches if not _has_no_picture(match)] or matches


def _has_no_picture(path: str) -> bool:
    """Whether it is a folder without any; one that is named is an error, one of many is not."""
    return os.path.isdir(path) and next(walk(path, Counter()), None) is None


def _read_standard_input() -> Picture:
    """The picture that is piped in.

    Its name follows from its content, so that a run which goes on tells it from another one.
    """
    example = "pipe a picture into it: cat photo.jpg | showtell caption -"
    if sys.stdin is None or sys.stdin.isatty():
        raise DataError(f"- is standard input, but nothing is piped in; {example}")
    content = sys.stdin.buffer.read(MOST_BYTES + 1)
    if not content:
        raise DataError(f"- is standard input, which is empty; {example}")
    if len(content) > MOST_BYTES:
        raise DataError(f"- is standard input, which has more than {MOST_BYTES:,} bytes")
    return held(f"stdin://{short_digest(content)}", content)


def _texts_of_pictures(paths: Sequence[str]) -> set[str]:
    """Which of these are texts of pictures beside them: ``cat.txt`` where there is ``cat.jpg``."""
    texts = [path for path in paths if path.lower().endswith(SIDECAR_SUFFIXES) and not is_url(path)]
    described: set[str] = set()
    for folder in {os.path.dirname(path) for path in texts}:
        try:
            pictures = [name for name in os.listdir(folder or ".") if is_picture_name(name)]
        except OSError:  # whoever reads the list says what is wrong
            continue
        for name in pictures:
            described |= {os.path.join(folder, text.lower()) for text in sidecar_names(name)}
    return {
        path
        for path in texts
        if os.path.join(os.path.dirname(path), os.path.basename(path).lower()) in described
    }


def _count(paths: Sequence[str], left_out: Counter[str]) -> int | None:
    """How many pictures there are; those that are left out in folders are counted as well."""
    total: int | None = 0
    for path in paths:
        number: int | None = 1
        if shards.is_shard(path):
            number = shards.count(path)
        elif not is_url(path) and os.path.isdir(path):
            before = left_out.total()
            number = sum(1 for _ in walk(path, left_out))
            if not number:
                others = describe_unsupported(left_out) if left_out.total() > before else ""
                reason = f"the folder {path!r} has no pictures in it"
                raise DataError(f"{reason}; {others}" if others else reason)
        total = None if total is None or number is None else total + number
    return total


def _check_readable(folder: str) -> None:
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}") from None


def walk(folder: str, left_out: Counter[str]) -> Iterator[Picture]:
    """The files below a folder that are named like pictures, sorted; whatever they really are.

    Hidden files and folders are passed over (``data.pictures.is_hidden``). Links to folders are
    followed, but no folder is entered twice, so loops end. A folder that cannot be read comes as a
    picture that fails.

    Args:
        left_out: counts, by suffix, pictures of kinds that showtell does not read.
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
            yield broken(place, f"cannot read the folder: {error.strerror}", may_pass=True)
            continue
        below = []
        for entry in found:
            if _is_folder(entry):
                if not is_hidden(entry.name):
                    below.append(entry.path)
            elif is_picture_member(entry.name, left_out):
                yield Picture(entry.path)
        waiting += reversed(below)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself
        return False
