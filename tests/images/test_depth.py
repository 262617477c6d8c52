"""Colours of more than 8 bits; ``test_open.py`` has what a person meets of them."""

import struct

import numpy as np
import pytest

from showtell.errors import ImageError
from showtell.images.open import open_image


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
