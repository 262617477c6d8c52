"""What pictures a TIFF file has in it, so that a program that rewrites one can be checked.

TIFF 6.0 (Adobe 1992), section 2: a chain of directories, one for each page. Their entries say where
the parts of its picture lie, and may point to further directories (SubIFDs, TIFF Technical Note 1).
"""

import struct
from collections.abc import Iterator
from hashlib import blake2b

SIZES = {1: 1, 3: 2, 4: 4, 13: 4}  # bytes of a value: BYTE, SHORT, LONG, IFD
LETTERS = {1: "B", 3: "H", 4: "I", 13: "I"}
SUB_IFDS = 330
PARTS = ((273, 279), (324, 325))  # offsets and sizes of strips, and of tiles
MOST_DIRECTORIES = 65536
MOST_READ = 4  # times the file's size

Directory = dict[int, tuple[int, ...]]


class TiffError(ValueError):
    """The file is not as a TIFF should be."""


def num_pages(content: bytes) -> int:
    """How many directories the chain of a TIFF file has.

    Raises:
        TiffError: it is damaged, or a BigTIFF.
    """
    return sum(1 for _ in _chain(content, _first(content), set()))


def picture_parts(content: bytes) -> list[bytes]:
    """A digest of the strips and tiles of each directory, the SubIFDs' included.

    Raises:
        TiffError: as ``num_pages``.
    """
    found = []
    left = MOST_READ * len(content)
    waiting, seen = [_first(content)], set[int]()
    while waiting:
        for directory in _chain(content, waiting.pop(), seen):
            waiting += reversed(directory.get(SUB_IFDS, ()))
            digest = blake2b(digest_size=16)
            for offsets, sizes in PARTS:
                places = zip(directory.get(offsets, ()), directory.get(sizes, ()), strict=False)
                for offset, size in places:
                    left -= size
                    if left < 0:
                        raise TiffError("its parts overlap")
                    digest.update(content[offset : offset + size])
            found.append(digest.digest())
            if len(found) > MOST_DIRECTORIES:
                raise TiffError(f"it has more than {MOST_DIRECTORIES:,} directories")
    return found


def _first(content: bytes) -> int:
    if content[:4] not in (b"II*\0", b"MM\0*"):
        raise TiffError("it does not begin as a TIFF does")
    return _numbers(content, 4, "I", 1)[0]


def _chain(content: bytes, offset: int, seen: set[int]) -> Iterator[Directory]:
    """The directory at ``offset`` and those that follow on it; none that was ``seen``, so that
    loops end.
    """
    while offset and offset not in seen and len(seen) < MOST_DIRECTORIES:
        seen.add(offset)
        [num] = _numbers(content, offset, "H", 1)
        entries = range(offset + 2, offset + 2 + 12 * num, 12)
        yield dict(_entry(content, place) for place in entries)
        [offset] = _numbers(content, offset + 2 + 12 * num, "I", 1)


def _entry(content: bytes, place: int) -> tuple[int, tuple[int, ...]]:
    """A tag and its values, where these are offsets or sizes; of other tags none."""
    tag, kind = _numbers(content, place, "H", 2)
    if kind not in SIZES or tag not in (SUB_IFDS, *PARTS[0], *PARTS[1]):
        return tag, ()
    [num] = _numbers(content, place + 4, "I", 1)
    where = place + 8
    if num * SIZES[kind] > 4:
        [where] = _numbers(content, where, "I", 1)
    return tag, _numbers(content, where, LETTERS[kind], num)


def _numbers(content: bytes, place: int, letter: str, num: int) -> tuple[int, ...]:
    if place + num * struct.calcsize(letter) > len(content):
        raise TiffError("it is cut off")
    order = "<" if content[:1] == b"I" else ">"
    return struct.unpack_from(f"{order}{num}{letter}", content, place)
