"""``scenes``, ``scenes:500``, ``scenes:de``, ``scenes:zh:500``: the built-in set.

By the language of its captions, and by its number of training pictures.
"""

import re
from pathlib import Path

from showtell.data.records import Dataset
from showtell.data.scenes import LANGUAGES, NUM_TRAIN, render_scenes, scenes_folder
from showtell.data.sources.base import Source
from showtell.errors import DataError

MAX_TRAIN = 99_999  # numbers in the ids have five digits
_NAME = re.compile(r"scenes(?::(?P<language>[a-z]{2}))?(?::(?P<number>\d{1,9}))?")


def is_scenes(data: str) -> bool:
    """Whether what the user gave means the built-in set."""
    return _NAME.fullmatch(data) is not None


def matches(path: Path) -> bool:
    """``scenes`` is a name and no path, so nothing on disk is recognised as it."""
    return False


def load(path: Path, images: Path | None) -> Dataset:
    """Render what is not yet in the cache, and read the set.

    Raises:
        DataError: not a name as above, an unknown language, a number out of range, ``--images``
            given, or the cache folder cannot be written.
    """
    name = str(path)
    match = _NAME.fullmatch(name)
    if match is None:
        raise DataError(
            f"{name} is not the built-in set; write scenes, scenes:NUMBER or scenes:LANGUAGE"
        )
    language = match["language"] or "en"
    if language not in LANGUAGES:
        raise DataError(f"{name}: scenes are captioned in {', '.join(LANGUAGES)}; not {language}")
    num_train = int(match["number"] or NUM_TRAIN)
    if not 10 <= num_train <= MAX_TRAIN:
        raise DataError(f"{name}: the number of training pictures goes from 10 to {MAX_TRAIN:,}")
    if images is not None:
        raise DataError(f"{name} renders its own pictures; leave out --images {images}")
    try:
        records = render_scenes(num_train, language=language)
    except OSError as error:
        raise DataError(
            f"cannot write the pictures of scenes to {scenes_folder()}: {error.strerror}; "
            "set SHOWTELL_CACHE to a folder that can be written"
        ) from None
    notes = (f"the built-in set, rendered into {scenes_folder()}",)
    return Dataset(name, "scenes", records, (), notes)


SOURCE = Source(
    name="scenes",
    description="the built-in set of coloured shapes: scenes, scenes:NUMBER of pictures, or "
    "scenes:de and scenes:zh in German and Chinese",
    looks_for="",
    matches=matches,
    load=load,
)
