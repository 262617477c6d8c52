"""Whatever a Python program has for a picture becomes the same upright RGB, or one clear line."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from showtell.errors import ImageError, LargePictureError, PictureTypeError, ShowtellError
from showtell.images.open import as_image, open_image

ORIENTATION_TAG = 0x0112


def photo() -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8))


def file_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_every_way_to_give_a_picture_is_the_same_picture(tmp_path: Path) -> None:
    image, data = photo(), file_of(photo())
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    ways = [path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data), image]
    ways += [np.asarray(image), Image.open(io.BytesIO(data))]
    for way in ways:
        found = as_image(way)
        assert (found.mode, found.tobytes()) == ("RGB", image.tobytes()), type(way)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"]
)
def test_every_mode_is_as_from_a_file(mode: str) -> None:
    """A mode that PNG or TIFF can hold gives what its file gives; others Pillow's conversion."""
    image = (
        photo().convert("RGBA" if mode == "PA" else "RGB").convert("P" if mode == "PA" else mode)
    )
    image = image.convert("PA") if mode == "PA" else image
    if mode in ("LA", "RGBA"):
        image.putalpha(100)
    found = as_image(image)
    assert (found.mode, found.size) == ("RGB", (60, 40))
    try:
        data = file_of(image, "TIFF" if mode in ("CMYK", "YCbCr", "RGBX") else "PNG")
    except OSError:
        assert found == image.convert("RGB")
        return
    np.testing.assert_allclose(np.asarray(found, int), np.asarray(open_image(data), int), atol=1)


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    grey = np.linspace(0, 65535, 60 * 40, dtype=np.uint16).reshape(40, 60)
    found = np.asarray(as_image(Image.fromarray(grey)))
    np.testing.assert_array_equal(found[..., 0], np.rint(grey / 257).astype(np.uint8))


def test_arrays_of_greys_and_with_transparency() -> None:
    grey = np.asarray(photo().convert("L"))
    assert as_image(grey) == Image.fromarray(grey).convert("RGB")
    half = np.zeros((2, 2, 4), np.uint8)
    half[..., 3] = 51  # a fifth of black over white
    assert set(as_image(half).tobytes()) == {204}
    assert as_image(np.asfortranarray(photo())[::-1]).size == (60, 40)


def test_a_picture_from_a_file_is_turned_once() -> None:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    data = file_of(photo(), "JPEG", exif=exif)
    upright = open_image(data)
    assert upright.size == (40, 60)
    assert as_image(Image.open(io.BytesIO(data))) == upright
    assert as_image(upright) == upright
    assert as_image(upright.copy()) == upright


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "^not a picture: NoneType; give a path"),
        (7, "^not a picture: int; give"),
        (["a.jpg"], "^not a picture: list; give"),
        (np.zeros((4, 4, 3)), r"an array of float64 \(4, 4, 3\); expected uint8"),
        (np.zeros((3, 4, 5), np.uint8), r"an array of uint8 \(3, 4, 5\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"an array of uint8 \(2, 4, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), r"an array of uint8 \(0, 4, 3\)"),
        (np.array("a.jpg"), "an array of <U5"),
    ],
)
def test_something_else_is_one_line_and_a_type_error(given: object, said: str) -> None:
    with pytest.raises(PictureTypeError, match=said) as caught:
        as_image(given)  # type: ignore[arg-type]
    assert isinstance(caught.value, TypeError) and isinstance(caught.value, ShowtellError)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_decoded_is_an_image_error() -> None:
    cut = Image.open(io.BytesIO(file_of(photo())[:2000]))
    with pytest.raises(ImageError, match="picture: cannot be decoded"):
        as_image(cut)
    with pytest.raises(ImageError, match="0 x 5 pixels"):
        as_image(Image.new("RGB", (0, 5)))
    with pytest.raises(LargePictureError, match="has 60 x 40 pixels; the limit is 2,000"):
        as_image(photo(), max_pixels=2000)
    with pytest.raises(ImageError, match=r"nothing\.jpg: no such file"):
        as_image("nothing.jpg")
