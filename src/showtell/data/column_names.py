"""The usual names of columns and keys in tables, JSON files and lists, by what they hold.

The likeliest name of each role comes first. Names are compared in lower case and with ``_`` for
space and ``-``.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

PICTURE_NAMES = (
    *("path", "image", "image_path", "file_name", "filename", "filepath", "file_path", "file"),
    *("image_file", "image_filename", "image_name", "img", "img_path", "picture", "photo"),
)
URL_NAMES = ("url", "image_url", "img_url")
CAPTION_NAMES = (
    *("caption", "captions", "text", "sentence", "sentences", "caption_str", "prompt"),
    *("comment", "description", "alt_text"),
)
SPLIT_NAMES = ("split", "subset", "partition", "set_name")
ID_NAMES = ("image_id", "imageid", "img_id")
STYLE_NAMES = ("caption_styles", "caption_style")  # "style" and "styles" are often the picture's
EDITED_NAMES = ("edited",)
_NAMES_BY_DEFAULT = ("name", *ID_NAMES, "id")
"""What names the picture where nothing is called as in ``PICTURE_NAMES``, as in medical tables."""

_SURENESS = ("confidence", "log_prob")
"""What a model says of its caption."""

NO = frozenset(
    [
        *("", "false", "no", "n", "0", "0.0", "none", "null", "nan", "off", "-"),
        *("falsch", "nein", "faux", "non", "falso", "não", "nao", "onwaar", "nee", "falskt", "nej"),
        *("falsk", "usann", "nei", "epätosi", "ei", "fałsz", "nie", "nepravda", "ne", "hamis"),
        *("nem", "fals", "nu", "yanlış", "yanliş", "hayır", "hayir"),
        *("ложь", "нет", "否", "假", "いいえ"),
    ]
)
"""What stands in ``edited`` of captions that nobody edited, in lower case. Spreadsheets write true
and false in their own language, so any other value means yes.
"""

_NUMBERED_CAPTION = re.compile(r"^captions?_?\d+$")


def normalised(name: str) -> str:
    """A column's name as it is compared: ``Image Name`` is ``image_name``."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def find_name(names: Iterable[str], wanted: Sequence[str]) -> str | None:
    """Which of ``names`` has a role, given the role's usual names."""
    known: dict[str, str] = {}
    for name in names:
        known.setdefault(normalised(name), name)
    return next((known[name] for name in wanted if name in known), None)


def picture_name(names: Iterable[str]) -> str | None:
    """The column or key that names the picture; its id where nothing else does."""
    names = list(names)
    return find_name(names, PICTURE_NAMES) or find_name(names, _NAMES_BY_DEFAULT)


def caption_names(names: Iterable[str]) -> list[str]:
    """The column or key of captions, with any numbered ones (``caption_1`` ... ``caption_5``)."""
    names = list(names)
    numbered = [name for name in names if _NUMBERED_CAPTION.match(normalised(name))]
    one = find_name(names, CAPTION_NAMES)
    return [one, *numbered] if one is not None else numbered


def model_name(names: Iterable[str]) -> str | None:
    """The column or key of the model that wrote the captions; None where no model did.

    ``model`` may also be a camera's or a car's. Beside a caption's stands how sure the model was.
    """
    names = list(names)
    return find_name(names, ("model",)) if find_name(names, _SURENESS) else None


def is_edited(value: Any) -> bool:
    """Whether a value of ``edited`` says that a person has edited the caption."""
    return str("" if value is None else value).strip().lower() not in NO
