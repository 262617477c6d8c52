"""Which files in folders and archives are captioned, and the names of pictures in archives.

A picture in an archive or a table has the container's name in front of its own, so that pictures
of two containers never have the same name: ``shards/0001.tar/dog.jpg``, and with the number of its
row ``table.parquet/17/dog.jpg``. A name that comes twice in an archive is numbered, ``dog#2.jpg``.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from showtell.data.pictures import (
    LEFTOVER_FOLDERS,
    is_hidden,
    is_picture_name,
    is_unsupported_picture,
)
from showtell.errors import ImageError, UnavailableError
from showtell.inference.stream import Picture

_ODD_BYTES = frozenset(map(chr, range(0xDC80, 0xDD00)))  # what Python reads them as in names
_IN_CONTAINER = re.compile(r"(.*?\.(?:tar|tar\.\w+|tgz|parquet))/(.+)", re.IGNORECASE | re.DOTALL)


def is_picture_member(path: str, left_out: Counter[str]) -> bool:
    """Whether a file of a folder or an archive is taken, by its path within.

    Args:
        left_out: counts, by suffix, pictures of kinds that showtell does not read.
    """
    if is_hidden(path):
        return False
    if is_unsupported_picture(path):
        left_out[os.path.splitext(path)[1].lower()] += 1
        return False
    return is_picture_name(path)


def is_leftover(path: str) -> bool:
    """Whether a path in a list is of a file that systems put beside pictures: ``._cat.jpg``.

    Hidden folders are no reason: a person who lists what lies in one means it.
    """
    parts = path.split("/")
    return is_hidden(parts[-1]) or any(part in LEFTOVER_FOLDERS for part in parts)


def broken(name: str, reason: str, *, may_pass: bool = False) -> Picture:
    """A picture that fails for this reason, which may pass or not."""

    def fail() -> bytes:
        raise (UnavailableError if may_pass else ImageError)(reason)

    return Picture(name, fail, reason, may_pass)


def held(name: str, content: bytes) -> Picture:
    """A picture whose file is in memory."""
    return Picture(name, lambda: content, num_held=len(content))


class UniqueNames:
    """Numbers the names that come again: ``dog.jpg``, ``dog#2.jpg``, ``dog#3.jpg``."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, name: str) -> str:
        stem, suffix = os.path.splitext(name)
        unique, number = name, 1
        while unique in self._seen:
            number += 1
            unique = f"{stem}#{number}{suffix}"
        self._seen.add(unique)
        return unique


def split_name(path: str) -> tuple[str, str]:
    """A picture's container and its name within; the container is empty where there is none."""
    found = _IN_CONTAINER.fullmatch(path)
    return (found[1], found[2]) if found else ("", path)


def sample_keys(paths: Iterable[str]) -> Iterator[str]:
    """A WebDataset key for each picture; no two are equal.

    Pictures that are all of one archive have the keys that they have there, so that both archives
    join by key. Otherwise the key is the picture's whole path without its suffix. WebDataset ends
    a key at the first dot of the last part, so a file's other dots become ``_``.

    Args:
        paths: gone through twice.
    """
    is_joined = len({split_name(path)[0] for path in paths}) == 1
    used: set[str] = set()
    for path in paths:
        container, within = split_name(path)
        folder, _, name = (within if is_joined else path).rpartition("/")
        stem, suffix = os.path.splitext(name) if is_picture_name(name) else (name, "")
        if not container:
            stem = stem.replace(".", "_")
        parts = [part for part in folder.split("/") if part not in ("", ".", "..")]
        whole = "/".join([*parts, stem])
        key = plain = "".join(c if c.isprintable() or c in _ODD_BYTES else "_" for c in whole)
        number = 1
        while key in used:
            key = f"{plain}_{suffix[1:].lower()}" if number == 1 and suffix else f"{plain}_{number}"
            number += 1
        used.add(key)
        yield key
