"""The pictures of a folder, found by what files of captions call them: by path, file name or id.

Folders often have pictures of one file name, as ``cats/001.jpg`` and ``dogs/001.jpg``. The picture
of an image is the one whose path, read from its end, has most folders in common with the image's.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from showtell.data.pictures import is_hidden, is_picture_name
from showtell.errors import ScoringError
from showtell.metrics.coco_io import same_image

MISSING = "no picture"
SEVERAL = "more than one picture"
SHARED = "only a shared picture"


class _Fit(NamedTuple):
    """How well a name fits the path of a picture; of two, the better one is the greater.

    Attributes:
        num_folders: before the file's name, read from the end, that are the same in both.
        is_file_name: whether the file's name is the same, not only what ``same_image`` keeps of it.
        is_whole: whether the picture's path within the folder of the pictures is the same.
    """

    num_folders: int
    is_file_name: bool
    is_whole: bool


class _Found(NamedTuple):
    """A picture of an image, and how it was found.

    Attributes:
        level: of agreement of their paths: 0 where they differ within the folder of the pictures,
            1 where they differ in its own path, 2 where its name is the same.
        is_elsewhere: whether the image's path goes on where it differs from the picture's.
    """

    path: Path
    fit: _Fit
    level: int
    is_elsewhere: bool


class PictureFolder:
    """The pictures in a folder and in the folders below it, without hidden ones."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            ScoringError: there is no such folder.
        """
        if not folder.is_dir():
            raise ScoringError(f"{folder}: no such folder of pictures")
        self.folder = folder
        self._above = Path(os.path.abspath(folder)).parts
        self._alike: dict[str, list[Path]] = {}
        for parent, _, names in os.walk(folder):
            for path in (Path(parent, name) for name in filter(is_picture_name, names)):
                if not is_hidden(path.relative_to(folder).as_posix()):
                    self._alike.setdefault(same_image(path.name), []).append(path)

    @property
    def num_pictures(self) -> int:
        return sum(map(len, self._alike.values()))

    def find(self, images: Sequence[Sequence[str]]) -> list[Path | str]:
        """The picture of each image of a file of captions, or the reason why there is none.

        If a picture fits several images, those that fit best have it; these may be several.

        Args:
            images: the names of each, the one that says most first.

        Returns:
            A path, ``MISSING``, or ``SEVERAL`` where the names fit several pictures equally well.
        """
        found = [self._of_one(names) for names in images]
        known = [one for one in found if isinstance(one, _Found)]
        level = max((one.level for one in known), default=0)
        best: dict[Path, _Fit] = {}
        for one in known:
            best[one.path] = max(one.fit, best.get(one.path, one.fit))
        return [
            one
            if isinstance(one, str)
            # Paths of other images show where they start: this one leads to another folder.
            else MISSING
            if one.fit < best[one.path] or (one.is_elsewhere and one.level < level)
            else one.path
            for one in found
        ]

    def of_ids(self, image_ids: Iterable[str]) -> dict[str, Path | str]:
        """The same by image id, with ``SHARED`` where several images would have one picture."""
        image_ids = list(image_ids)
        found = self.find([[image_id] for image_id in image_ids])
        num = Counter(one for one in found if isinstance(one, Path))
        return {
            image_id: SHARED if isinstance(one, Path) and num[one] > 1 else one
            for image_id, one in zip(image_ids, found, strict=True)
        }

    def _of_one(self, names: Sequence[str]) -> _Found | str:
        reason = MISSING
        for name in names:
            found = [self._found(path, name) for path in self._alike.get(same_image(name), [])]
            best = max((one.fit for one in found), default=None)
            found = [one for one in found if one.fit == best]
            if len(found) == 1:
                return found[0]
            reason = SEVERAL if found else reason
        return reason

    def _found(self, path: Path, name: str) -> _Found:
        *inner, file = path.relative_to(self.folder).parts
        *folders, own_file = PurePosixPath(name.replace("\\", "/")).parts
        pairs = zip(reversed(folders), reversed((*self._above, *inner)), strict=False)
        num = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        level = 2 if num > len(inner) else 1 if num == len(inner) else 0
        fit = _Fit(num, file == own_file, num >= len(inner))
        return _Found(path, fit, level, is_elsewhere=num < len(folders))
