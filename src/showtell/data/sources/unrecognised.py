"""What to say, and what to try next, about data whose format nobody recognises."""

import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from showtell.data.pictures import (
    describe_unsupported,
    is_hidden,
    is_picture_name,
    is_unsupported_picture,
)
from showtell.data.reading import printable

_TABLES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".txt")
_MOST_FOLDERS = 50


def advice(path: Path, is_data: Callable[[Path], bool], formats: Iterable[str]) -> str:
    """One line about a path that is not a data set as it stands.

    Args:
        path: A file or folder that exists.
        is_data: Whether some source recognises a file.
        formats: The names of all formats.
    """
    if path.is_dir():
        names = _names_below(path)
        picture = next((name for name in names if is_picture_name(name)), None)
        files = [file for file in _tables(path) if is_data(file)]
        if files:
            given = " or ".join(shlex.quote(str(file)) for file in files[:3])
            return f"{path} is {_what_lies_at(path)}; give the file with the captions: {given}"
        if picture is not None:
            stem = printable(Path(picture).stem)
            return (
                f"{path} is {_what_lies_at(path)}, without captions: write the caption of "
                f"{printable(picture)} into {stem}.txt beside it, and so on; or let a model write "
                f"them: showtell caption {shlex.quote(str(path))} --format sidecar"
            )
        unread = Counter(
            Path(name).suffix.lower() for name in names if is_unsupported_picture(name)
        )
        if unread:
            return f"{path} holds no picture that can be read; {describe_unsupported(unread)}"
        if not names:
            return (
                f"{path} is {_what_lies_at(path)}; put pictures into it, each with a .txt of the "
                "same name that has its captions, or give another folder"
            )
    elif is_picture_name(path.name):
        return (
            f"{path} is one picture; give a folder of pictures with their captions; or, to "
            f"caption it: showtell caption {shlex.quote(str(path))}"
        )
    return (
        f"cannot tell the format of {path}: found {_what_lies_at(path)}; say which with --format "
        f"(one of {', '.join(formats)}; docs/formats.md shows each)"
    )


def _names_below(folder: Path) -> list[str]:
    """The names of the files in a folder and in the folders right below it, hidden ones not."""
    below = [
        path for path in sorted(folder.iterdir()) if path.is_dir() and not is_hidden(path.name)
    ]
    names = []
    for place in (folder, *below[:_MOST_FOLDERS]):
        try:
            names += sorted(name for name in os.listdir(place) if not is_hidden(name))
        except OSError:  # a folder without permission
            continue
    return names


def _tables(folder: Path) -> list[Path]:
    """Files that may hold captions, in a folder or its ``annotations``."""
    return [
        file
        for place in (folder, folder / "annotations")
        if place.is_dir()
        for file in sorted(place.iterdir())
        if file.suffix.lower() in _TABLES and file.is_file() and not is_hidden(file.name)
    ]


def _what_lies_at(path: Path) -> str:
    if not path.is_dir():
        kind = f"a {path.suffix} file" if path.suffix else "a file without an ending"
        return f"{kind} of {path.stat().st_size:,} bytes"
    endings: Counter[str] = Counter()
    with os.scandir(path) as entries:
        for entry in entries:
            ending = os.path.splitext(entry.name)[1] or "other"
            endings["folders" if entry.is_dir() else ending] += 1
    if not endings:
        return "an empty folder"
    counts = ", ".join(f"{count:,} {printable(kind)}" for kind, count in endings.most_common(6))
    return f"a folder with {counts}"
