"""Opening pictures: whatever a folder holds becomes upright RGB, or one line says why not.

A file whose pixels are sound is read even if something else in it is damaged (``repair.py``), and
one of more than 8 bits a colour is scaled to 8 (``depth.py``). ``notes_of`` says what a reader of
the result should know about either.
"""

import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFile, UnidentifiedImageError

from showtell.core import urls
from showtell.errors import (
    ImageError,
    LargePictureError,
    MissingFormatError,
    NotAPictureError,
    PictureTypeError,
    UnavailableError,
    one_line,
)
from showtell.images import depth, heif, repair
from showtell.images.depth import Pixels as Pixels

MAX_PIXELS = 150_000_000
"""A picture with more pixels is refused: decoded, it would take more than 450 MB."""

# Formats that are decoded in the process by a library meant for pictures. Left out on purpose:
# those that start a program (EPS) or that hold anything but a picture. HEIC is read by ``heif.py``.
FORMATS = {
    "JPEG": "Jpeg",
    "PNG": "Png",
    "WEBP": "WebP",
    "GIF": "Gif",
    "TIFF": "Tiff",
    "BMP": "Bmp",
    "PPM": "Ppm",
    "AVIF": "Avif",
}
"""Pillow's name of each, and of the module that reads it."""

ORIENTATION_TAG = 0x0112
_RLE = (1, 2)  # compressions of a BMP: runs of 8 or of 4 bits a pixel
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

NOTES = "showtell_notes"  # in a picture's ``info``

RLE_COST = 100
"""A run-length encoded BMP may have this many times fewer pixels than others: Pillow decodes it in
Python, and fills up short rows pixel by pixel, so a file of 5 KB could take seconds in which no
other thread gets far."""


class _Counted:
    """A binary file that is not read in small pieces without end.

    Pillow steps over the parts of a JPEG, PNG, GIF or TIFF (segments, chunks, blocks) in Python, in
    two or three reads each; 20 MB have room for millions of empty ones, and for as long as a minute
    no other thread gets far.

    Attributes:
        left: reads that may still be made, from which ``read`` raises LargePictureError. Every 1024
            bytes read give one more: libpng writes large pictures in chunks of 8 KB.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.left = file, float(repair.MAX_PARTS)

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        self.left += len(data) / 1024 - 1
        if self.left < 0:
            raise LargePictureError("is made of too many small parts to be a usual picture")
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def open_image(
    source: Path | str | bytes | BinaryIO,
    *,
    min_side: int | None = None,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
) -> Image.Image:
    """Decode a picture into RGB, the right way up.

    Of an animation or a TIFF of several pages the first is taken. Transparency is laid over white.
    Values of more than 8 bits are scaled, not clipped (``depth.py`` says where white is). Colour
    profiles are ignored, as the encoders' own training did. Damage that leaves the pixels sound
    costs nothing; ``notes_of`` the result tells of it.

    Args:
        source: A file, its bytes, or an open binary file.
        min_side: Let a large JPEG be decoded at 1/2, 1/4 or 1/8 of its size as long as its
            short side keeps this many pixels: several times faster, and nearly the same.
        max_pixels: A picture with more is refused before any is decoded.
        name: What errors call it; by default its path.

    Raises:
        NotAPictureError: it is of no kind that can be read.
        MissingFormatError: it is HEIC, and the extra ``heif`` is not installed.
        LargePictureError: it has more than ``max_pixels``, or parts without end.
        UnavailableError: the system does not give it: it is not there, or its disk fails.
        ImageError: it is truncated, or damaged.
    """
    if name is None:
        name = str(source) if isinstance(source, Path | str) else "picture"
    try:
        with _quiet_pillow(), _open_binary(source) as file:
            return _decode(file, min_side, max_pixels)
    except ImageError as error:
        error.args = (f"{name}: {error}",)
        raise error from None
    except UnidentifiedImageError:
        known = ", ".join((*_known_formats(), *["HEIC"] * heif.is_installed()))
        raise NotAPictureError(f"{name}: is not a picture that can be read ({known})") from None
    except Exception as error:
        # Hostile bytes make decoders raise nearly anything; all of it is about this picture.
        is_systems = isinstance(error, OSError) and error.errno is not None
        kind = UnavailableError if is_systems else ImageError
        raise kind(f"{name}: {_reason(error)}") from None


@contextmanager
def _open_binary(source: Path | str | bytes | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
    elif isinstance(source, Path | str):
        # Not blocking, so that a named pipe without a writer cannot hang the run.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        if Path(source).is_dir():
            raise ImageError("is a folder, not a picture")
        with os.fdopen(os.open(source, flags), "rb") as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise ImageError("is not a regular file")
            if info.st_size == 0:
                raise ImageError("is empty")
            yield file
    else:
        yield source


def notes_of(image: Image.Image) -> tuple[str, ...]:
    """What ``open_image`` had to assume or to leave out, a sentence each."""
    return tuple(image.info.get(NOTES, ()))


def _decode(file: BinaryIO, min_side: int | None, max_pixels: int) -> Image.Image:
    notes: list[str] = []
    try:
        return _noted(_decode_once(file, min_side, max_pixels, notes), notes)
    except (LargePictureError, MissingFormatError):
        raise
    except Exception:  # of any kind: hostile bytes make decoders raise nearly anything
        rescued = _rescue(file, min_side, max_pixels)
        if rescued is None:
            raise
        return rescued


def _decode_once(
    file: BinaryIO, min_side: int | None, max_pixels: int, notes: list[str]
) -> Image.Image:
    image = _opened(file, max_pixels)
    upper_only = depth.has_sixteen_bit_colours(image)
    if min_side is not None and image.format != "HEIF":  # its thumbnail may show something else
        image.draft(image.mode, (min_side, min_side))
    image.load()
    tags: Any = getattr(image, "tag_v2", None)
    if image.format == "TIFF" and getattr(tags, "next", False):
        notes.append("has more than one page: the first is read")
    # Read after loading: the TIFF reader turns the picture itself, and takes the tag away.
    upright = UPRIGHT.get(_orientation(image))
    if upper_only and depth.brightest(image) < depth.HARDLY:
        lower = depth.lower_bytes(_opened(file, max_pixels))
        image = depth.in_all_bits(image, lower, depth.declared_range(image), notes)
    rgb = _to_rgb(image, notes)
    return rgb if upright is None else rgb.transpose(upright)


def _opened(file: BinaryIO, max_pixels: int) -> Image.Image:
    """The picture, not decoded yet.

    Raises:
        LargePictureError: it has more than ``max_pixels``, or too many parts; the latter is raised
            while it is decoded, too.
        MissingFormatError: it is HEIC, and the extra ``heif`` is not installed.
    """
    file.seek(0)
    head = file.read(heif.HEAD)
    file.seek(0)
    counted = _Counted(file)
    try:
        image: Image.Image = (
            heif.open_heif(file, max_pixels)
            if heif.is_heif(head)
            else Image.open(counted, formats=_known_formats())
        )
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise LargePictureError(f"has more pixels than the limit of {max_pixels:,}") from None
    width, height = image.size
    if width * height > max_pixels:
        raise LargePictureError(f"has {width} x {height} pixels; the limit is {max_pixels:,}")
    if image.format == "BMP" and image.info["compression"] in _RLE:
        if width * height * RLE_COST > max_pixels:
            raise LargePictureError(
                f"has {width} x {height} pixels; the limit of a run-length encoded BMP is "
                f"{max_pixels // RLE_COST:,}: save it without compression, or as PNG"
            )
        counted.left += 2 * width * height + 4 * height  # runs of one pixel, and ends of rows
    elif image.format == "PPM" and image.tile[0].codec_name == "ppm":  # type: ignore[attr-defined]
        depth.scale_ppm(image, file)
    return image


def _rescue(file: BinaryIO, min_side: int | None, max_pixels: int) -> Image.Image | None:
    """The picture of a file that Pillow refuses although its pixels are sound; else None."""
    file.seek(0)
    start = file.read(8)
    if not start.startswith((repair.PNG_SIGNATURE, repair.JPEG_START, b"II", b"MM")):
        return None
    data = start + file.read()
    notes: list[str] = []

    def decode(data: bytes) -> Image.Image:
        return _decode_once(io.BytesIO(data), min_side, max_pixels, notes)

    try:
        if start == repair.PNG_SIGNATURE:
            mended = repair.sound_png(data)
        elif start.startswith(repair.JPEG_START):
            mended = repair.sound_jpeg(data, lambda data: decode(data).tobytes())
        else:
            colours = depth.colours_in_floats(data, max_pixels)
            if colours is not None:
                return _noted(depth.to_eight_bits(colours, depth.Range(), notes), notes)
            mended = repair.first_tiff_page(data)
        return None if mended is None else _noted(decode(mended[0]), [mended[1], *notes])
    except LargePictureError:
        raise
    except Exception:  # the caller reports the first error, which is about the file as it is
        return None


def _noted(image: Image.Image, notes: list[str]) -> Image.Image:
    image.info.pop(NOTES, None)  # a file may have written it
    if notes:
        image.info[NOTES] = tuple(dict.fromkeys(notes))
    return image


def _orientation(image: Image.Image) -> Any:
    try:
        return image.getexif().get(ORIENTATION_TAG)
    except Exception:  # broken metadata is no reason to refuse sound pixels
        return None


def _to_rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    if depth.is_deep(image):
        grey = depth.to_eight_bits(depth.Greys(image), depth.declared_range(image), notes)
        tags: Any = getattr(image, "tag_v2", {})
        if tags.get(depth.PHOTOMETRIC) == 0:  # Pillow turns greys of 8 bits and fewer by itself
            grey = ImageChops.invert(grey)
        return grey.convert("RGB")
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        # Adobe's programs store inks upside down and leave their marker; Pillow takes every file to
        # be theirs. Without the marker 0 is no ink, as browsers and ImageMagick have it.
        image = image.point(lambda ink: 255 - ink)
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        return _over_white(image)
    return image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    """Transparency over white, band by band.

    Whole pictures would take three times the memory; and Pillow keeps the interpreter's lock while
    it converts one, which holds up all other threads for a second where the picture is large.
    """
    whole = Image.new("RGB", image.size)
    for top, part in depth.bands(image):
        band = part.convert("RGBA")
        over_white = Image.new("RGBA", band.size, "white")
        over_white.alpha_composite(band)
        whole.paste(over_white.convert("RGB"), (0, top))
    return whole


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return f"cannot be decoded: {one_line(error)}"


@lru_cache
def _known_formats() -> tuple[str, ...]:
    # Only these readers: ``Image.init`` imports forty, among them a parser of PDF.
    for module in FORMATS.values():
        with suppress(ImportError):
            import_module(f"PIL.{module}ImagePlugin")
    return tuple(name for name in FORMATS if name in Image.OPEN)


class _QuietPillow:
    """Pillow's warnings off while any thread decodes.

    ``warnings.catch_warnings`` alone is not safe here: it saves and restores a list that all
    threads share, so overlapping uses would leave the wrong one in place. The first thread in
    saves it, the last one out restores it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved: warnings.catch_warnings[Any] | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            self._inside += 1
            if self._saved is None:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0 and self._saved is not None:
                    self._saved.__exit__(None, None, None)
                    self._saved = None


_quiet_pillow = _QuietPillow()


PictureBytes = bytes | bytearray | memoryview | BinaryIO
PictureLike = os.PathLike[str] | str | PictureBytes | Image.Image | NDArray[Any]
"""What ``as_image`` takes for one picture."""


def is_picture_like(value: object) -> bool:
    """Whether ``value`` is one picture, rather than several or none."""
    kinds = (os.PathLike, str, bytes, bytearray, memoryview, Image.Image, np.ndarray)
    return isinstance(value, kinds) or callable(getattr(value, "read", None))


def as_image(
    picture: PictureLike,
    *,
    min_side: int | None = None,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
) -> Image.Image:
    """An RGB picture, the right way up, of whatever a Python program has.

    A Pillow picture straight from ``Image.open`` is turned as its EXIF says; any other is taken to
    be upright. Transparency is laid over white and 16-bit greys are scaled, as ``open_image`` does.

    Args:
        picture: A path, a URL (extra ``remote``), a file's bytes, an open binary file, a Pillow
            picture of any mode, or a uint8 array (H, W) of greys, (H, W, 3) of RGB or (H, W, 4)
            of RGBA. A URL is fetched wherever it leads but to a cloud's metadata.
        min_side, max_pixels: As for ``open_image``; ``min_side`` matters for files alone.
        name: What errors call a picture that has no path.

    Raises:
        PictureTypeError: It is none of these; also a TypeError.
        ImageError: It cannot be fetched or decoded, or has no pixels or too many.
    """
    if isinstance(picture, np.ndarray):
        picture = _image_of_array(picture, name)
    if not isinstance(picture, Image.Image):
        if not is_picture_like(picture):
            raise PictureTypeError(
                f"{_prefix(name)}not a picture: {type(picture).__name__}; give a path, a URL, "
                "bytes, a Pillow picture or a NumPy array"
            )
        content, name = _content_of(picture, name)
        return open_image(content, min_side=min_side, max_pixels=max_pixels, name=name)
    name = name or "picture"
    width, height = picture.size
    if not width * height:
        raise ImageError(f"{name}: {width} x {height} pixels, so it is empty")
    if width * height > max_pixels:
        raise LargePictureError(
            f"{name}: has {width} x {height} pixels; the limit is {max_pixels:,}"
        )
    notes: list[str] = []
    try:
        with _quiet_pillow():
            picture.load()  # a picture from Image.open is decoded only now
            is_from_file = isinstance(picture, ImageFile.ImageFile)
            upright = UPRIGHT.get(_orientation(picture)) if is_from_file else None
            rgb = picture if picture.mode == "RGB" and not is_from_file else _to_rgb(picture, notes)
    except Exception as error:  # as in open_image
        raise ImageError(f"{name}: {_reason(error)}") from None
    rgb = rgb if upright is None else rgb.transpose(upright)
    return _noted(rgb, notes) if notes else rgb


def _content_of(
    picture: os.PathLike[str] | str | PictureBytes, name: str | None
) -> tuple[Path | str | bytes | BinaryIO, str | None]:
    """What ``open_image`` takes, and what it is called.

    Raises:
        PictureTypeError: a file is opened as text.
        ImageError: a URL or a file cannot be read.
    """
    if isinstance(picture, bytearray | memoryview):
        return bytes(picture), name
    if isinstance(picture, os.PathLike):
        return Path(picture), None
    if isinstance(picture, bytes):
        return picture, name
    if not isinstance(picture, str):
        return _content_of_file(picture, name), name
    if not urls.is_url(picture):
        return urls.local_path(picture), None
    try:
        return urls.fetch(picture, urls.is_metadata), picture
    except ImageError as error:
        error.args = (f"{picture}: {error}",)
        raise error from None


def _content_of_file(file: BinaryIO, name: str | None) -> bytes | BinaryIO:
    """The file, or what is left in it where it can only be read from front to back."""
    try:
        try:
            file.seek(0)
            content, is_read = file.read(0), False
        except (AttributeError, OSError):
            content, is_read = file.read(), True
    except Exception as error:  # of any kind: the object is the caller's own
        raise ImageError(f"{name or 'picture'}: cannot be read: {one_line(error)}") from None
    if not isinstance(content, bytes):
        raise PictureTypeError(
            f"{_prefix(name)}not a picture: a file that gives {type(content).__name__}; open it "
            "in binary mode, as 'rb'"
        )
    return content if is_read else file


def _prefix(name: str | None) -> str:
    return f"{name}: " if name else ""


def _image_of_array(pixels: NDArray[Any], name: str | None) -> Image.Image:
    fits = pixels.size > 0 and (
        pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
    )
    if pixels.dtype != np.uint8 or not fits:
        several = "; for several pictures, pass list(array)" if pixels.ndim == 4 else ""
        raise PictureTypeError(
            f"{_prefix(name)}not a picture: an array of {pixels.dtype} {pixels.shape}; expected "
            f"uint8 of shape (H, W), (H, W, 3) or (H, W, 4){several}"
        )
    return Image.fromarray(pixels)
