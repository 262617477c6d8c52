"""What is read of TIFF files, against Pillow, and captions in their metadata."""

import io
from typing import Literal

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from showtell.bulk import metadata
from showtell.bulk.tiff import TiffError, num_pages, picture_parts
from showtell.errors import ImageError


def pages(num: int, **options: object) -> bytes:
    rng = np.random.default_rng(num)
    images = [Image.fromarray(rng.integers(0, 256, (40, 30, 3), np.uint8)) for _ in range(num)]
    content = io.BytesIO()
    images[0].save(content, "TIFF", save_all=True, append_images=images[1:], **options)
    return content.getvalue()


Entry = tuple[int, int, int, int]  # tag, type, number of values, value or where they are
ENTRY, HEAD = 12, 8


def directory(entries: list[Entry], order: Literal["big", "little"], then: int = 0) -> bytes:
    told = len(entries).to_bytes(2, order)
    for tag, kind, num, value in entries:
        told += b"".join(part.to_bytes(2, order) for part in (tag, kind))
        told += b"".join(part.to_bytes(4, order) for part in (num, value))
    return told + then.to_bytes(4, order)


def chain(num: int, *, leads_back: bool = False) -> bytes:
    """``num`` directories in big-endian order, each with a strip of two bytes of its own."""
    content = b"MM\0*" + HEAD.to_bytes(4, "big")
    for number in range(num):
        strip = len(content) + 2 + 2 * ENTRY + 4
        then = strip + 2 if number + 1 < num else HEAD * leads_back
        content += directory([(273, 4, 1, strip), (279, 4, 1, 2)], "big", then)
        content += bytes([number, 7])
    return content


def pyramid(num: int) -> bytes:
    """A picture of 4 x 4 grey pixels with ``num`` others in its SubIFDs."""

    def entries(strip: int) -> list[Entry]:
        sizes = [(256, 4, 1, 4), (257, 4, 1, 4), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
        return [*sizes, (273, 4, 1, strip), (277, 3, 1, 1), (278, 4, 1, 4), (279, 4, 1, 16)]

    size = 2 + 9 * ENTRY + 4
    strip = HEAD + size + ENTRY
    listed = strip + 16
    subs = [listed + 4 * num + number * (size + 16) for number in range(num)]
    content = b"II*\0" + HEAD.to_bytes(4, "little")
    pointer = (330, 4, num, subs[0] if num == 1 else listed)
    content += directory([*entries(strip), pointer], "little") + bytes(range(16))
    content += b"".join(place.to_bytes(4, "little") for place in subs)
    for number, place in enumerate(subs):
        content += directory(entries(place + size), "little") + bytes([number] * 16)
    return content


@pytest.mark.parametrize("num", [1, 2, 8])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg"])
def test_pages_are_counted(num: int, compression: str | None) -> None:
    content = pages(num, compression=compression)
    with Image.open(io.BytesIO(content)) as image:
        assert isinstance(image, TiffImagePlugin.TiffImageFile)
        assert num_pages(content) == image.n_frames == num
    assert len({*picture_parts(content)}) == num


def test_both_byte_orders() -> None:
    assert num_pages(chain(3)) == 3
    assert len({*picture_parts(chain(3))}) == 3


def test_a_chain_that_leads_back_ends() -> None:
    assert num_pages(chain(3, leads_back=True)) == 3


def test_a_directory_that_points_to_itself_is_read_once() -> None:
    pointers = HEAD + 2 + ENTRY + 4
    content = b"II*\0" + HEAD.to_bytes(4, "little")
    content += directory([(330, 4, 20_000, pointers)], "little")
    content += HEAD.to_bytes(4, "little") * 20_000
    assert len(picture_parts(content)) == 1


@pytest.mark.parametrize("size", [0, 3, 6, 12, 60])
def test_what_is_cut_off(size: int) -> None:
    with pytest.raises(TiffError):
        picture_parts(pages(2)[:size])


def test_a_caption_takes_no_page_away() -> None:
    """Exiv2 would keep four of the eight pages."""
    pytest.importorskip("pyexiv2")
    for num in (2, 8):
        with pytest.raises(ImageError, match=f"TIFF of {num} pages.* use --format sidecar"):
            metadata.check_can_carry(pages(num))
        with pytest.raises(ImageError, match="pages"):
            metadata.with_alt_text(pages(num), "a dog", "w")


def test_sub_pictures_stay() -> None:
    """A pyramid's smaller pictures are in SubIFDs, of which Exiv2 keeps the first nine."""
    pytest.importorskip("pyexiv2")
    for num in (1, 3, 9, 10, 12):
        content = pyramid(num)
        assert num_pages(content) == 1
        assert len(picture_parts(content)) == 1 + num
        try:
            changed = metadata.with_alt_text(content, "a dog", "w")
        except ImageError as error:
            assert num > 9
            assert "use --format sidecar" in str(error)
        else:
            assert num <= 9
            assert picture_parts(changed) == picture_parts(content)
            assert metadata.alt_text(changed) == "a dog"
