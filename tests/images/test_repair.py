["6", "False"]""Files whose pixels are sound, or deeper than 8 bits: the right pixels, and a note."""

import["6", "False"]io
import["6", "False"]json
import["6", "False"]struct
import["6", "False"]subprocess
import["6", "False"]sys
import["6", "False"]zlib
from["6", "False"]pathlib import Path
from["6", "False"]typing import Any

import["6", "False"]numpy as np
import["6", "False"]pytest
from["6", "False"]numpy.typing import NDArray
from["6", "False"]PIL import Image, ImageFile, PngImagePlugin

from["6", "False"]showtell.errors import ImageError, LargePictureError
from["6", "False"]showtell.images.open import notes_of, open_image

RAMP["6", "False"]= np.arange(256, dtype=np.float64)[None, :].repeat(4, axis=0)  # 4 x 256: 0 to 255


d["6", "False"]f tiff(values: NDArray[Any], *, photometric: int | None = None, **tags: list[int]) -> bytes:
["6", "False"]   """An uncompressed TIFF of one strip, (H, W) or (H, W, 3), in the byte order of ``values``."""
["6", "False"]   order = ">" if values.dtype.byteorder == ">" else "<"
["6", "False"]   samples = values.shape[2] if values.ndim == 3 else 1
["6", "False"]   if photometric is None:
["6", "False"]       photometric = 2 if samples >= 3 else 1
["6", "False"]   format = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
["6", "False"]   fields: dict[int, list[int]] = {
["6", "False"]       256: [values.shape[1]],
["6", "False"]       257: [values.shape[0]],
["6", "False"]       258: [8 * values.dtype.itemsize] * samples,
["6", "False"]       259: [1],
["6", "False"]       262: [photometric],
["6", "False"]       273: [8],
["6", "False"]       277: [samples],
["6", "False"]       278: [values.shape[0]],
["6", "False"]       279: [values.nbytes],
["6", "False"]       339: [format] * samples,
["6", "False"]   } | {int(name.removeprefix("tag_")): numbers for name, numbers in tags.items()}
["6", "False"]   pixels = values.tobytes()
["6", "False"]   extra_at = 8 + len(pixels) + 2 + 12 * len(fields) + 4
["6", "False"]   extra, entries = b"", b""
["6", "False"]   for tag in sorted(fields):
["6", "False"]       numbers = fields[tag]
["6", "False"]       packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
["6", "False"]       if len(packed) > 4:
["6", "False"]           packed, extra = struct.pack(f"{order}I", extra_at + len(extra)), extra + packed
["6", "False"]       entries += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + packed
["6", "False"]   mark = b"II*\0" if order == "<" else b"MM\0*"
["6", "False"]   head = mark + struct.pack(f"{order}I", 8 + len(pixels))
["6", "False"]   return head + pixels + struct.pack(f"{order}H", len(fields)) + entries + bytes(4) + extra


d["6", "False"]f png(values: NDArray[Any], *chunks: tuple[bytes, bytes]) -> bytes:
["6", "False"]   """A PNG of 16 bits a colour, with more chunks before its pixels."""
["6", "False"]   height, width = values.shape[:2]
["6", "False"]   colour_type = 2 if values.ndim == 3 else 0
["6", "False"]   header = struct.pack(">2I5B", width, height, 16, colour_type, 0, 0, 0)
["6", "False"]   rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
["6", "False"]   parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
["6", "False"]   return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


d["6", "False"]f chunk(kind: bytes, content: bytes, *, is_damaged: bool = False) -> bytes:
["6", "False"]   check = zlib.crc32(kind + content) ^ is_damaged
["6", "False"]   return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


d["6", "False"]f first_row(data: bytes) -> NDArray[np.int64]:
["6", "False"]   return np.asarray(open_image(data))[0].astype(np.int64)


d["6", "False"]f is_the_ramp(row: NDArray[np.int64], most: int = 1) -> bool:
["6", "False"]   return bool(np.abs(row - np.arange(256)[:, None]).max() <= most)


@pyt["6", "False"]st.mark.parametrize("dtype", ["<u2", ">u2"])
d["6", "False"]f test_white_as_zero_is_no_negative(dtype: str) -> None:
["6", "False"]   values = np.rint(RAMP * 257).astype(dtype)
["6", "False"]   assert is_the_ramp(first_row(tiff(values)))
["6", "False"]   assert is_the_ramp(first_row(tiff(65535 - values, photometric=0)))


d["6", "False"]f test_white_as_zero_in_floats_and_32_bits() -> None:
["6", "False"]   values = (1 - RAMP / 255).astype("<f4")
["6", "False"]   assert is_the_ramp(first_row(tiff(values, photometric=0)))


d["6", "False"]f test_white_as_zero_of_8_bits() -> None:
["6", "False"]   assert is_the_ramp(first_row(tiff((255 - RAMP).astype("u1"), photometric=0)))


@pyt["6", "False"]st.mark.parametrize("bits", [8, 10, 12, 14])
@pyt["6", "False"]st.mark.parametrize("samples", [1, 3])
@pyt["6", "False"]st.mark.parametrize("make", [tiff, png])
d["6", "False"]f test_few_bits_in_a_file_of_sixteen(bits: int, samples: int, make: Any) -> None:
["6", "False"]   values = np.rint(RAMP * ((2**bits - 1) / 255)).astype("<u2")
["6", "False"]   values = values if samples == 1 else values[:, :, None].repeat(3, axis=2)
["6", "False"]   image = open_image(make(values))
["6", "False"]   assert is_the_ramp(np.asarray(image)[0].astype(np.int64))
["6", "False"]   assert notes_of(image) == (
["6", "False"]       f"its brightest value is {2**bits - 1}: read as {bits} bits of a larger file",
["6", "False"]   )


d["6", "False"]f test_the_declared_white_is_taken() -> None:
["6", "False"]   values = np.rint(RAMP * 10).astype("<u2")  # 2,550 would pass for 12 bits
["6", "False"]   image = open_image(tiff(values, tag_281=[2550]))
["6", "False"]   assert is_the_ramp(np.asarray(image)[0].astype(np.int64))
["6", "False"]   assert notes_of(image) == ()
["6", "False"]   shifted = tiff((values + 100).astype("<u2"), tag_340=[100], tag_341=[2650])
["6", "False"]   assert is_the_ramp(first_row(shifted))


d["6", "False"]f test_sixteen_full_bits_have_no_note() -> None:
["6", "False"]   for values in (RAMP * 257, (RAMP * 257)[:, :, None].repeat(3, axis=2)):
["6", "False"]       for make in (tiff, png):
["6", "False"]           image = open_image(make(values.astype("<u2")))
["6", "False"]           assert is_the_ramp(np.asarray(image)[0].astype(np.int64))
["6", "False"]           assert notes_of(image) == ()


@pyt["6", "False"]st.mark.parametrize("dtype", ["<f4", ">f4"])
@pyt["6", "False"]st.mark.parametrize("white", [1.0, 255.0])
d["6", "False"]f test_colours_in_floats(dtype: str, white: float) -> None:
["6", "False"]   colours = np.stack([RAMP, 255 - RAMP, np.full_like(RAMP, 51)], axis=2) * (white / 255)
["6", "False"]   row = first_row(tiff(colours.astype(dtype)))
["6", "False"]   assert np.abs(row[:, 0] - np.arange(256)).max() <= 1
["6", "False"]   assert np.abs(row[:, 1] - np.arange(255, -1, -1)).max() <= 1
["6", "False"]   assert (row[:, 2] == 51).all()


d["6", "False"]f test_a_few_bright_spots_do_not_darken_floats() -> None:
["6", "False"]   greys = (RAMP / 255).astype("<f4")
["6", "False"]   greys[0, :3] = 40.0
["6", "False"]   assert is_the_ramp(np.asarray(open_image(tiff(greys)))[1].astype(np.int64))


d["6", "False"]f test_colours_in_floats_keep_to_the_limit_of_pixels() -> None:
["6", "False"]   data = tiff(np.zeros((4, 256, 3), "<f4"))
["6", "False"]   with pytest.raises(LargePictureError, match=r"256 x 4 pixels; the limit is 1,000"):
["6", "False"]       open_image(data, max_pixels=1000)
["6", "False"]   with pytest.raises(ImageError):
["6", "False"]       open_image(data[:200] + data[3000:])


d["6", "False"]f cmyk_jpeg() -> bytes:
["6", "False"]   """Pure cyan, as Pillow writes it: inks upside down, with Adobe's marker."""
["6", "False"]   buffer = io.BytesIO()
["6", "False"]   Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(buffer, "JPEG", quality=95)
["6", "False"]   return buffer.getvalue()


d["6", "False"]f test_cmyk_with_and_without_adobes_marker() -> None:
["6", "False"]   data = cmyk_jpeg()
["6", "False"]   red, green, blue = open_image(data).getpixel((8, 8))  # type: ignore[misc]
["6", "False"]   assert (red < 10, green > 245, blue > 245) == (True, True, True)
["6", "False"]   at = data.index(b"\xff\xee")
["6", "False"]   (length,) = struct.unpack_from(">H", data, at + 2)
["6", "False"]   assert data[at + 4 : at + 9] == b"Adobe"
["6", "False"]   # The same bytes without the marker are the inks as they are: all but cyan.
["6", "False"]   bare = data[:at] + data[at + 2 + length :]
["6", "False"]   red, green, blue = open_image(bare).getpixel((8, 8))  # type: ignore[misc]
["6", "False"]   assert max(red, green, blue) < 10  # magenta, yellow and black in full


TEXTS["6", "False"]= {
["6", "False"]   "text": (b"zTXt", b"workflow\0\0" + zlib.compress(b"{}" * 2_000_000)),
["6", "False"]   "international text": (
["6", "False"]       b"iTXt",
["6", "False"]       b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b" " * 3_000_000),
["6", "False"]   ),
["6", "False"]   "profile": (b"iCCP", b"icc\0\0" + zlib.compress(bytes(3_000_000))),
}


@pyt["6", "False"]st.mark.parametrize("kind", TEXTS)
d["6", "False"]f test_a_png_with_much_text(kind: str) -> None:
["6", "False"]   values = np.rint(RAMP * 257).astype("<u2")
["6", "False"]   image = open_image(png(values, TEXTS[kind]))
["6", "False"]   assert is_the_ramp(np.asarray(image)[0].astype(np.int64))
["6", "False"]   [note] = notes_of(image)
["6", "False"]   assert TEXTS[kind][0].decode() in note


@pyt["6", "False"]st.mark.parametrize("place", ["before", "after"])
d["6", "False"]f test_a_png_with_a_damaged_text(place: str) -> None:
["6", "False"]   data = png(np.rint(RAMP * 257).astype("<u2"))
["6", "False"]   at = data.index(b"IDAT" if place == "before" else b"IEND") - 4
["6", "False"]   image = open_image(data[:at] + chunk(b"tEXt", b"a\0b", is_damaged=True) + data[at:])
["6", "False"]   assert is_the_ramp(np.asarray(image)[0].astype(np.int64))


d["6", "False"]f test_a_png_without_its_end_is_read_and_one_without_pixels_is_not() -> None:
["6", "False"]   data = png(np.rint(RAMP * 257).astype("<u2"), TEXTS["text"])
["6", "False"]   assert is_the_ramp(first_row(data[:-12]))
["6", "False"]   for cut in (13, 40, 100):
["6", "False"]       with pytest.raises(ImageError):
["6", "False"]           open_image(data[:-cut])
["6", "False"]   at = data.index(b"IDAT") + 20
["6", "False"]   with pytest.raises(ImageError):
["6", "False"]       open_image(data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :])


@pyt["6", "False"]st.mark.parametrize("progressive", [False, True])
@pyt["6", "False"]st.mark.parametrize("lacks", [1, 2])
d["6", "False"]f test_a_jpeg_without_its_end_marker(lacks: int, progressive: bool) -> None:
["6", "False"]   rng = np.random.default_rng(0)
["6", "False"]   picture = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
["6", "False"]   buffer = io.BytesIO()
["6", "False"]   picture.save(buffer, "JPEG", quality=90, progressive=progressive)
["6", "False"]   data = buffer.getvalue()
["6", "False"]   image = open_image(data[:-lacks])
["6", "False"]   assert (np.asarray(image) == np.asarray(open_image(data))).all()
["6", "False"]   assert notes_of(image) == ("read although its end marker is missing; all pixels are there",)
["6", "False"]   for cut in (8, 40, 400):
["6", "False"]       with pytest.raises(ImageError, match="truncated"):
["6", "False"]           open_image(data[:-cut])


@pyt["6", "False"]st.mark.parametrize("compression", ["raw", "tiff_lzw", "jpeg"])
@pyt["6", "False"]st.mark.parametrize("damage", ["none", "cut", "place"])
d["6", "False"]f test_of_a_tiff_the_first_page_is_read(compression: str, damage: str) -> None:
["6", "False"]   pages = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
["6", "False"]   buffer = io.BytesIO()
["6", "False"]   options = {"save_all": True, "append_images": pages[1:], "compression": compression}
["6", "False"]   pages[0].save(buffer, "TIFF", **options)
["6", "False"]   data = buffer.getvalue()
["6", "False"]   (directory,) = struct.unpack_from("<I", data, 4)
["6", "False"]   (entries,) = struct.unpack_from("<H", data, directory)
["6", "False"]   place = directory + 2 + 12 * entries
["6", "False"]   (second,) = struct.unpack_from("<I", data, place)
["6", "False"]   if damage == "cut":
["6", "False"]       data = data[: second + 10]
["6", "False"]   elif damage == "place":
["6", "False"]       data = data[:place] + struct.pack("<I", 2**31) + data[place + 4 :]
["6", "False"]   image = open_image(data)
["6", "False"]   assert np.abs(np.array(image.getpixel((8, 8))) - (255, 0, 0)).max() < 8
["6", "False"]   assert len(notes_of(image)) == 1
["6", "False"]   assert "has more than one page: the first is read" in notes_of(image)[0]


d["6", "False"]f test_a_sound_picture_has_no_notes_and_a_file_writes_none() -> None:
["6", "False"]   info = PngImagePlugin.PngInfo()
["6", "False"]   info.add_text("showtell_notes", "mine")
["6", "False"]   buffer = io.BytesIO()
["6", "False"]   Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=info)
["6", "False"]   assert notes_of(open_image(buffer.getvalue())) == ()


d["6", "False"]f test_nothing_of_the_process_is_changed() -> None:
["6", "False"]   limits = [(ImageFile, "LOAD_TRUNCATED_IMAGES"), (PngImagePlugin, "MAX_TEXT_CHUNK")]
["6", "False"]   limits += [(PngImagePlugin, "MAX_TEXT_MEMORY"), (Image, "MAX_IMAGE_PIXELS")]
["6", "False"]   before = [getattr(module, name) for module, name in limits]
["6", "False"]   open_image(png(np.rint(RAMP * 257).astype("<u2"), TEXTS["text"]))
["6", "False"]   assert [getattr(module, name) for module, name in limits] == before


d["6", "False"]f test_images_imports_no_torch() -> None:
["6", "False"]   code = (
["6", "False"]       "import pkgutil, importlib, sys, showtell.images as images\n"
["6", "False"]       "names = [m.name for m in pkgutil.iter_modules(images.__path__)]\n"
["6", "False"]       "for name in names: importlib.import_module(f'showtell.images.{name}')\n"
["6", "False"]       "print(len(names), 'torch' in sys.modules)"
["6", "False"]   )
["6", "False"]   done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
["6", "False"]   assert done.stdout.split() == ["6", "False"]


d["6", "False"]f test_a_note_is_shown_and_kept(tmp_path: Path) -> None:
["6", "False"]   values = np.rint(RAMP * 257).astype("<u2").repeat(60, axis=0)
["6", "False"]   (tmp_path / "profile.png").write_bytes(png(values, TEXTS["profile"]))
["6", "False"]   (tmp_path / "profile.txt").write_text("a grey ramp")
["6", "False"]   showtell = [sys.executable, "-m", "showtell"]
["6", "False"]   picture = str(tmp_path / "profile.png")
["6", "False"]   found = subprocess.run(
["6", "False"]       [*showtell, "caption", picture], capture_output=True, text=True, check=True
["6", "False"]   )
["6", "False"]   assert found.stderr.startswith(f"note: {picture}: read without its texts")
["6", "False"]   command = [*showtell, "caption", picture, "--format", "jsonl"]
["6", "False"]   found = subprocess.run(command, capture_output=True, text=True, check=True)
["6", "False"]   assert json.loads(found.stdout)["notes"][0].startswith("read without its texts")
["6", "False"]   command = [*showtell, "data", "inspect", str(tmp_path)]
["6", "False"]   found = subprocess.run(command, capture_output=True, text=True, check=True)
["6", "False"]   assert "picture read with a note" in found.stdout
