"""The pictures of a folder, found by what files of captions call them: by path, file name or id.

Folders often have pictures of one file name, as ``cats/001.jpg`` and ``dogs/001.jpg``. The picture
of an image is the one whose path, read from its end, has most folders in common with the image's.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate, takewhile
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
        start: the folders of the image's path before those within the folder of the pictures.
        num_leading: how many of these lead to that folder; the last of them is its own name.
        goes_on: whether others stand before them, or none leads there.
    """

    path: Path
    fit: _Fit
    start: tuple[str, ...]
    num_leading: int
    goes_on: bool


class PictureFolder:
    """The pictures in a folder and in the folders below it, without hidden ones."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            ScoringError: there is no such folder.
        """
        check_folder(folder)
        self.folder = folder
        self.num_pictures = 0
        self._above = Path(os.path.abspath(folder)).parts
        # The one picture whose path ends in these parts, or consists of them; or SEVERAL.
        self._by_tail: dict[str, Path | str] = {}
        self._by_path: dict[str, Path | str] = {}
        for parent, _, names in os.walk(folder):
            inner = Path(parent).relative_to(folder)
            for name in filter(is_picture_name, names):
                if not is_hidden((inner / name).as_posix()):
                    self._add(Path(parent, name), inner.parts)

    def _add(self, path: Path, inner: Sequence[str]) -> None:
        self.num_pictures += 1
        for spelling in _spellings(path.name):
            tails = _tails(inner, spelling)
            for tail in tails:
                self._by_tail[tail] = SEVERAL if tail in self._by_tail else path
            self._by_path[tails[-1]] = SEVERAL if tails[-1] in self._by_path else path

    def find(self, images: Sequence[Sequence[str]]) -> list[Path | str]:
        """The picture of each image of a file of captions, or the reason why there is none.

        If a picture fits several images, those that fit best have it; these may be several. The
        others are of another folder, and so are all images whose paths start as theirs do. If the
        path of an image leads through this folder's own name, as ``day1/1.jpg`` in ``day1``, images
        with other folders there are of another folder, too: ``day2/3.jpg``.

        Args:
            images: the names of each, the one that says most first.

        Returns:
            A path, ``MISSING``, or ``SEVERAL`` where the names fit several pictures equally well.
        """
        found = [self._of_names(names) for names in images]
        known = [one for one in found if isinstance(one, _Found)]
        best: dict[Path, _Found] = {}
        for one in known:
            best[one.path] = max(best.get(one.path, one), one, key=lambda found: found.fit)
        num_leading = max((one.num_leading for one in known), default=0)
        elsewhere = {one.start for one in known if _shows_another_folder(one, best[one.path])}
        return [
            one
            if isinstance(one, str)
            else MISSING
            if one.fit < best[one.path].fit
            or (one.goes_on and one.num_leading < num_leading)
            or any(one.start[:num] in elsewhere for num in range(1, len(one.start) + 1))
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

    def _of_names(self, names: Sequence[str]) -> _Found | str:
        reason = MISSING
        for name in names:
            *folders, file = PurePosixPath(name.replace("\\", "/")).parts or ("",)
            fits = self._fits(folders, file)
            best = max(fits, default=None)
            if best is None:
                continue
            if isinstance(path := fits[best], Path):
                return self._found(path, best, folders)
            reason = SEVERAL
        return reason

    def _found(self, path: Path, fit: _Fit, folders: Sequence[str]) -> _Found:
        num_within = min(fit.num_folders, len(path.relative_to(self.folder).parts) - 1)
        start = tuple(folders[: len(folders) - num_within])
        # This folder's name may stand anywhere: pictures may have been moved to another depth.
        leading = [(self._num_above(start[:end]), end) for end in range(1, len(start) + 1)]
        goes_on = bool(start) and all(num < end for num, end in leading)
        return _Found(path, fit, start, max((num for num, _ in leading), default=0), goes_on)

    def _fits(self, folders: Sequence[str], file: str) -> dict[_Fit, Path | str]:
        """The picture of each fit that the parts of a name have here; or ``SEVERAL``."""
        fits: dict[_Fit, Path | str] = {}
        for spelling in _spellings(file):
            is_file_name = spelling == file
            for num, tail in enumerate(_tails(folders, spelling)):
                if tail not in self._by_tail:
                    break  # nor is there a longer one
                fits[_Fit(num, is_file_name, False)] = self._by_tail[tail]
                if tail in self._by_path:
                    before = folders[: len(folders) - num]
                    fit = _Fit(num + self._num_above(before), is_file_name, True)
                    fits[fit] = SEVERAL if fit in fits else self._by_path[tail]
        return fits

    def _num_above(self, folders: Sequence[str]) -> int:
        """How many of these, read from the end, are this folder and those above it."""
        pairs = zip(reversed(folders), reversed(self._above), strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _shows_another_folder(one: _Found, best: _Found) -> bool:
    """Whether an image is of another folder, as ``best`` fits its picture better."""
    return (
        one.goes_on
        and one.fit.num_folders < best.fit.num_folders
        and one.start != best.start[: len(one.start)]
    )


def check_folder(folder: Path) -> None:
    """
    Raises:
        ScoringError: there is no such folder.
    """
    if not folder.is_dir():
        raise ScoringError(f"{folder}: no such folder of pictures")


def _spellings(file: str) -> tuple[str, str]:
    """The name of a file, and what ``same_image`` keeps of it, marked as no file's name."""
    return file, f"{same_image(file)}.*"


def _tails(folders: Sequence[str], file: str) -> list[str]:
    """The ends of a path, the shortest first: ``1.jpg``, ``cats/1.jpg``, ``pets/cats/1.jpg``."""
    return list(accumulate(reversed(folders), lambda tail, part: f"{part}/{tail}", initial=file))
