"""Pictures whose pixels are sound but whose file is not: the bytes to decode in its place.

``open_image`` asks here only after Pillow has refused a file. Each function returns the mended
bytes and one note for the person who asked, or None where the pixels themselves may be damaged.
Pillow's own switches for damaged files are left alone: they hold for the whole process.

``check_scans`` reads a sound JPEG's markers, for whoever decodes strangers' files.
"""

import random
import re
import struct
import zlib
from collections.abc import Callable, Iterator

from showtell.errors import LargePictureError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXEL_CHUNKS = frozenset([b"IHDR", b"PLTE", b"IDAT", b"IEND"])
# Chunks that say how the pixels are to be seen; the largest sound one has some hundred bytes.
_KEPT_CHUNKS = frozenset([b"tRNS", b"eXIf"])
_LARGEST_KEPT = 1 << 16

MAX_PARTS = 20_000
"""Segments, chunks or blocks of a file, besides one for every 1024 bytes of it."""

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
# Not those that may stand within a scan (ITU T.81, section B.1.1.2), nor fill bytes.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_SCAN = b"\xff\xda"

Decode = Callable[[bytes], bytes]


def sound_png(data: bytes) -> tuple[bytes, str] | None:
    """A PNG without its texts, profiles and other chunks that no pixel needs.

    None where a chunk with pixels is cut off or has another checksum than it says, or where there
    are more chunks than a usual file has.
    """
    chunks, left_out, has_end = [], set(), False
    for number, (kind, chunk, is_sound) in enumerate(_png_chunks(data)):
        if number == MAX_PARTS + len(data) // 1024:
            return None
        if kind in _PIXEL_CHUNKS:
            if not is_sound:
                return None
            has_end = has_end or kind == b"IEND"
            chunks.append(chunk)
        elif kind in _KEPT_CHUNKS and is_sound and len(chunk) < _LARGEST_KEPT:
            chunks.append(chunk)
        else:
            left_out.add(kind.decode("ascii", "replace"))
    if not has_end:
        chunks.append(b"\0\0\0\0IEND\xaeB`\x82")
    names = f" ({', '.join(sorted(left_out))})" if left_out else ""
    note = f"read without its texts, profiles and other metadata{names}: damaged or too large"
    return PNG_SIGNATURE + b"".join(chunks), note


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Kind, whole bytes and soundness of each chunk up to the end."""
    at = len(PNG_SIGNATURE)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        chunk = data[at : at + length + 12]
        at += length + 12
        is_whole = len(chunk) == length + 12
        yield kind, chunk, is_whole and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        if kind == b"IEND":
            return


def sound_jpeg(data: bytes, decode: Decode) -> tuple[bytes, str] | None:
    """A JPEG with the end marker that it lacks, where it lacks nothing else.

    A decoder goes on with whatever follows the last byte until all pixels are made. So the file is
    decoded with two different endings: if the pixels differ, some of them were missing.

    Args:
        data: the file.
        decode: the pixels of a JPEG, as bytes.
    """
    whole = data.removesuffix(b"\xff")
    chance = random.Random(0)
    noise = bytes(chance.randrange(255) for _ in range(1 << 14))  # without 0xFF: no marker
    first = whole + JPEG_END
    if decode(first) != decode(whole + noise + JPEG_END):
        return None
    return first, "read although its end marker is missing; all pixels are there"


def first_tiff_page(data: bytes) -> tuple[bytes, str] | None:
    """A TIFF that ends after its first page; None where it ends there anyway."""
    order = "<" if data[:2] == b"II" else ">"
    if struct.unpack_from(f"{order}H", data, 2)[0] != 42:
        return None
    (directory,) = struct.unpack_from(f"{order}I", data, 4)
    (entries,) = struct.unpack_from(f"{order}H", data, directory)
    place = directory + 2 + 12 * entries
    if not any(data[place : place + 4]):
        return None
    mended = data[:place] + bytes(4) + data[place + 4 :]
    return mended, "has more than one page: the first is read, as another one is damaged"


def check_scans(data: bytes, most: int) -> None:
    """Refuse a JPEG that takes its decoder far longer than its number of pixels tells.

    Its decoder passes over all pixels in each scan, and a file of 20 MB has room for a million; of
    empty segments it has room for five.

    Raises:
        LargePictureError: it has more than ``most`` scans, or more than ``MAX_PARTS`` segments.
    """
    if not data.startswith(JPEG_START):
        return
    place, scans, parts = 2, 0, 0
    while (marker := _MARKER.search(data, place)) and marker[0] != JPEG_END:
        scans, parts = scans + (marker[0] == _SCAN), parts + 1
        if scans > most:
            raise LargePictureError(f"has more than {most} scans")
        if parts > MAX_PARTS:
            raise LargePictureError(f"has more than {MAX_PARTS:,} segments")
        size = int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        place = marker.end() + max(size, 2)
