"""What the reading of a data set looked at, so that it is known when it has to be read again.

Whoever opens a file or lists a folder says so to ``note_input``; what was said within
``watch_inputs`` is kept, each with a stamp that changes when the file, or the folder's list of
names, does.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

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
