"""Captions in a picture's own metadata; its pixels stay the same, byte for byte.

Exiv2 writes XMP ``dc:description``, IPTC's ``Iptc4xmpCore:AltTextAccessibility`` (IPTC Photo
Metadata Standard 2021.1), EXIF ``ImageDescription``, and as their author
``photoshop:CaptionWriter``. It reads all fields in which programs keep a person's words.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from showtell.bulk.boilerplate import is_boilerplate
from showtell.bulk.tiff import TiffError, num_pages, picture_parts
from showtell.errors import ImageError, needs_extra, one_line

DESCRIPTION = "Xmp.dc.description"
ALT_TEXT = "Xmp.iptc.AltTextAccessibility"
WRITER = "Xmp.photoshop.CaptionWriter"
IMAGE_DESCRIPTION = "Exif.Image.ImageDescription"
USER_COMMENT = "Exif.Photo.UserComment"
DEFAULT_LANGUAGE = 'lang="x-default"'
TIFF = "image/tiff"
MIME_TYPES = ("image/jpeg", "image/png", "image/webp", TIFF)

# Where programs keep a person's words, those that showtell writes first.
XMP_FIELDS = (
    *(ALT_TEXT, DESCRIPTION, "Xmp.iptc.ExtDescrAccessibility", "Xmp.iptcExt.ExtDescrAccessibility"),
    *("Xmp.exif.UserComment", "Xmp.tiff.ImageDescription", "Xmp.acdsee.caption"),
)
EXIF_FIELDS = (IMAGE_DESCRIPTION, USER_COMMENT, "Exif.Image.XPComment")
IPTC_FIELDS = ("Iptc.Application2.Caption",)


def alt_text(content: bytes) -> str | None:
    """The text that a picture carries already, or None where it has none that says anything.

    Raises:
        ImageError: its metadata cannot be read.
        MissingExtraError: ``pyexiv2`` is not installed.
    """
    with _Open(content) as picture:
        return next((said[0] for _, said in _words(picture)), None)


def _words(picture: Any) -> Iterator[tuple[Callable[[], Any], list[str]]]:
    """For each field with words of a person: what removes it, and its texts that say anything."""
    for remove, texts in _texts(picture):
        stripped = (text.strip(" \0\t\r\n") for text in texts)
        if said := [text for text in stripped if text and not is_boilerplate(text)]:
            yield remove, said


def _texts(picture: Any) -> Iterator[tuple[Callable[[], Any], list[str]]]:
    """For each field in which a person's words may be: what removes it, and its texts."""
    fields = (
        (picture.read_xmp, picture.modify_xmp, XMP_FIELDS),
        (picture.read_exif, picture.modify_exif, EXIF_FIELDS),
        (picture.read_iptc, picture.modify_iptc, IPTC_FIELDS),
    )
    for read, modify, names in fields:
        found = _decoded(read)
        for name in names:
            value = found.get(name) or ""
            if name == USER_COMMENT:
                value = _user_comment(str(value))
            if isinstance(value, dict):  # a text for each language
                value = list(value.values())
            texts = list(map(str, value if isinstance(value, list) else [value]))
            yield partial(modify, {name: None}), texts
    # A JPEG's comment, a PNG's Description.
    yield picture.clear_comment, [str(_decoded(picture.read_comment))]


def _decoded(read: Callable[[str], Any]) -> Any:
    """What Exiv2 reads, as UTF-8, or as Latin-1 where it is none: older programs wrote that."""
    try:
        return read("utf-8")
    except UnicodeDecodeError:
        return read("latin-1")


def _user_comment(value: str) -> str:
    """The text of EXIF's UserComment (Exif 2.32, section 4.6.5): eight bytes name its encoding."""
    if value.startswith("charset="):  # as Exiv2 shows one that is as it should be
        return value.partition(" ")[2]
    numbers = value.split()
    if not all(number.isdecimal() and int(number) < 256 for number in numbers):
        return value
    raw = bytes(map(int, numbers))
    code, text = raw[:8], raw[8:]
    if code.startswith(b"UNICODE"):
        is_big = text[:1] == b"\0" or text.startswith(b"\xfe\xff")
        return text.decode("utf-16-be" if is_big else "utf-16-le", "replace").strip("\ufeff")
    encoding = "shift_jis" if code.startswith(b"JIS") else "utf-8"
    return text.decode(encoding, "replace")


def with_alt_text(content: bytes, text: str, writer: str) -> bytes:
    """The picture's file with ``text`` as its alt text and description, in place of any other.

    Other fields in which a person's words were are removed: programs would go on showing those.

    Raises:
        ImageError: its kind of file cannot carry it, its metadata cannot be read, or its pixels
            would not stay as they are.
        MissingExtraError: ``pyexiv2`` is not installed.
    """
    with _Open(content) as picture:
        kind = _check_kind(picture, content)
        for remove, _ in list(_words(picture)):
            remove()
        said = {DEFAULT_LANGUAGE: text}
        # Emptied first: other languages would go on saying what an older caption said.
        picture.modify_xmp({DESCRIPTION: "", ALT_TEXT: ""})
        picture.modify_xmp({DESCRIPTION: said, ALT_TEXT: said, WRITER: writer})
        picture.modify_exif({IMAGE_DESCRIPTION: text})
        changed: bytes = picture.get_bytes()
    if kind == TIFF and picture_parts(changed) != picture_parts(content):
        raise ImageError("a caption in its metadata would change its pixels; use --format sidecar")
    return changed


def check_can_carry(content: bytes) -> None:
    """Find out before a picture is captioned.

    Raises:
        ImageError, MissingExtraError: as ``with_alt_text``.
    """
    with _Open(content) as picture:
        _check_kind(picture, content)


def _check_kind(picture: Any, content: bytes) -> str:
    """The picture's MIME type; ImageError where a file of its kind cannot carry a caption."""
    kind: str = picture.get_mime_type()
    if kind not in MIME_TYPES:
        raise ImageError(f"{kind} cannot carry captions; use --format sidecar")
    if kind == TIFF:
        try:
            num = num_pages(content)
            picture_parts(content)
        except TiffError as error:
            raise ImageError(f"its TIFF directories: {error}; use --format sidecar") from None
        if num > 1:  # Exiv2 keeps the first few
            raise ImageError(
                f"it is a TIFF of {num:,} pages, and a caption in its metadata could remove some "
                "of them; use --format sidecar"
            )
    return kind


def check_can_write() -> None:
    """Find out before the work, not after it.

    Raises:
        MissingExtraError: ``pyexiv2`` is not installed.
    """
    _library()


class _Open:
    """A picture's bytes, open in Exiv2; its errors become ``ImageError``."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __enter__(self) -> Any:
        try:
            self._picture = _library().ImageData(self._content)
        except RuntimeError as error:
            raise ImageError(
                f"its metadata cannot be read ({one_line(error)}); use --format sidecar"
            ) from None
        return self._picture

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._picture.close()
        if isinstance(error, RuntimeError | UnicodeDecodeError):
            raise ImageError(f"its metadata cannot be changed: {one_line(error)}") from None


def _library() -> Any:
    with needs_extra("metadata", "captions in a picture's own metadata"):
        import pyexiv2
    pyexiv2.set_log_level(4)  # it prints, otherwise
    return pyexiv2
