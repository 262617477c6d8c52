"""Colours of more than 8 bits; ``test_open.py`` has what a person meets of them."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from showtell.errors import ImageError
from showtell.images.open import notes_of, open_image


def in_planes(bits: int, order: str) -> bytes:
    """An uncompressed TIFF of 4 x 4 pixels whose red, green and blue lie one after the other."""
    size = 16 * bits // 8
    lists = 8 + 2 + 11 * 12 + 4  # after the directory: bits, places and sizes of the planes
    pixels = lists + 6 + 12 + 12
    entries = [
        *((256, 3, 1, 4), (257, 3, 1, 4), (258, 3, 3, lists), (259, 3, 1, 1), (262, 3, 1, 2)),
        *((273, 4, 3, lists + 6), (277, 3, 1, 3), (278, 3, 1, 4), (279, 4, 3, lists + 18)),
        *((284, 3, 1, 2), (339, 3, 1, 1)),
    ]
    content = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    for tag, kind, num, value in entries:
        letter = "I" if kind == 4 or num > 1 else "H"
        content += struct.pack(f"{order}HHI{letter}", tag, kind, num, value).ljust(12, b"\0")
    content += struct.pack(f"{order}I3H", 0, bits, bits, bits)
    content += struct.pack(f"{order}6I", *(pixels + size * n for n in range(3)), *[size] * 3)
    planes = np.full((3, 16), [[200], [100], [50]]) * (257 if bits == 16 else 1)
    return content + planes.astype(f"{order}u{bits // 8}").tobytes()


@pytest.mark.parametrize("order", ["<", ">"])
def test_colours_in_planes_of_their_own(order: str) -> None:
    """Pillow takes such 16-bit values for 8-bit ones."""
    read = np.asarray(open_image(in_planes(8, order)))
    assert (read == [200, 100, 50]).all()
    with pytest.raises(ImageError, match=r"16-bit colours lie in a plane each.* save it with"):
        open_image(in_planes(16, order))


def png(values: list[int], kind: int) -> bytes:
    """A PNG of 16 bits and 4 x 4 pixels of these values; ``kind``: 2 RGB, 4 LA, 6 RGBA."""

    def chunk(name: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + crc

    row = b"\0" + struct.pack(f">{4 * len(values)}H", *(4 * values))
    head = struct.pack(">IIBBBBB", 4, 4, 16, kind, 0, 0, 0)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(4 * row)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("alpha", [4095, 65535])
@pytest.mark.parametrize(
    ("colours", "kind", "expected"), [((4080, 1600, 803), 6, (254, 100, 50)), ((4080,), 4, 254)]
)
def test_twelve_bits_with_alpha_are_scaled(
    colours: tuple[int, ...], kind: int, expected: object, alpha: int
) -> None:
    image = open_image(png([*colours, alpha], kind))
    assert (np.asarray(image) == expected).all()
    assert notes_of(image) == ("its brightest value is 4080: read as 12 bits of a larger file",)


def test_half_transparent_twelve_bits_lie_over_white() -> None:
    read = np.asarray(open_image(png([0, 4080, 0, 65535 // 2], 6)))
    assert np.abs(read.astype(int) - [128, 254, 128]).max() <= 1


@pytest.mark.parametrize("kind", [2, 6])
def test_a_dark_picture_of_8_bits_in_16_stays_dark(kind: int) -> None:
    """Each of its bytes is there twice, as programs write that know 16 bits alone."""
    values = [20 * 257, 10 * 257, 5 * 257, 65535]
    image = open_image(png(values[: 3 if kind == 2 else 4], kind))
    assert (np.asarray(image) == [20, 10, 5]).all()
    assert notes_of(image) == ()


def test_a_tiff_of_twelve_bits_with_alpha_is_scaled() -> None:
    """Pillow cannot write one, so its 8-bit TIFF gets other tags and pixels."""
    file = io.BytesIO()
    Image.new("RGBA", (8, 4), (1, 2, 3, 4)).save(file, "TIFF")
    with Image.open(file) as image:
        strips = image.tag_v2[273]  # type: ignore[attr-defined]
    assert len(strips) == 1
    data = bytearray(file.getvalue())
    place = struct.unpack_from("<I", data, data.index(struct.pack("<HHI", 258, 3, 4)) + 8)[0]
    data[place : place + 8] = struct.pack("<4H", 16, 16, 16, 16)
    width = data.index(struct.pack("<HHII", 256, 4, 1, 8)) + 8
    data[width : width + 4] = struct.pack("<I", 4)
    pixels = struct.pack("<4H", 4080, 1600, 803, 65535) * 16
    data[strips[0] : strips[0] + len(pixels)] = pixels
    image = open_image(bytes(data))
    assert (np.asarray(image) == [254, 100, 50]).all()
