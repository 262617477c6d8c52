"""Reading text and JSON so that whatever is wrong with a file is one line with its place.

Knows nothing of what the files mean.

MERGED: What the reading of a data set looked at, so that it is known when it has to be read again.

Whoever opens a file or lists a folder says so to ``note_input``; what was said within
``watch_inputs`` is kept, each with a stamp that changes when the file, or the folder's list of
names, does.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from showtell.errors import DataError

Stamp = list[int] | None  # size, time of the last change in ns, number of the file; None: not there
Inputs = dict[str, Stamp]

_watched: ContextVar[Inputs | None] = ContextVar("watched", default=None)


@contextmanager
def watch_inputs() -> Iterator[Inputs]:
    """Within it, the files and folders that are looked at, by their absolute paths."""
    inputs: Inputs = {}
    token = _watched.set(inputs)
    try:
        yield inputs
    finally:
        _watched.reset(token)


def note_input(path: str | os.PathLike[str]) -> None:
    """Say, before it is opened, that what is read depends on a file or on a folder's names."""
    inputs = _watched.get()
    if inputs is not None:
        name = os.path.abspath(path)
        inputs.setdefault(name, stamp(name))


def stamp(path: str) -> Stamp:
    """What a file or folder is like now."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8 (JSON escapes and odd file names may not be)."""
    if value.isascii():
        return True
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def printable(value: str) -> str:
    """A string on one line that any terminal and any UTF-8 file takes."""
    safe = value.encode("utf-8", "backslashreplace").decode("utf-8")
    return safe if safe.isprintable() else "".join(map(_escape, safe))


def _escape(character: str) -> str:
    return character if character.isprintable() else repr(character)[1:-1]


def read_text(path: Path) -> str:
    """A UTF-8 file as text, without its byte-order mark.

    Raises:
        DataError: the file is missing, is a folder, cannot be read, or is not UTF-8.
    """
    note_input(path)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"no file {path}") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder, expected a file") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: byte {error.object[error.start]:#04x} is not UTF-8; "
            "save the file as UTF-8"
        ) from None


def parse_json(text: str, path: Path, first_line: int = 1) -> Any:
    """The value of a JSON text that begins on ``first_line`` of ``path``.

    Raises:
        DataError: naming ``path:line:column``.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise DataError(f"{path}:{line}:{error.colno}: bad JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits; 1,000 brackets
        raise DataError(f"{path}:{first_line}: JSON that cannot be read: {error}") from None


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        DataError: as ``read_text`` and ``parse_json``.
    """
    return parse_json(read_text(path), path)


def read_json_object(path: Path) -> dict[str, Any]:
    """The object of a JSON file whose top level must be one.

    Raises:
        DataError: as ``read_json``, or the top level is something else.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, found a {type(value).__name__}")
    return value


def json_list(value: dict[str, Any], key: str, path: Path) -> list[Any]:
    """The list under ``key``.

    Raises:
        DataError: it is missing or no list; the keys that are there are named.
    """
    found = value.get(key)
    if isinstance(found, list):
        return found
    keys = ", ".join(printable(name) for name in list(value)[:12]) or "none"
    raise DataError(f"{path}: expected a list {key!r} at the top level; found keys: {keys}")
