"""HEIC by pillow-heif: upright RGB, bounded before it is decoded, and no change to Pillow."""

import io
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from images.test_open import BLUE, GREEN, RED, WHITE, corners, encode, quarters
from PIL import Image

from showtell.errors import (
    ImageError,
    LargePictureError,
    MissingExtraError,
    NotAPictureError,
    install_line,
)
from showtell.images import heif
from showtell.images.open import ORIENTATION_TAG, as_image, open_image

pillow_heif = pytest.importorskip("pillow_heif")


def heic(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, quality=95, **options)
    return file.getvalue()


def test_a_picture_and_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "photo.HEIC"
    path.write_bytes(heic(quarters()))
    for source in (path, path.read_bytes(), io.BytesIO(path.read_bytes())):
        image = as_image(source)
        assert type(image) is Image.Image
        assert (image.mode, image.size) == ("RGB", (64, 48))
        assert corners(image) == [RED, GREEN, BLUE, WHITE]
        assert not image.info  # nothing that keeps the file in memory
    assert corners(open_image(path, min_side=8)) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize(("orientation", "size"), [(1, (64, 48)), (3, (64, 48)), (6, (48, 64))])
def test_a_turned_picture_is_turned_once(orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    image, file = quarters(), io.BytesIO()
    by_jpeg = open_image(encode(image, "JPEG", quality=95, exif=exif))
    pillow_heif.encode(
        image.mode, image.size, image.tobytes(), file, quality=95, exif=exif.tobytes()
    )
    found = open_image(file)
    assert found.size == by_jpeg.size == size
    assert corners(found) == corners(by_jpeg)


def test_transparency_greys_and_more_bits() -> None:
    clear = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    assert min(open_image(heic(clear)).getpixel((32, 32))) > 250
    grey = open_image(heic(Image.new("L", (64, 64), 100)))
    assert grey.mode == "RGB"
    assert abs(grey.getpixel((9, 9))[0] - 100) <= 3
    deep = Image.new("I;16", (64, 64), 50 * 257)
    assert abs(open_image(heic(deep)).getpixel((9, 9))[0] - 50) <= 3


def test_of_several_pictures_the_main_one() -> None:
    file = pillow_heif.HeifFile()
    for colour in (RED, GREEN, BLUE):
        file.add_from_pillow(Image.new("RGB", (64, 64), colour))
    written = io.BytesIO()
    file.save(written, primary_index=1, quality=95)
    assert open_image(written.getvalue()).getpixel((9, 9))[1] > 200


def patched(data: bytes, kind: bytes, format: str, *values: int) -> bytes:
    """Other values behind each box of this kind."""
    content, at = bytearray(data), data.find(kind)
    assert at > 0
    while at >= 0:
        struct.pack_into(format, content, at + 4, *values)
        at = data.find(kind, at + 1)
    return bytes(content)


def test_too_many_pixels_are_refused_before_they_are_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(self: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(pillow_heif.HeifImageFile, "load", fail)
    lying = patched(heic(quarters()), b"ispe", ">xxxxII", 40_000, 40_000)
    with pytest.raises(LargePictureError, match=r"^picture: has 40000 x 40000 pixels; the limit"):
        open_image(lying)
    odd = heic(Image.new("RGB", (301, 301), "red"))  # of 302 x 302, of which it shows a part
    cut = patched(odd, b"clap", ">8i", 16, 1, 16, 1, 0, 1, 0, 1)
    assert pillow_heif.open_heif(cut).size == (16, 16)
    tiles = heic(Image.new("RGB", (512, 512), "red"), tile_size=128)
    for data, side in ((cut, 302), (tiles, 512)):
        with pytest.raises(LargePictureError, match=rf"has {side} x {side} pixels"):
            open_image(data, max_pixels=90_000)


def test_work_that_is_repeated_is_refused() -> None:
    """A large tile in each place of a grid, or an image drawn over itself."""
    tiles = heic(Image.new("RGB", (1024, 1024), "red"), tile_size=256)
    size = b"ispe" + struct.pack(">III", 0, 1024, 1024)
    small = tiles.replace(size, b"ispe" + struct.pack(">III", 0, 300, 300))
    small = patched(small, b"idat", ">4BHH", 0, 0, 3, 3, 300, 300)  # 4 x 4 tiles
    assert open_image(small).size == (300, 300)
    with pytest.raises(LargePictureError, match="has tiles of 1024 x 1024 pixels; the limit is 9"):
        open_image(small, max_pixels=900_000)
    with pytest.raises(ImageError, match=r"^picture: is made of images that overlap"):
        open_image(tiles.replace(b"grid", b"iovl"))


def test_a_picture_larger_than_it_says_is_refused() -> None:
    """By libheif itself; it counts from 256 x 256 pixels up."""
    data = patched(heic(Image.new("RGB", (800, 800), "red")), b"ispe", ">xxxxII", 64, 64)
    with pytest.raises(ImageError, match=r"cannot be decoded: .*800x800 exceeds"):
        open_image(data)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damage_anywhere_is_one_line_or_a_picture(data: st.DataObject) -> None:
    content = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(1, len(content)))]
    try:
        image = open_image(bytes(content), max_pixels=1_000_000)
    except ImageError as error:
        assert "\n" not in str(error)
    else:
        assert image.mode == "RGB"


SMALL = heic(quarters())


@pytest.mark.usefixtures("without_heif")
def test_without_the_extra_the_line_says_what_to_install(tmp_path: Path) -> None:
    path = tmp_path / "photo.heic"
    path.write_bytes(SMALL)
    with pytest.raises(NotAPictureError) as caught:
        open_image(path)
    assert isinstance(caught.value, MissingExtraError)
    line = install_line("heif")
    assert str(caught.value) == f"{path}: is HEIC, and reading it needs an extra: {line}"
    path.write_bytes(encode(quarters(), "JPEG", quality=95))  # whatever its name says
    assert corners(open_image(path)) == [RED, GREEN, BLUE, WHITE]


def test_which_files_are_taken_for_heic() -> None:
    def head(*brands: bytes) -> bytes:
        listed = brands[0] + bytes(4) + b"".join(brands[1:])
        return struct.pack(">I", 8 + len(listed)) + b"ftyp" + listed + b"heic"

    assert heif.is_heif(SMALL[: heif.HEAD])
    assert heif.is_heif(head(b"mif1", b"heic", b"miaf"))
    assert heif.is_heif(head(b"MiHB", b"heix"))
    assert not heif.is_heif(head(b"avif", b"mif1", b"miaf"))
    assert not heif.is_heif(head(b"mif1", b"avif", b"miaf"))
    assert not heif.is_heif(head(b"isom", b"mp42"))  # the brand after the box is none of it
    assert not heif.is_heif(b"")
    assert corners(open_image(encode(quarters(), "AVIF", quality=95))) == [RED, GREEN, BLUE, WHITE]


def test_pillow_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "photo.heic"
    path.write_bytes(SMALL)
    code = (
        "import sys, showtell, showtell.images.open, showtell.inference.captioner\n"
        "assert 'pillow_heif' not in sys.modules\n"
        "from PIL import Image\n"
        "showtell.open_image(sys.argv[1])\n"
        "assert 'pillow_heif' in sys.modules\n"
        "Image.init()\n"
        "assert 'HEIF' not in Image.OPEN and '.heic' not in Image.EXTENSION\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
