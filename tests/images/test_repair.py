"""Files whose pixels are sound, or deeper than 8 bits: the right pixels, and a note."""

import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_shell import Shell
from numpy.typing import NDArray
from PIL import Image, ImageFile, PngImagePlugin

from showtell.errors import ImageError, LargePictureError
from showtell.images.open import notes_of, open_image

RAMP = np.arange(256, dtype=np.float64)[None, :].repeat(4, axis=0)  # 4 x 256: 0 to 255


def tiff(values: NDArray[Any], *, photometric: int | None = None, **tags: list[int]) -> bytes:
    """An uncompressed TIFF of one strip, (H, W) or (H, W, 3), in the byte order of ``values``."""
    order = ">" if values.dtype.byteorder == ">" else "<"
    samples = values.shape[2] if values.ndim == 3 else 1
    if photometric is None:
        photometric = 2 if samples >= 3 else 1
    format = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    fields: dict[int, list[int]] = {
        256: [values.shape[1]],
        257: [values.shape[0]],
        258: [8 * values.dtype.itemsize] * samples,
        259: [1],
        262: [photometric],
        273: [8],
        277: [samples],
        278: [values.shape[0]],
        279: [values.nbytes],
        339: [format] * samples,
    } | {int(name.removeprefix("tag_")): numbers for name, numbers in tags.items()}
    pixels = values.tobytes()
    extra_at = 8 + len(pixels) + 2 + 12 * len(fields) + 4
    extra, entries = b"", b""
    for tag in sorted(fields):
        numbers = fields[tag]
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(packed) > 4:
            packed, extra = struct.pack(f"{order}I", extra_at + len(extra)), extra + packed
        entries += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + packed
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(f"{order}I", 8 + len(pixels))
    return head + pixels + struct.pack(f"{order}H", len(fields)) + entries + bytes(4) + extra


def png(values: NDArray[Any], *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of 16 bits a colour, with more chunks before its pixels."""
    height, width = values.shape[:2]
    colour_type = 2 if values.ndim == 3 else 0
    header = struct.pack(">2I5B", width, height, 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def chunk(kind: bytes, content: bytes, *, is_damaged: bool = False) -> bytes:
    check = zlib.crc32(kind + content) ^ is_damaged
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def first_row(data: bytes) -> NDArray[np.int64]:
    return np.asarray(open_image(data))[0].astype(np.int64)


def is_the_ramp(row: NDArray[np.int64], most: int = 1) -> bool:
    return bool(np.abs(row - np.arange(256)[:, None]).max() <= most)


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_white_as_zero_is_no_negative(dtype: str) -> None:
    values = np.rint(RAMP * 257).astype(dtype)
    assert is_the_ramp(first_row(tiff(values)))
    assert is_the_ramp(first_row(tiff(65535 - values, photometric=0)))


def test_white_as_zero_in_floats_and_32_bits() -> None:
    values = (1 - RAMP / 255).astype("<f4")
    assert is_the_ramp(first_row(tiff(values, photometric=0)))


def test_white_as_zero_of_8_bits() -> None:
    assert is_the_ramp(first_row(tiff((255 - RAMP).astype("u1"), photometric=0)))


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("make", [tiff, png])
def test_few_bits_in_a_file_of_sixteen(bits: int, samples: int, make: Any) -> None:
    values = np.rint(RAMP * ((2**bits - 1) / 255)).astype("<u2")
    values = values if samples == 1 else values[:, :, None].repeat(3, axis=2)
    image = open_image(make(values))
    assert is_the_ramp(np.asarray(image)[0].astype(np.int64))
    assert notes_of(image) == (
        f"its brightest value is {2**bits - 1}: read as {bits} bits of a larger file",
    )


def test_the_declared_white_is_taken() -> None:
    values = np.rint(RAMP * 10).astype("<u2")  # 2,550 would pass for 12 bits
    image = open_image(tiff(values, tag_281=[2550]))
    assert is_the_ramp(np.asarray(image)[0].astype(np.int64))
    assert notes_of(image) == ()
    shifted = tiff((values + 100).astype("<u2"), tag_340=[100], tag_341=[2650])
    assert is_the_ramp(first_row(shifted))


def test_sixteen_full_bits_have_no_note() -> None:
    for values in (RAMP * 257, (RAMP * 257)[:, :, None].repeat(3, axis=2)):
        for make in (tiff, png):
            image = open_image(make(values.astype("<u2")))
            assert is_the_ramp(np.asarray(image)[0].astype(np.int64))
            assert notes_of(image) == ()


@pytest.mark.parametrize("dtype", ["<f4", ">f4"])
@pytest.mark.parametrize("white", [1.0, 255.0])
def test_colours_in_floats(dtype: str, white: float) -> None:
    colours = np.stack([RAMP, 255 - RAMP, np.full_like(RAMP, 51)], axis=2) * (white / 255)
    row = first_row(tiff(colours.astype(dtype)))
    assert np.abs(row[:, 0] - np.arange(256)).max() <= 1
    assert np.abs(row[:, 1] - np.arange(255, -1, -1)).max() <= 1
    assert (row[:, 2] == 51).all()


def test_a_few_bright_spots_do_not_darken_floats() -> None:
    greys = (RAMP / 255).astype("<f4")
    greys[0, :3] = 40.0
    assert is_the_ramp(np.asarray(open_image(tiff(greys)))[1].astype(np.int64))


def test_colours_in_floats_keep_to_the_limit_of_pixels() -> None:
    data = tiff(np.zeros((4, 256, 3), "<f4"))
    with pytest.raises(LargePictureError, match=r"256 x 4 pixels; the limit is 1,000"):
        open_image(data, max_pixels=1000)
    with pytest.raises(ImageError):
        open_image(data[:200] + data[3000:])


def cmyk_jpeg() -> bytes:
    """Pure cyan, as Pillow writes it: inks upside down, with Adobe's marker."""
    buffer = io.BytesIO()
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def test_cmyk_with_and_without_adobes_marker() -> None:
    data = cmyk_jpeg()
    red, green, blue = open_image(data).getpixel((8, 8))  # type: ignore[misc]
    assert (red < 10, green > 245, blue > 245) == (True, True, True)
    at = data.index(b"\xff\xee")
    (length,) = struct.unpack_from(">H", data, at + 2)
    assert data[at + 4 : at + 9] == b"Adobe"
    # The same bytes without the marker are the inks as they are: all but cyan.
    bare = data[:at] + data[at + 2 + length :]
    red, green, blue = open_image(bare).getpixel((8, 8))  # type: ignore[misc]
    assert max(red, green, blue) < 10  # magenta, yellow and black in full


TEXTS = {
    "text": (b"zTXt", b"workflow\0\0" + zlib.compress(b"{}" * 2_000_000)),
    "international text": (
        b"iTXt",
        b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b" " * 3_000_000),
    ),
    "profile": (b"iCCP", b"icc\0\0" + zlib.compress(bytes(3_000_000))),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_a_png_with_much_text(kind: str) -> None:
    values = np.rint(RAMP * 257).astype("<u2")
    image = open_image(png(values, TEXTS[kind]))
    assert is_the_ramp(np.asarray(image)[0].astype(np.int64))
    [note] = notes_of(image)
    assert TEXTS[kind][0].decode() in note


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_png_with_a_damaged_text(place: str) -> None:
    data = png(np.rint(RAMP * 257).astype("<u2"))
    at = data.index(b"IDAT" if place == "before" else b"IEND") - 4
    image = open_image(data[:at] + chunk(b"tEXt", b"a\0b", is_damaged=True) + data[at:])
    assert is_the_ramp(np.asarray(image)[0].astype(np.int64))


def test_a_png_without_its_end_is_read_and_one_without_pixels_is_not() -> None:
    data = png(np.rint(RAMP * 257).astype("<u2"), TEXTS["text"])
    assert is_the_ramp(first_row(data[:-12]))
    for cut in (13, 40, 100):
        with pytest.raises(ImageError):
            open_image(data[:-cut])
    at = data.index(b"IDAT") + 20
    with pytest.raises(ImageError):
        open_image(data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :])


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("lacks", [1, 2])
def test_a_jpeg_without_its_end_marker(lacks: int, progressive: bool) -> None:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90, progressive=progressive)
    data = buffer.getvalue()
    image = open_image(data[:-lacks])
    assert (np.asarray(image) == np.asarray(open_image(data))).all()
    assert notes_of(image) == ("read although its end marker is missing; all pixels are there",)
    for cut in (8, 40, 400):
        with pytest.raises(ImageError, match="truncated"):
            open_image(data[:-cut])


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "jpeg"])
@pytest.mark.parametrize("damage", ["none", "cut", "place"])
def test_of_a_tiff_the_first_page_is_read(compression: str, damage: str) -> None:
    pages = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    options = {"save_all": True, "append_images": pages[1:], "compression": compression}
    pages[0].save(buffer, "TIFF", **options)
    data = buffer.getvalue()
    (directory,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, directory)
    place = directory + 2 + 12 * entries
    (second,) = struct.unpack_from("<I", data, place)
    if damage == "cut":
        data = data[: second + 10]
    elif damage == "place":
        data = data[:place] + struct.pack("<I", 2**31) + data[place + 4 :]
    image = open_image(data)
    assert np.abs(np.array(image.getpixel((8, 8))) - (255, 0, 0)).max() < 8
    assert len(notes_of(image)) == 1
    assert "has more than one page: the first is read" in notes_of(image)[0]


def test_a_sound_picture_has_no_notes_and_a_file_writes_none() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("showtell_notes", "mine")
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=info)
    assert notes_of(open_image(buffer.getvalue())) == ()


def test_nothing_of_the_process_is_changed() -> None:
    limits = [(ImageFile, "LOAD_TRUNCATED_IMAGES"), (PngImagePlugin, "MAX_TEXT_CHUNK")]
    limits += [(PngImagePlugin, "MAX_TEXT_MEMORY"), (Image, "MAX_IMAGE_PIXELS")]
    before = [getattr(module, name) for module, name in limits]
    open_image(png(np.rint(RAMP * 257).astype("<u2"), TEXTS["text"]))
    assert [getattr(module, name) for module, name in limits] == before


def test_images_imports_no_torch() -> None:
    code = (
        "import pkgutil, importlib, sys, showtell.images as images\n"
        "names = [m.name for m in pkgutil.iter_modules(images.__path__)]\n"
        "for name in names: importlib.import_module(f'showtell.images.{name}')\n"
        "print('open' in names, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_a_note_is_shown_and_kept(tmp_path: Path) -> None:
    values = np.rint(RAMP * 257).astype("<u2").repeat(60, axis=0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture = folder / "profile.png"
    picture.write_bytes(png(values, TEXTS["profile"]))
    picture.with_suffix(".txt").write_text("a grey ramp")
    showtell = Shell(tmp_path / "cache")
    found = showtell("caption", picture)
    assert found.returncode == 0
    assert found.stderr.startswith(f"note: {picture}: read without its texts")
    found = showtell("caption", picture, "--format", "jsonl")
    assert json.loads(found.stdout)["notes"][0].startswith("read without its texts")
    found = showtell("data", "inspect", folder)
    assert "picture read with a note" in found.stdout
