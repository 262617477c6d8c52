"""Captions in a picture's own metadata, the pixels left byte for byte as they are.

Written are XMP ``dc:description``, IPTC's ``Iptc4xmpCore:AltTextAccessibility`` (IPTC Photo
Metadata Standard 2021.1), EXIF ``ImageDescription``, and as their author
``photoshop:CaptionWriter``; by Exiv2. Knows nothing of where pictures lie.
"""

from typing import Any

from showtell.errors import ImageError, MissingExtraError

DESCRIPTION = "Xmp.dc.description"
ALT_TEXT = "Xmp.iptc.AltTextAccessibility"
WRITER = "Xmp.photoshop.CaptionWriter"
IMAGE_DESCRIPTION = "Exif.Image.ImageDescription"
DEFAULT_LANGUAGE = 'lang="x-default"'
MIME_TYPES = ("image/jpeg", "image/png", "image/webp", "image/tiff")

# What cameras put into ImageDescription without being asked.
CAMERA_TEXTS = (
    "dcim",
    "default",
    "digital camera",
    "konica minolta digital camera",
    "minolta digital camera",
    "olympus digital camera",
    "samsung camera pictures",
    "sony dsc",
)


def alt_text(content: bytes) -> str | None:
    """The text that a picture carries already, or None where it has none that says anything.

    Raises:
        ImageError: its metadata cannot be read.
        MissingExtraError: ``pyexiv2`` is not installed.
    """
    with _Open(content) as picture:
        found: dict[str, Any] = picture.read_xmp()
        texts = [found.get(ALT_TEXT), found.get(DESCRIPTION)]
        texts.append(picture.read_exif().get(IMAGE_DESCRIPTION))
    for text in texts:
        for said in text.values() if isinstance(text, dict) else [text]:
            said = str(said or "").strip(" \0\n")
            if said and said.lower() not in CAMERA_TEXTS:
                return said
    return None


def with_alt_text(content: bytes, text: str, writer: str) -> bytes:
    """The picture's file with ``text`` as its alt text and description, in place of any other.

    Raises:
        ImageError: its kind of file cannot carry it, or its metadata cannot be read.
        MissingExtraError: ``pyexiv2`` is not installed.
    """
    with _Open(content) as picture:
        if picture.get_mime_type() not in MIME_TYPES:
            raise ImageError(
                f"{picture.get_mime_type()} cannot carry captions; use --format sidecar"
            )
        said = {DEFAULT_LANGUAGE: text}
        # Emptied first: other languages would go on saying what an older caption said.
        picture.modify_xmp({DESCRIPTION: "", ALT_TEXT: ""})
        picture.modify_xmp({DESCRIPTION: said, ALT_TEXT: said, WRITER: writer})
        picture.modify_exif({IMAGE_DESCRIPTION: text})
        changed: bytes = picture.get_bytes()
    return changed


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
            raise ImageError(f"its metadata cannot be read: {_one_line(error)}") from None
        return self._picture

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._picture.close()
        if isinstance(error, RuntimeError | UnicodeDecodeError):
            raise ImageError(f"its metadata cannot be changed: {_one_line(error)}") from None


def _library() -> Any:
    try:
        import pyexiv2
    except ModuleNotFoundError:
        raise MissingExtraError("metadata", "captions in a picture's own metadata") from None
    pyexiv2.set_log_level(4)  # it prints, otherwise
    return pyexiv2


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
