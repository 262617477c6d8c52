"""Pictures of more than 8 bits a colour: whole numbers of 10 to 32 bits and floats, onto 0-255.

Pillow holds greys of up to 32 bits, but cuts 16-bit colours down to their upper 8 bits and refuses
colours in floats. Here such files are read in full.

Which value is white is decided in this order. A TIFF may declare it (BitsPerSample, MinSampleValue
and MaxSampleValue, SMinSampleValue and SMaxSampleValue). Negative values, and those above 16 bits,
have no known white, so their own range is stretched. Floats up to 1 are shares of white, also where
a few bright spots are above it. For all others white is the largest value of 8, 10, 12, 14 or 16
bits, whichever just holds the brightest value: cameras and scanners of 10 to 14 bits often write
files of 16 bits and do not fill them. A note says so where that is fewer than 16.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from showtell.errors import LargePictureError

Pixels = NDArray[np.uint8]

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIPS = 256, 257, 258, 259, 262, 273
SAMPLES, ROWS_PER_STRIP, STRIP_SIZES, PLANAR = 277, 278, 279, 284
MIN_SAMPLE, MAX_SAMPLE, PREDICTOR, TILE_WIDTH = 280, 281, 317, 322
SAMPLE_FORMAT, S_MIN_SAMPLE, S_MAX_SAMPLE = 339, 340, 341
_KEPT_TAGS = (HEIGHT, COMPRESSION, 266, STRIPS, ROWS_PER_STRIP, STRIP_SIZES, 323, 324, 325)
_SHORT, _LONG = 3, 4
IN_PLANES = 2  # a value of PLANAR
USUAL_BITS = (8, 10, 12, 14, 16)
HARDLY = 64  # no upper byte is as large where values of 14 bits or fewer lie in 16
BAND = 2**20  # pixels, about


@dataclass(frozen=True, slots=True)
class Range:
    """The values of black and white that a file declares; None where it does not."""

    low: float | None = None
    high: float | None = None


def bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """A picture in pieces of its whole width: the first row of each, and its pixels.

    Computing with all pixels at a time, in numbers of 64 bits, would take many times the picture's
    memory.
    """
    width, height = image.size
    rows = max(1, BAND // width)
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(top + rows, height)))


def is_deep(image: Image.Image) -> bool:
    """Whether Pillow holds the picture as greys of more than 8 bits."""
    return image.mode in ("F", "I") or image.mode.startswith("I;16")


def declared_range(image: Image.Image) -> Range:
    """What a TIFF's tags say, or, of HEIC, what libheif makes; other formats say nothing."""
    if image.format == "HEIF":
        return Range(0.0, 65535.0)
    tags: Any = getattr(image, "tag_v2", None)
    if tags is None:
        return Range()
    bits = min(_numbers(tags.get(BITS)) or [16])
    low = _numbers(tags.get(S_MIN_SAMPLE)) or _numbers(tags.get(MIN_SAMPLE))
    high = _numbers(tags.get(S_MAX_SAMPLE)) or _numbers(tags.get(MAX_SAMPLE))
    white = max(high) if high else 0.0
    if bits in (10, 12, 14):
        white = white or 2.0**bits - 1
    # Zero and "all of the file's bits" are what programs write that do not know.
    if white in (0.0, 2.0**bits - 1) and bits in (16, 32):
        return Range()
    return Range(min(low) if low else 0.0, white)


def _numbers(value: Any) -> list[float]:
    values = value if isinstance(value, tuple) else (value,)
    return [float(one) for one in values if isinstance(one, int | float)]


class Greys:
    """The values of a picture that Pillow holds as greys.

    Args:
        greys: its pixels.
        samples: greys that are one pixel's colours, of which the first three are taken; 1: a
            picture of greys.
    """

    def __init__(self, greys: Image.Image, samples: int = 1) -> None:
        self._greys, self._samples = greys, samples

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self._greys.width // self._samples, self._greys.height

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Band by band (N, W) or (N, W, 3); what is not a number, or infinite, is 0."""
        for _, band in bands(self._greys):
            values = np.asarray(band)
            if values.dtype.kind == "f":
                values = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
            if self._samples > 1:
                values = values.reshape(len(values), -1, self._samples)[:, :, :3]
            yield values


class Colours:
    """The values of a picture in 16-bit colours, of which Pillow holds the bytes apart."""

    def __init__(self, upper: Image.Image, lower: Image.Image) -> None:
        self._upper, self._lower = upper, lower
        self.size = upper.size

    def __iter__(self) -> Iterator[NDArray[np.uint16]]:
        """Band by band, (N, W, 3); (N, W) of one channel."""
        for (_, upper), (_, lower) in zip(bands(self._upper), bands(self._lower), strict=True):
            yield np.asarray(upper).astype(np.uint16) * 256 + np.asarray(lower)


def to_eight_bits(values: Greys | Colours, declared: Range, notes: list[str]) -> Image.Image:
    """Values of 16 or 32 bits, or floats, onto 0-255: a picture of greys or of RGB.

    Args:
        values: as stored; they are gone through several times, as they are large.
        declared: the file's black and white.
        notes: takes a line where white was guessed.
    """
    low, high = np.inf, -np.inf
    for band in values:
        low, high = min(low, float(band.min())), max(high, float(band.max()))
    is_float = band.dtype.kind == "f"
    black, white = 0.0, 65535.0
    if (
        declared.high is not None
        and declared.low is not None
        and (declared.low <= low and high <= declared.high and declared.low < declared.high)
    ):
        black, white = declared.low, declared.high
    elif low < 0 or high > 65535:
        black, white = low, max(high, low + 1e-12)
    elif is_float and (high <= 1 or _are_shares(values)):
        white = 1.0
    else:
        bits = next(bits for bits in USUAL_BITS if high <= 2**bits - 1)
        white = 2.0**bits - 1
        if 8 < bits < 16 or (bits == 8 and band.dtype.itemsize == 2 and high > 0):
            notes.append(f"its brightest value is {high:g}: read as {bits} bits of a larger file")
    scale = 255 / ((white - black) or 1.0)  # of one large value, 1e-12 more is the same number
    whole = Image.new("L" if band.ndim == 2 else "RGB", values.size)
    top = 0
    for band in values:
        scaled = np.rint((band.astype(np.float64) - black) * scale).clip(0, 255)
        whole.paste(Image.fromarray(scaled.astype(np.uint8)), (0, top))
        top += len(band)
    return whole


def _are_shares(values: Greys | Colours) -> bool:
    """Whether 95% of the values are at most 1, and not all whole numbers."""
    num = sum(band.size for band in values)
    num_up_to_one = sum(int(np.count_nonzero(band <= 1)) for band in values)
    return num_up_to_one >= 0.95 * num and any(bool((band % 1 != 0).any()) for band in values)


def has_sixteen_bit_colours(image: Image.Image) -> bool:
    """Whether Pillow is about to keep only the upper bytes of red, green and blue.

    Raises:
        ValueError: it is about to take 16-bit values for 8-bit ones.
    """
    tags: Any = getattr(image, "tag_v2", None)
    tiles = getattr(image, "tile", None)
    is_raw = bool(tags and tiles and tiles[0].codec_name == "raw")
    if is_raw and tags.get(PLANAR) == IN_PLANES and max(tags.get(BITS, (8,))) > 8:
        raise ValueError(
            "its 16-bit colours lie in a plane each, uncompressed, which showtell does not read; "
            "save it with compression, or with 8 bits"
        )
    return _sixteen_bit_mode(image) is not None


def _sixteen_bit_mode(image: Image.Image) -> str | None:
    tiles = getattr(image, "tile", None)
    if image.mode not in ("RGB", "RGBA") or not tiles:
        return None
    arguments = tiles[0].args
    mode = arguments if isinstance(arguments, str) else arguments[0] if arguments else None
    return mode if mode in _SIXTEEN_BIT_MODES else None


_GREYS_AND_ALPHA = "LA;16B"
_SIXTEEN_BIT_MODES = (
    *(f"{bands};16{order}" for bands in ("RGB", "RGBX", "RGBA") for order in "BLN"),
    _GREYS_AND_ALPHA,
)


def lower_bytes(image: Image.Image) -> Image.Image:
    """The lower bytes of 16-bit colours and their alpha, of a picture that is not loaded yet."""
    mode = _sixteen_bit_mode(image)
    assert mode is not None
    # Read in the other order of bytes, the byte that is kept is the lower one.
    is_little = mode.endswith("L") or (mode.endswith("N") and _LITTLE)
    other = f"{mode[:-1]}{'B' if is_little else 'L'}"
    if mode == _GREYS_AND_ALPHA:  # Pillow reads these in one order; as RGBA they are four bytes
        other = "RGBA"
    opened: Any = image  # a file that Pillow has opened has tiles
    opened.tile = [
        tile._replace(args=other if isinstance(tile.args, str) else (other, *tile.args[1:]))
        for tile in opened.tile
    ]
    image.load()
    if mode == _GREYS_AND_ALPHA:
        _, grey, _, alpha = image.split()
        return Image.merge("RGBA", (grey, grey, grey, alpha))
    return image


def brightest(image: Image.Image) -> int:
    """The largest value of red, green and blue, from 0 to 255."""
    return max(high for _, high in image.getextrema()[:3])  # type: ignore[misc]


def in_all_bits(
    upper: Image.Image, lower: Image.Image, declared: Range, notes: list[str]
) -> Image.Image:
    """16-bit colours whose upper bytes are hardly used, onto 0-255: RGB, or RGBA as they are.

    Args:
        upper, lower: the two bytes of each value.
        declared, notes: as ``to_eight_bits`` takes them.
    """
    high, low = upper.convert("RGB"), lower.convert("RGB")
    if ImageChops.difference(high, low).getbbox() is None:
        return upper  # 8 bits, each byte written twice: a dark picture, of which nothing is cut
    colours = to_eight_bits(Colours(high, low), declared, notes)
    if upper.mode == "RGBA":
        alpha = upper.getchannel("A")
        if 0 < int(np.asarray(alpha).max()) < HARDLY:
            alpha = to_eight_bits(Colours(alpha, lower.getchannel("A")), Range(), [])
        colours.putalpha(alpha)
    return colours


def scale_ppm(image: Any, file: BinaryIO) -> None:
    """Let Pillow read a PPM whose white is neither 255 nor, of greys, 65535 as if it were.

    By itself it takes a microsecond for each pixel, in Python. The result is the same.

    Args:
        image: not decoded yet.
        file: that it was opened from.
    """
    tile = image.tile[0]
    mode, white = tile.args
    stored = np.dtype("u1" if white < 256 else ">u2")
    most, usual, rawmode = (65535, ">u2", "I;16B") if image.mode == "I" else (255, "u1", mode)
    table = np.rint(np.arange(white + 1) / white * most).astype(usual)
    left = image.width * image.height * len(image.getbands()) * stored.itemsize
    scaled = bytearray()
    file.seek(tile.offset)
    while left and (piece := file.read(min(left, BAND))):
        values = np.frombuffer(piece, stored, count=len(piece) // stored.itemsize)
        scaled += table[np.minimum(values, white)].tobytes()
        left -= len(piece)
    image.fp = io.BytesIO(scaled)
    image.tile = [tile._replace(codec_name="raw", offset=0, args=rawmode)]


_LITTLE = struct.pack("=H", 1) == b"\x01\x00"


def colours_in_floats(data: bytes, max_pixels: int) -> Greys | None:
    """The colours of a TIFF of 32-bit floats; None where it is something else.

    Pillow reads greys in floats, in every compression. So the file is given a directory that
    calls a row of W colours a row of 3 W greys.

    Raises:
        LargePictureError: it has more than ``max_pixels``.
    """
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return None
    order = "<" if data[:2] == b"II" else ">"
    entries = _tiff_entries(data, order)
    samples = _first(entries, SAMPLES, 1)
    if (
        samples not in (3, 4)
        or _first(entries, SAMPLE_FORMAT, 1) != 3
        or _first(entries, BITS, 1) != 32
        or _first(entries, PLANAR, 1) != 1
        or _first(entries, PREDICTOR, 1) != 1
    ):
        return None
    width, height = _first(entries, WIDTH, 0), _first(entries, HEIGHT, 0)
    if width * height > max_pixels:
        raise LargePictureError(f"has {width} x {height} pixels; the limit is {max_pixels:,}")
    new = {tag: entries[tag][0] for tag in _KEPT_TAGS if tag in entries}
    for tag in (WIDTH, TILE_WIDTH):
        if tag in entries:
            new[tag] = struct.pack(f"{order}HII", _LONG, 1, samples * entries[tag][1])
    for tag, value in ((BITS, 32), (PHOTOMETRIC, 1), (SAMPLES, 1), (SAMPLE_FORMAT, 3)):
        new[tag] = struct.pack(f"{order}HIHxx", _SHORT, 1, value)
    padding = bytes(len(data) % 2)
    directory = struct.pack(f"{order}H", len(new))
    directory += b"".join(struct.pack(f"{order}H", tag) + new[tag] for tag in sorted(new))
    start = struct.pack(f"{order}I", len(data) + len(padding))
    rewritten = data[:4] + start + data[8:] + padding + directory + bytes(4)
    with Image.open(io.BytesIO(rewritten), formats=["TIFF"]) as image:
        image.load()
        return Greys(image, samples)


def _tiff_entries(data: bytes, order: str) -> dict[int, tuple[bytes, int]]:
    """By tag: type, count and value as stored, and the first value of those that are numbers."""
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, at)
    entries = {}
    for place in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(f"{order}HHI", data, place)
        size, letter = (2, "H") if kind == _SHORT else (4, "I")
        offset = place + 8
        if size * number > 4:
            (offset,) = struct.unpack_from(f"{order}I", data, offset)
        value = 0
        if kind in (_SHORT, _LONG) and number:
            (value,) = struct.unpack_from(f"{order}{letter}", data, offset)
        entries[tag] = data[place + 2 : place + 12], value
    return entries


def _first(entries: dict[int, tuple[bytes, int]], tag: int, default: int) -> int:
    return entries[tag][1] if tag in entries else default
