"""The pictures that a user names on the command line: files, folders, globs."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from showtell.data.pictures import is_picture_name
from showtell.errors import DataError


def expand_pictures(names: Iterable[str]) -> list[Path]:
    """Files as they are named, folders with all the pictures below them in order, globs.

    A file that does not exist is kept: whoever opens it says so, and goes on with the others.

    Raises:
        DataError: a folder has no picture in it, or a glob matches nothing.
    """
    paths: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            found = list(_pictures_below(path))
            if not found:
                raise DataError(f"the folder {name!r} has no pictures in it")
            paths += found
        elif not path.exists() and glob.has_magic(name):
            matches = [Path(match) for match in sorted(glob.glob(name, recursive=True))]
            if not matches:
                raise DataError(f"no file matches {name!r}")
            paths += matches
        else:
            paths.append(path)
    return paths


def _pictures_below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):  # does not follow links, so no loops
        folders.sort()
        for file in sorted(files):
            if is_picture_name(file):
                yield Path(parent, file)
