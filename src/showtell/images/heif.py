"""HEIC and HEIF, the pictures of phones, read by pillow-heif (extra ``heif``).

Its reader is called where a file is of this kind, and is never registered with Pillow: importing
showtell or opening a picture changes nothing for other users of Pillow in the process.
"""

import io
import struct
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, BinaryIO

from showtell.errors import ImageError, LargePictureError, MissingFormatError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset((".heic", ".heif", ".hif"))
HEAD = 64  # bytes at the start of a file that tell its kind
_BRANDS = frozenset(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
)
_AVIF = frozenset((b"avif", b"avis"))  # may name mif1 as well; Pillow reads them


@lru_cache
def is_installed() -> bool:
    """Whether HEIC can be read."""
    return find_spec("pillow_heif") is not None


def is_heif(head: bytes) -> bool:
    """Whether a file that begins so says that it is HEIC or HEIF (ISO/IEC 23008-12, 10.2)."""
    if head[4:8] != b"ftyp":
        return False
    size = int.from_bytes(head[:4], "big")
    listed = head[8:12] + head[16 : min(size, HEAD)]  # the brand, then compatible ones
    brands = {listed[at : at + 4] for at in range(0, len(listed), 4)}
    return bool(brands & _BRANDS) and not brands & _AVIF


def open_heif(file: BinaryIO, max_pixels: int) -> "Image.Image":
    """The main picture of a file, not decoded yet; it is turned as the file says when it is loaded.

    Raises:
        MissingFormatError: pillow-heif is not installed.
        LargePictureError: an image in the file, or its tiles together, have more than
            ``max_pixels``.
        ImageError: it is made of images that overlap ("iovl").
        SyntaxError: it cannot be read.
    """
    if not is_installed():
        raise MissingFormatError("heif", "is HEIC, and reading it")
    from pillow_heif import HeifImageFile

    data = file.read()
    for width, height in _sizes(data):
        if width * height > max_pixels:
            raise LargePictureError(f"has {width} x {height} pixels; the limit is {max_pixels:,}")
    image: Image.Image = HeifImageFile(io.BytesIO(data))  # type: ignore[no-untyped-call]
    tiling = image.info.get("tiling")
    if tiling:  # one large tile may come thousands of times in a small picture
        width = tiling["num_columns"] * tiling["tile_width"]
        height = tiling["num_rows"] * tiling["tile_height"]
        if width * height > max_pixels:
            raise LargePictureError(
                f"has tiles of {width} x {height} pixels; the limit is {max_pixels:,}"
            )
    # Depth maps and the like would keep the file in memory. Metadata could turn the picture again.
    image.info = {}
    return image


def _sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """Width and height of all images in the file ("ispe", ISO/IEC 23008-12, 6.5.3).

    A file may show a small part of a large image ("clap"), or make one of tiles, so the size that
    it is shown in says nothing about what is decoded. libheif (1.23.6) refuses an image that is
    larger than its "ispe" says.
    """
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if size == 1 and at + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, at + 8)
        end = at + size if size else len(data)  # 0: up to the end of the file
        if kind == b"meta":
            if data.find(b"iovl", at, end) >= 0:  # may draw one large image thousands of times
                raise ImageError("is made of images that overlap, which showtell does not read")
            place = data.find(b"ispe", at, end)
            while place >= 0 and place + 16 <= len(data):
                width, height = struct.unpack_from(">II", data, place + 8)
                yield width, height
                place = data.find(b"ispe", place + 1, end)
        at = max(end, at + 8)
