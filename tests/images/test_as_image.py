"""Whatever a Python program has for a picture becomes the same upright RGB, or one clear line."""

import io
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePath

import numpy as np
import pytest
from PIL import Image

from showtell.core import urls
from showtell.errors import ImageError, LargePictureError, PictureTypeError, ShowtellError
from showtell.images.open import as_image, is_picture_like, open_image

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
    ways += [path.as_uri(), f"file:{path}", f"FILE://localhost{path}", PurePath(path)]
    ways += [np.asarray(image), Image.open(io.BytesIO(data))]
    for way in ways:
        found = as_image(way)
        assert (found.mode, found.tobytes()) == ("RGB", image.tobytes()), type(way)


def test_whatever_can_be_read_is_a_file(tmp_path: Path) -> None:
    data = file_of(photo())

    class Stream(io.BytesIO):
        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation("seek")

    class Answer:  # of a web client, say
        def read(self) -> bytes:
            return data

    with tempfile.NamedTemporaryFile() as wrapped:
        wrapped.write(data)
        for file in (wrapped, Stream(data), Answer()):
            assert is_picture_like(file)
            assert as_image(file) == photo()  # type: ignore[arg-type]
    (tmp_path / "a.txt").write_text("text")
    said = r"^x: not a picture: a file that gives str; open it in binary mode"
    with open(tmp_path / "a.txt") as text, pytest.raises(PictureTypeError, match=said):
        as_image(text, name="x")  # type: ignore[arg-type]
    with pytest.raises(ImageError, match=r"^picture: cannot be read: .* closed file"):
        as_image(text)  # type: ignore[arg-type]
    assert not is_picture_like([data]) and not is_picture_like(iter([data]))


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
        (7, "^not a picture: int; give a path, a URL, bytes, a Pillow picture or a NumPy array$"),
        ({"path": "a.jpg"}, "^not a picture: dict; give"),
        (["a.jpg"], "^not a picture: list; give"),
        (np.zeros((4, 4, 3)), r"an array of float64 \(4, 4, 3\); expected uint8"),
        (np.zeros((3, 4, 5), np.uint8), r"an array of uint8 \(3, 4, 5\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"uint8 \(2, 4, 4, 3\); .* pass list\(array\)$"),
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


def test_errors_call_a_picture_by_the_name_that_is_given() -> None:
    for wrong, said in ((b"?", "is not a picture that"), (7, "not a picture: int"),
                        (np.zeros((2, 2)), "not a picture: an array"),
                        (Image.new("RGB", (0, 5)), "0 x 5 pixels")):  # fmt: skip
        with pytest.raises(ImageError, match=rf"^images\[3\]: {said}"):
            as_image(wrong, name="images[3]")  # type: ignore[arg-type]
    with pytest.raises(ImageError, match=r"^nothing\.jpg: no such file"):
        as_image("nothing.jpg", name="images[3]")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """A web server on this machine that has a photo and something else."""
    (tmp_path / "photo 1.png").write_bytes(file_of(photo()))
    (tmp_path / "page.html").write_text("<p>No picture</p>")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_picture_of_the_web(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp")
    url = f"{site}/photo%201.png"
    assert as_image(url) == photo()
    with pytest.raises(LargePictureError, match=rf"^{site}/photo%201.png: has 60 x 40 pixels"):
        as_image(url, max_pixels=2000)
    with pytest.raises(ImageError, match=rf"^{site}/page.html: is not a picture that can be read"):
        as_image(f"{site}/page.html", name="images[3]")
    with pytest.raises(ImageError, match=rf"^{site}/none.png: .") as caught:
        as_image(f"{site}/none.png")
    assert "404" in str(caught.value) and "\n" not in str(caught.value)
    monkeypatch.setattr(urls, "MOST_BYTES", 100)
    with pytest.raises(ImageError, match="has more than 100 bytes"):
        as_image(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://169.254.169.254/latest/a.jpg", "169.254.169.254 is an address within"),
        ("nonsense://host/a.jpg", "a.jpg: Protocol not known: nonsense$"),
        ("http://127.0.0.1:9/a.jpg", "127.0.0.1"),
        ("http://[::1/a.jpg", "Invalid IPv6 URL|is not a URL"),
    ],
)
def test_a_url_that_gives_no_picture_is_one_line(url: str, said: str) -> None:
    pytest.importorskip("aiohttp")
    with pytest.raises(ImageError, match=said) as caught:
        as_image(url)
    assert str(caught.value).startswith(f"{url}: ")
    assert "\n" not in str(caught.value)


def test_without_what_reads_the_web(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(ImageError, match=r"^https://host/a.jpg: .* needs an extra: .*remote\]"):
        as_image("https://host/a.jpg")


def test_nothing_is_fetched_where_no_url_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path of a file is not a URL, whatever it is called."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "https:").mkdir()
    (tmp_path / "https:" / "a.png").write_bytes(file_of(photo()))
    monkeypatch.setattr(urls, "fetch", lambda *given: pytest.fail("fetched"))
    for path in (Path("https://a.png"), "https:/a.png", "./https:/a.png"):
        assert as_image(path) == photo()
