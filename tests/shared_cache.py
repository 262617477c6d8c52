"""What takes long to make, made once: METEOR's tables for all caches, and a folder of the run."""

import fcntl
import os
from functools import cache
from pathlib import Path

import pytest

from showtell.core.files import cache_folder
from showtell.metrics.meteor import tables

OWN = cache_folder() / "meteor"  # the user's, so that the next run of the tests finds them


_folders: list[Path] = []


def open_folder(factory: pytest.TempPathFactory) -> None:
    """Choose what ``folder`` returns: the folder that all workers have in common."""
    base = factory.getbasetemp()
    _folders[:] = [base.parent if "PYTEST_XDIST_WORKER" in os.environ else base]


def folder() -> Path:
    """A folder of this run of the tests, of all its processes."""
    return _folders[0]


@cache
def _converted() -> Path:
    """Where the tables are: one process converts them, and the others wait for it."""
    OWN.mkdir(parents=True, exist_ok=True)
    lock = os.open(OWN, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tables.load(OWN)
    finally:
        os.close(lock)
    return OWN


def share_meteor(cache: Path) -> None:
    """Give ``cache``, a folder for ``SHOWTELL_CACHE``, METEOR's tables.

    Their conversion takes 20 seconds, which each new cache would pay anew.
    """
    target = cache / "meteor"
    if tables.is_installed() and not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        target.symlink_to(_converted())
