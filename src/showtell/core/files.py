"""Files that a reader never sees half written, bounded reading, and locks between processes.

A file is written beside its target under a temporary name, flushed to the disk and renamed.
``read_bounded`` and ``read_json`` read files that somebody else may have made: a device, an
enormous file or deep nesting is an error at once. A lock is the operating system's own, so it ends
with its process, however that ends.
"""

import errno
import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import IO, Any


class CannotWriteError(OSError):
    """A file or folder cannot be written; ``filename`` is the one that was asked for."""


@contextmanager
def errors_about(path: Path, temporary: Path) -> Iterator[None]:
    """Let errors of the block that are about ``temporary`` speak of ``path``.

    Raises:
        FileNotFoundError: there is no folder for it.
        CannotWriteError: it cannot be written for another reason.
    """
    try:
        yield
    except OSError as error:
        if not str(error.filename).startswith(str(temporary)) or error.errno == errno.ENOSPC:
            raise
        if error.errno == errno.ENOENT and not path.parent.exists():
            folder = str(path.parent)
            raise FileNotFoundError(errno.ENOENT, "no such folder", folder) from None
        raise CannotWriteError(error.errno, error.strerror, str(path)) from None


def free_name(path: Path) -> Path:
    """A name for a file whose place another takes: ``NAME.bak``, ``NAME.bak2``, ..."""
    names = (f"{path.name}.bak{number if number > 1 else ''}" for number in count(1))
    return next(place for place in map(path.with_name, names) if not os.path.lexists(place))


@contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file that takes the name ``path`` when the block ends without an error.

    Raises:
        OSError: as ``errors_about``, or the disk is full; ``path`` is as it was.
    """
    if path.is_dir():
        raise IsADirectoryError(
            errno.EISDIR, "is a folder, but a file has to be written there", str(path)
        )
    if is_special(path):  # renaming would put a regular file in its place
        raise OSError(
            errno.EINVAL, "is a device or a pipe, but a file has to be written there", str(path)
        )
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    encoding = None if "b" in mode else "utf-8"
    with errors_about(path, temporary):
        try:
            with open(temporary, mode, encoding=encoding) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with atomic_write(path) as file:
        file.write(text)


def json_text(value: Any, *, indent: int | None = 2) -> str:
    """``value`` as readable JSON; nan and infinities, which JSON lacks, are null."""

    def dumped(value: Any) -> str:
        return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)

    try:
        return dumped(value)
    except ValueError:  # so rare that only then all is copied
        return dumped(without_nan(value))


def without_nan(value: Any) -> Any:
    """A copy in which nan and infinities, however deep, are None."""
    if isinstance(value, dict):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any, *, indent: int | None = 2) -> None:
    """Write ``value`` as ``json_text`` has it, atomically."""
    write_text(path, json_text(value, indent=indent) + "\n")


def short_digest(*parts: str | bytes, length: int = 12) -> str:
    """The first ``length`` hex digits of the SHA-256 of all parts, one after another."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()[:length]


def json_digest(value: Any) -> str:
    """16 hex digits that identify a JSON value, in whatever order its objects have their keys."""
    return short_digest(json.dumps(value, sort_keys=True), length=16)


def is_special(path: Path) -> bool:
    """Whether a device, a pipe or a socket is at ``path``, or where a link there leads."""
    return path.exists() and not path.is_file() and not path.is_dir()


def check_regular(path: Path) -> int:
    """The size in bytes of a regular file; reading a device or a pipe might never end.

    Raises:
        OSError: there is none, or something else is in its place.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    return found.st_size


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """The bytes of a file that has ``most_bytes`` at most.

    Raises:
        OSError: it cannot be read, or is not a regular file.
        ValueError: it is larger.
    """
    if (size := check_regular(path)) > most_bytes:
        raise ValueError(f"{path.name} has {size:,} bytes; expected {most_bytes:,} at most")
    with open(path, "rb") as file:
        return file.read(most_bytes)


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text that somebody else may have made.

    Raises:
        ValueError: it is not JSON, not UTF-8, or nested too deeply for Python.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: Path, most_bytes: int) -> Any:
    """The value in a JSON file that has ``most_bytes`` at most.

    Raises:
        OSError, ValueError: as ``read_bounded``, or it is not JSON in UTF-8.
    """
    text = read_bounded(path, most_bytes).decode()
    try:
        return parse_json(text)
    except ValueError as error:
        raise ValueError(f"{path.name} is not JSON: {error}") from None


def lock(file: IO[bytes]) -> bool:
    """Take the lock on an open file until it is closed, or the process ends in any way.

    Returns:
        Whether it was free; False where another process holds it.
    """
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


LOCK_FILE = ".lock"


class InUseError(Exception):
    """Another process has locked a file or a folder."""


def open_locked(path: Path) -> IO[bytes]:
    """Open a file to read it and append to it, made where there is none, with the lock on it.

    Raises:
        InUseError: another process has locked it.
        OSError: it cannot be opened.
    """
    while True:
        file = open(path, "a+b")  # noqa: SIM115 - the caller's
        try:
            if not lock(file):
                raise InUseError(str(path))
            # A process that ended between the two lines above has removed the file that we locked.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    return file
        except BaseException:
            file.close()
            raise
        file.close()


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Keep other processes that lock ``folder`` out of it; made where it is not there yet.

    A folder that was made here and stays empty is removed in the end.

    Raises:
        InUseError: another process has locked it.
        OSError: it cannot be made, or written into.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_FILE
    try:
        file = open_locked(path)
    except InUseError:
        raise InUseError(str(folder)) from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file; a lock file left over is harmless
            path.unlink()
        file.close()
        if is_new:
            with suppress(OSError):
                folder.rmdir()


def cache_folder() -> Path:
    """Where showtell keeps what can be made again: ``SHOWTELL_CACHE``, else the user's cache."""
    if chosen := os.environ.get("SHOWTELL_CACHE"):
        return Path(chosen)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "showtell"
    return Path.home() / ".cache" / "showtell"
