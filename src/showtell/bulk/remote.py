"""Pictures behind URLs: ``s3://``, ``gs://``, ``https://`` and what else fsspec knows."""

import re
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from showtell.data.pictures import is_picture_name
from showtell.errors import DataError, ImageError, MissingExtraError
from showtell.inference.stream import Picture

MOST_BYTES = 2**28
"""A picture of more bytes than this is refused."""


def is_url(name: str) -> bool:
    """Whether a name has a scheme, ``s3://``; not a drive of Windows."""
    return re.match(r"[a-z][a-z0-9+.-]+://", name, re.IGNORECASE) is not None


def name_of(path: Path) -> str:
    """What the user named: of ``s3://lake`` a ``Path`` has made ``s3:/lake``."""
    return re.sub(r"^([a-z][a-z0-9+.-]+):/(?!/)", r"\1://", str(path), flags=re.IGNORECASE)


def expand(url: str) -> list[str]:
    """The files that a URL stands for: itself, those that a glob matches, or a folder's pictures.

    Raises:
        DataError: there is none, or the store cannot be reached.
        MissingExtraError: fsspec is not installed.
    """
    files, path = _open(url)
    try:
        if any(sign in path for sign in "*[") and not url.startswith("http"):
            found = sorted(files.glob(path))
        elif not url.startswith("http") and files.isdir(path):
            found = sorted(name for name in files.find(path) if is_picture_name(name))
        else:
            return [url]
    except Exception as error:  # each store has errors of its own
        raise DataError(f"{url}: {_one_line(error)}") from None
    if not found:
        raise DataError(f"{url}: no pictures there")
    return [str(files.unstrip_protocol(name)) for name in found]


def picture(url: str) -> Picture:
    """The picture behind a URL; it is fetched when its turn comes."""
    return Picture(url, partial(fetch, url))


def fetch(url: str) -> bytes:
    """The bytes behind a URL.

    Raises:
        ImageError: they cannot be had, or are more than ``MOST_BYTES``.
    """
    try:
        with open_url(url) as file:
            content = file.read(MOST_BYTES + 1)
    except Exception as error:
        raise ImageError(_one_line(error)) from None
    if len(content) > MOST_BYTES:
        raise ImageError(f"has more than {MOST_BYTES:,} bytes")
    return content


def open_url(url: str) -> BinaryIO:
    """The file behind a URL, open for reading.

    Raises:
        DataError, MissingExtraError: as ``expand``; and what the store itself raises.
    """
    files, path = _open(url)
    return cast(BinaryIO, files.open(path, "rb"))


def exists(url: str) -> bool:
    """Whether there is a file."""
    files, path = _open(url)
    return bool(files.exists(path))


def put(local: str, url: str) -> None:
    """Copy a local file there; object stores show it when it is whole."""
    files, path = _open(url)
    parent = path.rpartition("/")[0]
    if parent:
        files.makedirs(parent, exist_ok=True)
    files.put_file(local, path)


def _open(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError:
        raise MissingExtraError("remote", "reading URLs") from None
    try:
        files, path = url_to_fs(url)
    except ImportError as error:  # the store's own package; fsspec names it
        raise DataError(f"{url}: {_one_line(error)}") from None
    except ValueError as error:
        raise DataError(f"{url}: {_one_line(error)}") from None
    return files, str(path)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
