"""What a notebook shows of a caption: its picture, small, and its words, whatever they are."""

import gc
import io
import tempfile
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bulk_worker import tiny_captioner
from page_parser import parse_page
from PIL import Image

from showtell.errors import ImageError, PictureTypeError
from showtell.inference.caption import Caption, caption_record
from showtell.inference.notebook import LONGEST_SIDE, MOST_ALTERNATIVES, thumbnail_of

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)> ' & <b>"


def caption_of(text: str, **fields: object) -> Caption:
    return Caption(text, tuple(text.split()), (-0.5, -0.5), 0.6, **fields)  # type: ignore[arg-type]


def photo(width: int = 640, height: int = 480) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def opened(thumbnail: bytes | None) -> Image.Image:
    assert thumbnail is not None
    return Image.open(io.BytesIO(thumbnail))


def test_hostile_words_are_text(tmp_path: Path) -> None:
    caption = caption_of(HOSTILE, alternatives=(caption_of(HOSTILE),), thumbnail=b'"><script>')
    for shown in (caption, replace(caption, text="", withheld=HOSTILE)):
        page = tmp_path / "page.html"
        page.write_text(shown._repr_html_(), encoding="utf-8")
        found = parse_page(page)
        tags = {tag for tag, _, _ in found.attributes}
        assert tags <= {"figure", "img", "ol"}
        assert not any(name.startswith("on") for _, name, _ in found.attributes)
        [image] = found.images
        assert image["src"].startswith("data:image/jpeg;base64,") and "<" not in image["src"]
        assert image["alt"] == shown.text
        assert found.words.count("<script>alert(1)</script>") == 2


def test_the_element_is_bounded() -> None:
    long = caption_of("a<" * 10**6)
    caption = replace(long, alternatives=(long,) * 50, thumbnail=thumbnail_of(photo()))
    html = caption._repr_html_()
    assert html.count("<li>") == MOST_ALTERNATIVES
    assert len(html) < 150_000
    usual = replace(caption_of("a dog"), thumbnail=thumbnail_of(photo()))
    assert len(usual._repr_html_()) < 30_000  # of noise; photos have 5,000


def test_captions_without_words_or_picture() -> None:
    assert "no caption" in Caption("", (), (), 0.0)._repr_html_()
    html = caption_of("a dog")._repr_html_()
    assert "a dog" in html and "confidence 0.60" in html and "<img" not in html


@pytest.mark.parametrize(
    "size", [(640, 480), (480, 640), (4000, 3000), (20_000, 1), (1, 700), (9, 7), (161, 160)]
)
def test_thumbnails_are_small_and_of_the_pictures_shape(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "blue")
    image.paste("red", (0, 0, max(1, size[0] // 2), size[1]))
    small = opened(thumbnail_of(image))
    assert max(small.size) <= min(LONGEST_SIDE, max(size))
    assert max(small.size) > min(LONGEST_SIDE, max(size)) * 0.45
    assert small.width / size[0] == pytest.approx(small.height / size[1], abs=1 / min(size))
    red, _, blue = small.convert("RGB").getpixel((0, 0))
    assert red > blue


def test_captioning_keeps_thumbnails_and_no_pictures(tmp_path: Path) -> None:
    model = tiny_captioner()
    path = tmp_path / "photo.png"
    photo().save(path)
    image, pixels = photo(), np.asarray(photo())
    kept = [weakref.ref(image), weakref.ref(pixels)]
    one = model.caption(image)
    several = model.caption([path, str(path), path.read_bytes(), pixels])
    assert isinstance(one, Caption) and len(several) == 4
    assert len({caption.text for caption in (one, *several)}) == 1
    for caption in (one, *several):
        assert opened(caption.thumbnail).size == (160, 120)
        assert "thumbnail" not in repr(caption)
        assert "thumbnail" not in caption_record(caption)
    [result] = model.caption_stream([path])
    assert result.caption == one  # a thumbnail makes no difference
    assert result.caption is not None and result.caption.thumbnail is None
    del image, pixels
    gc.collect()
    assert [picture() for picture in kept] == [None, None]


def test_files_by_url_in_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "a photo.png"
    photo().save(path)
    found = list(tiny_captioner().caption_stream([path.as_uri(), "http://169.254.169.254/a.jpg"]))
    assert [result.path for result in found] == [str(path), "http://169.254.169.254/a.jpg"]
    assert found[0].caption is not None
    assert "169.254.169.254 is an address within" in str(found[1].error)
    with pytest.raises(PictureTypeError, match=r"^not a path or a URL: ndarray; .* caption\("):
        list(tiny_captioner().caption_stream([np.asarray(photo())]))  # type: ignore[list-item]


def test_a_lone_name_is_one_picture_of_a_stream(tmp_path: Path) -> None:
    path, model = tmp_path / "a photo.png", tiny_captioner()
    photo().save(path)
    for name in (path, str(path)):
        [result] = model.caption_stream(name)
        assert str(result.path) == str(path) and result.caption is not None
    with pytest.raises(PictureTypeError, match=r"^not a path or a URL: Image; pictures in memory"):
        list(model.caption_stream(photo()))  # type: ignore[arg-type]


def test_a_temporary_file_is_one_picture() -> None:
    model = tiny_captioner()
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        photo().save(file, "PNG")
        caption = model.caption(file)  # type: ignore[arg-type]
    assert caption == model.caption(photo())


def test_which_of_several_pictures_is_wrong() -> None:
    model = tiny_captioner()
    with pytest.raises(PictureTypeError, match=r"^images\[1\]: not a picture: NoneType; give"):
        model.caption([photo(), None])  # type: ignore[list-item]
    with pytest.raises(ImageError, match=r"^images\[2\]: is not a picture that can be read"):
        model.caption([photo(), photo(), b"?"])
    with pytest.raises(PictureTypeError, match=r"^not a picture: dict; give a path"):
        model.caption({"a.jpg": photo()})
    with pytest.raises(TypeError, match=r"^not a picture: float64; give a path"):
        model.caption(np.float64(1))  # type: ignore[call-overload]
