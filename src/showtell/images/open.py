"""Pictures: from a file's bytes to the square of pixels that an encoder looks at.

``open_image`` turns whatever a folder of pictures holds into upright RGB, or says in one line
why it cannot. ``Preprocessing`` is an encoder's recipe: which square of the picture, at what
size, on what scale. Normalising itself is left to the encoder, on its own device.
Knows nothing of encoders, torch or the feature store.
"""

import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from showtell.errors import ImageError, LargePictureError, NotAPictureError, PictureTypeError

MAX_PIXELS = 150_000_000
"""A picture with more pixels is refused: decoded, it would take more than 450 MB."""

# Formats that are decoded in the process by a library meant for pictures. Left out on purpose:
# those that start a program (EPS) or that hold anything but a picture.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF")

ORIENTATION_TAG = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

BAND = 256  # rows

Pixels = NDArray[np.uint8]


def open_image(
    source: Path | str | bytes | BinaryIO,
    *,
    min_side: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """Decode a picture into RGB, the right way up.

    Of an animation the first frame is taken; transparency is laid over white; 16-bit greys are
    scaled, not clipped. Colour profiles are ignored, as the encoders' own training did.

    Args:
        source: A file, its bytes, or an open binary file.
        min_side: Let a large JPEG be decoded at 1/2, 1/4 or 1/8 of its size as long as its
            short side keeps this many pixels: several times faster, and nearly the same.
        max_pixels: A picture with more is refused before any is decoded.

    Raises:
        NotAPictureError: it is of no kind that can be read.
        LargePictureError: it has more than ``max_pixels``.
        ImageError: it is truncated, or damaged, or not there.
    """
    name = str(source) if isinstance(source, Path | str) else "picture"
    try:
        with _quiet_pillow(), _open_binary(source) as file:
            return _decode(file, min_side, max_pixels)
    except ImageError as error:
        raise type(error)(f"{name}: {error}") from None
    except UnidentifiedImageError:
        known = ", ".join(_known_formats())
        raise NotAPictureError(f"{name}: is not a picture that can be read ({known})") from None
    except Exception as error:
        # Hostile bytes make decoders raise nearly anything; all of it is about this picture.
        raise ImageError(f"{name}: {_reason(error)}") from None


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


def _decode(file: BinaryIO, min_side: int | None, max_pixels: int) -> Image.Image:
    try:
        image: Image.Image = Image.open(file, formats=_known_formats())
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise LargePictureError(f"has more pixels than the limit of {max_pixels:,}") from None
    width, height = image.size
    if width * height > max_pixels:
        raise LargePictureError(f"has {width} x {height} pixels; the limit is {max_pixels:,}")
    if min_side is not None:
        image.draft(image.mode, (min_side, min_side))
    image.load()
    # Read after loading: the TIFF reader turns the picture itself, and takes the tag away.
    upright = UPRIGHT.get(_orientation(image))
    rgb = _to_rgb(image)
    return rgb if upright is None else rgb.transpose(upright)


def _orientation(image: Image.Image) -> Any:
    try:
        return image.getexif().get(ORIENTATION_TAG)
    except Exception:  # broken metadata is no reason to refuse sound pixels
        return None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        return Image.fromarray(_to_eight_bits(np.asarray(image))).convert("RGB")
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        return _over_white(image)
    return image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    """Transparency over white, band by band.

    Whole pictures would take three times the memory; and Pillow keeps the interpreter's lock while
    it converts one, which holds up all other threads for a second where the picture is large.
    """
    width, height = image.size
    whole = Image.new("RGB", image.size)
    for top in range(0, height, BAND):
        band = image.crop((0, top, width, min(top + BAND, height))).convert("RGBA")
        over_white = Image.new("RGBA", band.size, "white")
        over_white.alpha_composite(band)
        whole.paste(over_white.convert("RGB"), (0, top))
    return whole


def _to_eight_bits(values: NDArray[Any]) -> Pixels:
    """Grey values (H, W) of 16 or 32 bits, or floats, onto 0-255.

    Whole numbers up to 65,535 are 16-bit greys (65,535 is white), floats up to 1 are shares of
    white. Anything else carries no known white, so its own range is stretched.
    """
    if values.dtype.kind == "f":
        values = np.nan_to_num(values.astype(np.float64))
    low, high = float(values.min()), float(values.max())
    if values.dtype.itemsize == 2 and values.dtype.kind == "u":
        white: float = 65535
    elif low < 0 or high > 65535:
        values, white = values.astype(np.float64) - low, max(high - low, 1e-12)
    elif values.dtype.kind == "f":
        white = 1.0 if high <= 1 else 255.0 if high <= 255 else 65535.0
    else:
        white = 255 if high <= 255 else 65535
    return np.rint(values.astype(np.float64) * (255 / white)).astype(np.uint8)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = " ".join(str(error).split())
    return f"cannot be decoded: {text or type(error).__name__}"


@lru_cache
def _known_formats() -> tuple[str, ...]:
    Image.init()
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


PictureLike = Path | str | bytes | bytearray | memoryview | BinaryIO | Image.Image | NDArray[Any]
"""What ``as_image`` takes for one picture."""


def is_picture_like(value: object) -> bool:
    """Whether ``value`` is one picture, rather than several or none."""
    kinds = (Path, str, bytes, bytearray, memoryview, io.IOBase, Image.Image, np.ndarray)
    return isinstance(value, kinds)


def as_image(
    picture: PictureLike, *, min_side: int | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """An RGB picture, the right way up, of whatever a Python program has.

    A Pillow picture straight from ``Image.open`` is turned as its EXIF says; any other is taken to
    be upright. Transparency is laid over white and 16-bit greys are scaled, as ``open_image`` does.

    Args:
        picture: A path, a file's bytes, an open binary file, a Pillow picture of any mode, or a
            uint8 array (H, W) of greys, (H, W, 3) of RGB or (H, W, 4) of RGBA.
        min_side, max_pixels: As for ``open_image``; ``min_side`` matters for files alone.

    Raises:
        PictureTypeError: It is none of these; also a TypeError.
        ImageError: It cannot be decoded, or has no pixels or too many.
    """
    if isinstance(picture, bytearray | memoryview):
        picture = bytes(picture)
    if isinstance(picture, np.ndarray):
        picture = _image_of_array(picture)
    if not isinstance(picture, Image.Image):
        if not is_picture_like(picture):
            raise PictureTypeError(
                f"not a picture: {type(picture).__name__}; give a path, bytes, a Pillow picture "
                "or a NumPy array"
            )
        return open_image(picture, min_side=min_side, max_pixels=max_pixels)
    width, height = picture.size
    if not width * height:
        raise ImageError(f"picture: {width} x {height} pixels are none")
    if width * height > max_pixels:
        raise LargePictureError(
            f"picture: has {width} x {height} pixels; the limit is {max_pixels:,}"
        )
    try:
        with _quiet_pillow():
            picture.load()  # a picture from Image.open is decoded only now
            is_from_file = isinstance(picture, ImageFile.ImageFile)
            upright = UPRIGHT.get(_orientation(picture)) if is_from_file else None
            rgb = picture if picture.mode == "RGB" and not is_from_file else _to_rgb(picture)
    except Exception as error:  # as in open_image
        raise ImageError(f"picture: {_reason(error)}") from None
    return rgb if upright is None else rgb.transpose(upright)


def _image_of_array(pixels: NDArray[Any]) -> Image.Image:
    fits = pixels.size > 0 and (
        pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
    )
    if pixels.dtype != np.uint8 or not fits:
        raise PictureTypeError(
            f"not a picture: an array of {pixels.dtype} {pixels.shape}; expected uint8 of shape "
            "(H, W), (H, W, 3) or (H, W, 4)"
        )
    return Image.fromarray(pixels)
