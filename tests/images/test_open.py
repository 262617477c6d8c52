"""Every kind of picture that a folder may hold becomes upright RGB, or one clear line."""

import io
import os
import struct
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from showtell.errors import ImageError, LargePictureError
from showtell.images import open as images
from showtell.images.depth import bands
from showtell.images.open import notes_of, open_image
from showtell.images.preprocess import Preprocessing

RECIPE = Preprocessing(32, 0.875, "bicubic", (127.0,) * 3, (128.0,) * 3)
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quarters(width: int = 64, height: int = 48) -> Image.Image:
    """Red, green, blue and white, from the top left by rows: any turn or mirroring shows."""
    image = Image.new("RGB", (width, height))
    for n, colour in enumerate((RED, GREEN, BLUE, WHITE)):
        x, y = n % 2 * (width // 2), n // 2 * (height // 2)
        image.paste(colour, (x, y, x + width // 2, y + height // 2))
    return image


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """Which of the four colours is nearest at the middle of each quarter."""
    width, height = image.size
    points = [(x, y) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    named = np.array([RED, GREEN, BLUE, WHITE])
    found = []
    for point in points:
        distance = np.abs(named - np.array(image.getpixel(point))).sum(axis=1)
        assert distance.min() < 60, image.getpixel(point)
        found.append(tuple(int(x) for x in named[distance.argmin()]))
    return found


FORMATS: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: encode(quarters(), "JPEG", quality=95, subsampling=0),
    "jpeg progressive": lambda: encode(quarters(), "JPEG", quality=95, progressive=True),
    "jpeg cmyk": lambda: encode(quarters().convert("CMYK"), "JPEG", quality=95),
    "png": lambda: encode(quarters(), "PNG"),
    "png palette": lambda: encode(quarters().quantize(8), "PNG"),
    "png rgba": lambda: encode(quarters().convert("RGBA"), "PNG"),
    "webp lossy": lambda: encode(quarters(), "WEBP", quality=95),
    "webp lossless": lambda: encode(quarters(), "WEBP", lossless=True),
    "webp animated": lambda: encode(
        quarters(), "WEBP", save_all=True, append_images=[Image.new("RGB", (64, 48))], lossless=True
    ),
    "gif": lambda: encode(quarters(), "GIF"),
    "gif animated": lambda: encode(
        quarters(), "GIF", save_all=True, append_images=[Image.new("RGB", (64, 48), GREEN)]
    ),
    "tiff": lambda: encode(quarters(), "TIFF"),
    "tiff lzw": lambda: encode(quarters(), "TIFF", compression="tiff_lzw"),
    "tiff jpeg": lambda: encode(quarters(), "TIFF", compression="jpeg", quality=95),
    "tiff cmyk": lambda: encode(quarters().convert("CMYK"), "TIFF"),
    "bmp": lambda: encode(quarters(), "BMP"),
    "ppm": lambda: encode(quarters(), "PPM"),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_formats(kind: str, tmp_path: Path) -> None:
    data = FORMATS[kind]()
    (tmp_path / "picture").write_bytes(data)
    for source in (data, io.BytesIO(data), tmp_path / "picture", str(tmp_path / "picture")):
        image = open_image(source)
        assert type(image) is Image.Image
        assert (image.mode, image.size) == ("RGB", (64, 48))
        assert corners(image) == [RED, GREEN, BLUE, WHITE]


def test_each_declared_format_is_visited() -> None:
    visited = {kind.split()[0].upper() for kind in FORMATS} | {"AVIF"}
    assert visited == set(images.FORMATS)
    assert len(FORMATS) == 17


@pytest.mark.skipif("AVIF" not in images._known_formats(), reason="this Pillow reads no AVIF")
def test_avif() -> None:
    assert corners(open_image(encode(quarters(), "AVIF", quality=95))) == [RED, GREEN, BLUE, WHITE]


def test_alpha_is_laid_over_white() -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    half = Image.new("LA", (8, 8), (0, 128))
    for image in (clear, clear.convert("LA"), clear.convert("RGBa").convert("RGBA")):
        assert open_image(encode(image, "PNG")).getpixel((4, 4)) == WHITE
    assert open_image(encode(half, "PNG")).getpixel((4, 4)) == (127, 127, 127)
    assert open_image(encode(clear, "WEBP", lossless=True)).getpixel((4, 4)) == WHITE


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_is_laid_over_white(mode: str) -> None:
    image = Image.new(mode, (8, 8))
    key: object = (0, 0, 0) if mode == "RGB" else 0
    assert open_image(encode(image, "PNG", transparency=key)).getpixel((4, 4)) == WHITE


def test_a_palette_with_alpha_in_bytes_is_laid_over_white() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    data = encode(image, "PNG", transparency=b"\xff\x00")
    assert open_image(data).getpixel((4, 4)) == WHITE


def test_one_bit() -> None:
    image = Image.new("1", (8, 8), 1)
    image.putpixel((0, 0), 0)
    for format in ("PNG", "TIFF", "BMP"):
        rgb = open_image(encode(image, format))
        assert (rgb.getpixel((0, 0)), rgb.getpixel((5, 5))) == ((0, 0, 0), WHITE)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(format: str) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None, :].repeat(4, axis=0)
    pixels = np.asarray(open_image(encode(Image.fromarray(ramp), format)))
    assert np.abs(pixels[0, :, 0].astype(int) - np.arange(256)).max() <= 1


def test_sixteen_bits_big_endian(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(">u2")
    data = b"P5 256 1 65535\n" + ramp.tobytes()  # PGM holds them so
    pixels = np.asarray(open_image(data))
    assert np.abs(pixels[0, :, 0].astype(int) - np.arange(256)).max() <= 1


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("int32", 0, 255), ("int32", 0, 65535), ("int32", -7, 10**6), ("float32", 0, 1),
     ("float32", 0, 255), ("float32", -3, 3)],
)  # fmt: skip
def test_other_greys_are_scaled(dtype: str, low: float, high: float) -> None:
    ramp = np.linspace(low, high, 256).astype(dtype)[None, :].repeat(4, axis=0)
    pixels = np.asarray(open_image(encode(Image.fromarray(ramp), "TIFF")))
    assert np.abs(pixels[0, :, 0].astype(int) - np.arange(256)).max() <= 1


def test_large_greys_in_floats_are_read_band_by_band() -> None:
    """A few bright spots leave them shares of white, in whichever band they are."""
    generator = np.random.default_rng(0)
    values = generator.random((300, 9001), dtype=np.float32)
    values[-20:, :100] = 40
    values[0, 0] = np.nan
    image = open_image(encode(Image.fromarray(values), "TIFF"))
    expected = np.rint(np.nan_to_num(values).astype(np.float64) * 255).clip(0, 255)
    assert (np.asarray(image) == expected.astype(np.uint8)[:, :, None]).all()
    image = open_image(encode(Image.fromarray(np.rint(values * 4095)), "TIFF"))
    assert notes_of(image) == ()  # 40 times 4095 is beyond 16 bits
    values[-20:, :100] = 1
    image = open_image(encode(Image.fromarray(np.rint(values * 4095)), "TIFF"))
    assert notes_of(image) == ("its brightest value is 4095: read as 12 bits of a larger file",)


def test_greys_of_one_odd_value_do_not_divide_by_zero() -> None:
    for value in (
        np.full((4, 4), -5, np.int32),
        np.full((4, 4), 70_000, np.int32),  # so large that 1e-12 more is the same number
        np.full((4, 4), 3e38, np.float32),
        np.full((4, 4), np.nan, np.float32),
    ):
        assert open_image(encode(Image.fromarray(value), "TIFF")).mode == "RGB"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, format: str) -> None:
    stored = {  # how a picture must be stored for its orientation to make it upright
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = quarters()
    if orientation in stored:
        image = image.transpose(stored[orientation])
    exif = Image.Exif()
    exif[images.ORIENTATION_TAG] = orientation
    upright = open_image(encode(image, format, exif=exif, quality=95))
    assert upright.size == (64, 48)
    assert corners(upright) == [RED, GREEN, BLUE, WHITE]


def test_broken_exif_does_not_cost_the_picture() -> None:
    data = encode(quarters(), "JPEG", quality=95, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert corners(open_image(data)) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (20_000, 1), (1, 20_000), (20_000, 300)])
def test_odd_shapes_give_the_square_that_encoders_want(size: tuple[int, int]) -> None:
    image = open_image(encode(Image.new("RGB", size, RED), "PNG"))
    assert image.size == size
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    for view in (RECIPE.eval_view(image), RECIPE.random_view(image, rng)):
        assert (view.shape, view.dtype) == ((3, 32, 32), np.uint8)
        assert (view == np.array(RED)[:, None, None]).all()
    assert time.perf_counter() - start < 2


def test_large_jpeg_is_decoded_smaller_when_that_is_allowed() -> None:
    data = encode(quarters(1600, 1200), "JPEG", quality=95)
    assert open_image(data).size == (1600, 1200)
    small = open_image(data, min_side=200)
    assert small.size == (400, 300)  # 1/8 would leave 150 of the short side
    assert corners(small) == [RED, GREEN, BLUE, WHITE]
    assert open_image(data, min_side=1200).size == (1600, 1200)


BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "is empty"),
    "text": (lambda: b"This is not a picture.", "is not a picture"),
    "zeros": (lambda: bytes(1000), "is not a picture"),
    "postscript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
    "jpeg cut": (lambda: FORMATS["jpeg"]()[:-400], "(?i)truncated"),
    "jpeg header alone": (lambda: FORMATS["jpeg"]()[:100], "cannot be decoded|not a picture"),
    "png cut": (lambda: FORMATS["png"]()[:-40], "truncated|broken|cannot be decoded"),
    "gif cut": (lambda: FORMATS["gif"]()[:-60], "truncated|cannot be decoded"),
    "webp cut": (lambda: FORMATS["webp lossless"]()[:-20], "cannot be decoded|not a picture"),
    "tiff cut": (lambda: FORMATS["tiff"]()[:-4000], "cannot be decoded|not a picture|truncated"),
    "bmp cut": (lambda: FORMATS["bmp"]()[:-4000], "truncated"),
    "bomb": (lambda: encode(Image.new("1", (40_000, 10_000)), "PNG"), "pixels"),
    "bomb below Pillow's own": (lambda: encode(Image.new("1", (16_000, 10_000)), "PNG"), "limit"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_pictures_are_one_line(kind: str, tmp_path: Path) -> None:
    make, reason = BROKEN[kind]
    path = tmp_path / "broken.jpg"
    path.write_bytes(make())
    with pytest.raises(ImageError, match=reason) as caught:
        open_image(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < len(str(path)) + 160


def test_a_png_that_lies_about_its_size_is_refused_before_it_is_decoded() -> None:
    data = bytearray(encode(Image.new("RGB", (8, 8)), "PNG"))
    data[16:24] = (2**31 - 1).to_bytes(4, "big") * 2
    with pytest.raises(ImageError):
        open_image(bytes(data))


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_parts_without_end_are_refused_and_many_usual_ones_are_not() -> None:
    """Pillow takes some microseconds for each, in Python."""
    noise = Image.effect_noise((900, 800), 90)
    jpeg, png, gif = (encode(noise, kind) for kind in ("JPEG", "PNG", "GIF"))
    idat = png.index(b"IDAT") - 4
    pixels = zlib.compress(b"".join(b"\0" + bytes(row) for row in np.asarray(noise)))
    small = b"".join(chunk(b"IDAT", pixels[at : at + 200]) for at in range(0, len(pixels), 200))
    usual = chunk(b"IDAT", bytes(8192)) * 9000
    hostile = {
        "segments": jpeg[:2] + b"\xff\xc4\0\2" * 30_000 + jpeg[2:],
        "restarts": jpeg[:2] + b"\xff\xd0" * 30_000 + jpeg[2:],
        "fill": jpeg[:2] + b"\xff" * 30_000 + jpeg[2:],
        "chunks": png[:idat] + chunk(b"abCd") * 20_000 + png[idat:],
        "pixels": png[:idat] + chunk(b"IDAT") * 20_000 + png[idat:],
        "after": png[:-12] + chunk(b"abCd") * 20_000 + png[-12:],
        "comment": gif[:781] + b"!\xfe" + (b"\xff" + bytes(255)) * 20_000 + b"\0" + gif[781:],
    }
    for kind, data in hostile.items():
        with pytest.raises(LargePictureError, match="too many small parts"):
            open_image(data, name=kind)
    tables = b"".join(b"\xff\xe2" + struct.pack(">H", 65_000) + bytes(64_998) for _ in range(300))
    assert open_image(jpeg[:2] + tables + b"\xff\xfe\0\2" * 5000 + jpeg[2:]).size == noise.size
    assert open_image(png[:idat] + chunk(b"tEXt", b"a\0b") * 2000 + png[idat:]).size == noise.size
    assert open_image(png[:idat] + small + png[-12:]).size == noise.size
    assert open_image(png[:-12] + usual + png[-12:]).size == noise.size  # 70 MB of libpng's


def rle_bmp(width: int, height: int, runs: bytes) -> bytes:
    """A BMP of 8 bits a pixel whose runs are as given; its palette is grey."""
    palette = b"".join(bytes([n, n, n, 0]) for n in range(256))
    start = 14 + 40 + len(palette)
    head = struct.pack("<IHHI", start + len(runs), 0, 0, start)
    head += struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    return b"BM" + head + palette + runs


def test_run_length_encoded_bmp() -> None:
    """Also of runs of one pixel; not what costs far more time than its bytes tell."""
    levels = Image.effect_noise((200, 100), 90)
    rows = np.asarray(levels)[::-1]  # from the bottom
    runs = b"".join(b"".join(b"\x01%c" % level for level in row) + b"\0\0" for row in rows)
    image = open_image(rle_bmp(200, 100, runs + b"\0\1"))
    assert image.tobytes() == levels.convert("RGB").tobytes()
    with pytest.raises(LargePictureError, match="run-length encoded BMP is 160,000: save it"):
        open_image(rle_bmp(401, 400, b"\x01\0\0\0" * 400), max_pixels=16_000_000)
    assert open_image(rle_bmp(1280, 1024, b"\xff\0\0\0" * 1024)).size == (1280, 1024)
    for idle in (b"\xff\0", b"\0\2\0\0"):  # beyond the row's end, and no step
        with pytest.raises(LargePictureError, match="too many small parts"):
            open_image(rle_bmp(100, 100, idle * 500_000))


@pytest.mark.parametrize("white", [1, 100, 254, 256, 4095, 65535])
@pytest.mark.parametrize("kind", ["P5", "P6"])
def test_ppm_of_any_white(kind: str, white: int) -> None:
    """As Pillow scales them, pixel by pixel, also values above white."""
    stored, colours = np.dtype("u1" if white < 256 else ">u2"), 3 if kind == "P6" else 1
    generator = np.random.default_rng(0)
    highest = min(white + 9, np.iinfo(stored).max)
    values = generator.integers(0, highest, (200, 300, colours), endpoint=True).astype(stored)
    values[0, 0] = white
    data = b"%s 300 200 %d\n" % (kind.encode(), white) + values.tobytes()
    shares = np.minimum(values, white) / white
    if kind == "P5" and white > 255:  # greys of 16 bits
        expected = np.rint(np.rint(shares * 65535) / 257)
    else:
        expected = np.rint(shares * 255)
    found = np.asarray(open_image(data))
    assert (found == np.broadcast_to(expected, found.shape)).all()
    with pytest.raises(ImageError, match="truncated"):
        open_image(data[:-1000])


def test_a_large_ppm_is_read_fast() -> None:
    data = b"P6 3000 2000 254\n" + bytes(18_000_000)
    start = time.perf_counter()
    assert open_image(data).size == (3000, 2000)
    assert time.perf_counter() - start < 2  # pixel by pixel: 6 or more


def test_things_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path, reason in (
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "is not a regular file"),
        (Path("/dev/zero"), "is not a regular file"),
        (tmp_path / "absent.jpg", "no such file"),
        (tmp_path / "loop", "symbolic link"),
    ):
        with pytest.raises(ImageError, match=reason):
            open_image(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(FORMATS["png"]())
    path.chmod(0)
    with pytest.raises(ImageError, match="permission denied"):
        open_image(path)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(FORMATS)), st.data())
def test_damage_anywhere_is_an_image_error_or_a_picture(kind: str, data: st.DataObject) -> None:
    content = bytearray(FORMATS[kind]())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(1, len(content)))]
    try:
        image = open_image(bytes(content))
    except ImageError as error:
        assert "\n" not in str(error)
    else:
        assert image.mode == "RGB"


def test_no_warning_escapes_and_others_are_left_alone() -> None:
    # 9,500 x 9,500 is past the size at which Pillow warns; damaged metadata warns as well.
    large = encode(Image.new("1", (9_500, 9_500)), "PNG")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        threads = [threading.Thread(target=open_image, args=(large,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list(warnings.filters) == before
        warnings.warn("ours", stacklevel=1)
    assert [str(w.message) for w in caught] == ["ours"]


def test_the_evaluation_view_is_the_centre_at_the_recipes_share() -> None:
    image = Image.new("RGB", (200, 100), WHITE)
    image.paste(RED, (100 - 43, 50 - 43, 100 + 43, 50 + 43))  # 0.875 of 100, less a rim
    view = RECIPE.eval_view(image)
    assert (view[1, 2:-2, 2:-2] < 40).all()
    assert (RECIPE.eval_view(Image.new("RGB", (9, 9), BLUE)) == np.array(BLUE)[:, None, None]).all()


def test_squash_takes_the_whole_picture() -> None:
    recipe = Preprocessing(32, 1.0, "bilinear", (0.0,) * 3, (1.0,) * 3, squash=True)
    view = recipe.eval_view(quarters(300, 40))
    assert corners(Image.fromarray(view.transpose(1, 2, 0))) == [RED, GREEN, BLUE, WHITE]


def test_random_views_are_seeded_crops_of_seven_eighths_half_of_them_mirrored() -> None:
    width, height = 160, 80
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[:, :, 0] = np.linspace(0, 255, width)
    ramp[:, :, 1] = np.linspace(0, 255, height)[:, None]
    image = Image.fromarray(ramp)
    rng = np.random.default_rng(3)
    views = np.stack([RECIPE.random_view(image, rng) for _ in range(200)]).astype(int)
    again = np.stack(
        [RECIPE.random_view(image, rng) for rng in [np.random.default_rng(3)] for _ in range(200)]
    )
    assert (views == again).all()
    mirrored = views[:, 0, 16, 0] > views[:, 0, 16, -1]
    assert 70 < mirrored.sum() < 130
    tall = views[:, 1, -1, 16] - views[:, 1, 0, 16]  # seven eighths of the short side
    assert (np.abs(tall - 0.875 * 255 * 31 / 32) < 6).all()
    left = views[:, 0].min(axis=(1, 2))  # anywhere along the long side
    assert left.min() < 10
    assert left.max() > 0.5 * 255
    straight = [RECIPE.random_view(image, np.random.default_rng(s), flip=False) for s in range(20)]
    assert all(view[0, 16, 0] < view[0, 16, -1] for view in straight)


def test_real_photos_all_open(test_data: Path) -> None:
    paths = sorted((test_data / "coco" / "val2017").glob("*.jpg"))
    assert len(paths) == 64
    for path in paths:
        assert RECIPE.eval_view(open_image(path, min_side=RECIPE.decode_side)).std() > 5


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_of_a_large_picture_is_laid_over_white_band_by_band(mode: str) -> None:
    """As over the whole at once."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (300, 9001, len(mode)), dtype=np.uint8)
    image = Image.frombytes(mode, pixels.shape[1::-1], pixels.tobytes())
    whole = Image.new("RGBA", image.size, "white")
    whole.alpha_composite(image.convert("RGBA"))
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    assert len(list(bands(image))) == 3
    assert open_image(file.getvalue()).tobytes() == whole.convert("RGB").tobytes()
