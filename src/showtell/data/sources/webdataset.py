"""Tar archives of pictures with their texts: the shards of WebDataset and img2dataset.

An archive is read as a folder of its members would be: ``000.jpg`` goes with ``000.txt``,
``000.jpg.txt`` or ``000.caption``, one caption a line, or with the caption in ``000.json``. The
order of the members does not matter.
"""

import lzma
import os
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from showtell.data.pictures import (
    SIDECAR_SUFFIXES,
    SidecarFinder,
    is_hidden,
    is_picture_name,
    is_unsupported_picture,
)
from showtell.data.reading import decode_text, lines_of, parse_json
from showtell.data.records import Dataset
from showtell.data.sources.base import Source, row_of
from showtell.data.sources.containers import archives_in, load_archives
from showtell.data.splits import split_of
from showtell.data.tar import members
from showtell.data.unpack import (
    MOST_BYTES,
    MOST_TEXT,
    Contents,
    Sample,
    Unpacker,
    damage,
    is_about_content,
)
from showtell.errors import DataError

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def matches(path: Path) -> bool:
    """A tar archive, or a folder of them: at the top, in ``data/`` or in split folders."""
    if path.is_dir():
        return bool(archives_in(path, SUFFIXES))
    return path.name.lower().endswith(SUFFIXES)


def load(path: Path, images: Path | None) -> Dataset:
    """Read an archive, or all archives of a folder.

    Raises:
        DataError: no archive, none that can be read, ``images`` given, or nothing usable.
    """
    if images is not None:
        raise DataError(f"{path} holds its own pictures; leave out --images {images}")
    return load_archives(path, "webdataset", SUFFIXES, None, _read)


class _Reading:
    """The members of one archive while they are read.

    A member whose name comes again is another one: the second ``0.jpg`` goes with the second
    ``0.txt``.
    """

    def __init__(self, unpacker: Unpacker) -> None:
        self.contents = Contents()
        self.pictures: list[tuple[str, int, str, int]] = []  # name, which one, file, bytes
        self.texts: dict[tuple[str, int], bytes] = {}
        self._unpacker = unpacker
        self._counts: Counter[str] = Counter()

    def add(self, member: tarfile.TarInfo, read: Callable[[], bytes]) -> None:
        """Take one member; ``read`` gives its content."""
        name = member.name.removeprefix("./")
        if member.isdir() or is_hidden(name):
            return
        is_text = name.lower().endswith((*SIDECAR_SUFFIXES, ".json"))
        if is_unsupported_picture(name):
            self.contents.unsupported.append(name)
        if not (is_text or is_picture_name(name)):
            return
        most = MOST_TEXT if is_text else MOST_BYTES
        if not member.isreg() or member.issparse():
            self.problem("bad member", name, "is not a regular file")
        elif member.size > most:
            self.problem("bad member", name, f"has more than {most:,} bytes")
        else:
            self._keep(name, read(), is_text)

    def _keep(self, name: str, content: bytes, is_text: bool) -> None:
        number = self._counts[name]
        self._counts[name] += 1
        if is_text:
            self.texts[name, number] = content
        else:
            self.pictures.append((name, number, self._unpacker.add(content, name), len(content)))

    def problem(self, kind: str, where: str, detail: str) -> None:
        """List what cannot be used."""
        self.contents.problems.append((kind, where, detail))

    def _only_texts(self) -> dict[tuple[str, int], str]:
        """The text of each WebDataset key that has one only: ``0.txt`` goes with ``0.img.jpg``."""
        by_key: dict[tuple[str, int], list[str]] = {}
        for name, number in self.texts:
            if not name.endswith(".json"):
                by_key.setdefault((_key(name), number), []).append(name)
        return {key: names[0] for key, names in by_key.items() if len(names) == 1}

    def pair(self) -> None:
        """Give each picture its captions."""
        finders: dict[int, SidecarFinder] = {}
        only_texts = self._only_texts()
        for number in {number for _, number, _, _ in self.pictures}:
            names = {name for name, which in self.texts if which == number}
            names |= {name for name, which, _, _ in self.pictures if which == number}
            finders[number] = SidecarFinder(names)
        for name, number, file, num_bytes in self.pictures:
            text_name = finders[number].find(name) or only_texts.get((_key(name), number), "")
            json_name = os.path.splitext(name)[0] + ".json"
            captions, split, styles = list[Any](), None, list[Any]()
            try:
                if text_name:
                    text = decode_text(self.texts[text_name, number], text_name)
                    captions = [line for line in lines_of(text) if line.strip()]
                elif (json_name, number) in self.texts:
                    raw = self.texts[json_name, number]
                    captions, split, styles = _of_json(decode_text(raw, json_name), json_name)
            except DataError as error:
                self.problem("unreadable captions", name, str(error))
            top, _, rest = name.partition("/")
            split = split or (top if rest and split_of(top) else None)
            unique = f"{name}#{number + 1}" if number else name
            sample = Sample(unique, file, num_bytes, "", captions, split, styles)
            self.contents.samples.append(sample)


def _key(name: str) -> str:
    """WebDataset's key of a member: its path up to the first dot of the last part."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _of_json(text: str, name: str) -> tuple[list[Any], Any, list[Any]]:
    """The captions, the split, and the captions' styles.

    Raises:
        DataError: it is not JSON, or has another number of styles than of captions.
    """
    value = parse_json(text, Path(name))
    if not isinstance(value, dict):
        return [], None, []
    row = row_of(name, value)
    if row.fault:
        raise DataError(row.fault)
    return list(row.captions), row.split, list(row.styles)


def _read(file: Path, unpacker: Unpacker) -> Contents:
    reading = _Reading(unpacker)
    reason = ""
    try:
        with open(file, "rb") as opened:
            for member, read in members(opened):
                reading.add(member, read)
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, OSError) as error:
        if not is_about_content(error):
            raise
        reason = str(error)
    if reason:
        reading.problem(*damage(file, reason, len(reading.pictures)))
    reading.pair()
    return reading.contents


SOURCE = Source(
    name="webdataset",
    description="tar archives of pictures with .txt or .json beside them (WebDataset)",
    looks_for="a .tar, or a folder of them",
    matches=matches,
    load=load,
    is_container=True,
)
