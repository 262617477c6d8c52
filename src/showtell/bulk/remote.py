"""Pictures behind URLs: ``s3://``, ``gs://``, ``https://`` and whatever else fsspec opens.

A URL that a person typed is opened as it is. A URL from a list may come from a stranger:
``listed_picture`` refuses URLs that lead into this machine or its cloud's own services (server-side
request forgery), even through a redirect or a host name.
"""

import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from showtell.bulk.naming import broken, is_picture_member
from showtell.core.urls import (
    address_in,
    fetch,
    is_internal,
    is_metadata,
    is_url,
    is_web,
    open_store,
    plain_address,
    reason_of_fsspec,
)
from showtell.errors import DataError
from showtell.inference.stream import Picture

# Schemes of stores. A downloaded list may name these and its own, and nothing that is local.
STORE_SCHEMES = frozenset(
    ("http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "hf")
)

REQUESTS_AT_ONCE = 32


def name_of(path: Path) -> str:
    """What the user named: of ``s3://lake`` a ``Path`` has made ``s3:/lake``."""
    return re.sub(r"^([a-z][a-z0-9+.-]+):/(?!/)", r"\1://", str(path), flags=re.IGNORECASE)


def expand(url: str, left_out: Counter[str]) -> list[str]:
    """The files that a URL stands for: itself, those that a glob matches, or a folder's pictures.

    Args:
        left_out: counts, by suffix, the files of a folder that showtell does not read.

    Raises:
        DataError: there is none, or the store cannot be reached.
        MissingExtraError: fsspec is not installed.
    """
    files, path = open_store(url)
    with _errors_of(url):
        if any(sign in path for sign in "*[") and not url.startswith("http"):
            found = sorted(files.glob(path))
        elif not url.startswith("http") and files.isdir(path):
            names = sorted(str(name) for name in files.find(path))
            start = len(path.rstrip("/")) + 1
            found = [name for name in names if is_picture_member(name[start:], left_out)]
        else:
            return [url]
    if not found:
        raise DataError(f"{url}: no pictures there")
    return [str(files.unstrip_protocol(name)) for name in found]


def listed_picture(name: str, source: str) -> Picture:
    """The picture that a list or a table names; one that fails where it must not be fetched.

    Args:
        name: a URL; where ``source`` is one too, also a name as seen from its folder.
        source: the list or table, a path or a URL.
    """
    try:
        return _allowed(name, source)
    except ValueError as error:  # of a URL that cannot be taken apart
        return broken(name, f"is not a URL: {reason_of_fsspec(error)}")


def _allowed(name: str, source: str) -> Picture:
    url = urljoin(f"{source.rpartition('/')[0]}/", name) if is_web(source) else name
    if is_url(source) and "://" not in url:
        if url.startswith("/"):
            return broken(
                name, f"is a path on this machine, which {source}, a downloaded list, may not name"
            )
        url = f"{source.rpartition('/')[0]}/{url}"
    if is_url(source):
        scheme = urlsplit(url).scheme.lower()
        if "::" in url or scheme not in STORE_SCHEMES | {urlsplit(source).scheme.lower()}:
            return broken(name, f"{scheme}:// is refused in a downloaded list; name it yourself")
    refuses = is_internal if is_url(source) and not _is_within(source) else is_metadata
    if is_web(url) and (address := address_in(url)) is not None and refuses(address):
        return broken(name, f"{address} is an address within this network or machine: refused")
    return Picture(url, partial(fetch, url, refuses))


@contextmanager
def _errors_of(url: str) -> Iterator[None]:
    """Raise DataError for whatever a store raises; each has errors of its own."""
    try:
        yield
    except Exception as error:
        raise DataError(f"{url}: {reason_of_fsspec(error)}") from None


def names_in(folder: str) -> set[str]:
    """The names of all files in a folder, listed anew; none where there is no such folder.

    Raises:
        DataError: the store cannot be reached, or refuses it; and as ``open_store``. So do the
            functions below.
    """
    files, path = open_store(folder)
    with _errors_of(folder):
        files.invalidate_cache()
        try:
            found = files.ls(path, detail=False)
        except FileNotFoundError:
            return set()
    return {str(name).rstrip("/").rpartition("/")[2] for name in found}


def contents_of(folder: str, names: Sequence[str]) -> list[bytes]:
    """What is in files of a folder, of each in order; many are read at a time."""
    files, path = open_store(folder)
    with _errors_of(folder):
        return _each(files.cat_file, path, names)


def get(url: str, local: str) -> bool:
    """Copy a file from there; False where there is none."""
    files, path = open_store(url)
    with _errors_of(url):
        try:
            files.get_file(path, local)
        except FileNotFoundError:
            Path(local).unlink(missing_ok=True)
            return False
    return True


def remove(folder: str, names: Sequence[str]) -> None:
    """Remove those of these files that are in a folder, many at a time."""
    files, path = open_store(folder)

    def remove_one(place: str) -> None:
        with suppress(FileNotFoundError):
            files.rm_file(place)

    with _errors_of(folder):
        _each(remove_one, path, names)


def _each(work: Callable[[str], Any], folder: str, names: Sequence[str]) -> list[Any]:
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        return list(pool.map(work, [f"{folder.rstrip('/')}/{name}" for name in names]))


def put(local: str, url: str) -> None:
    """Copy a local file there; object stores show it when it is whole."""
    files, path = open_store(url)
    parent = path.rpartition("/")[0]
    with _errors_of(url):
        if parent:
            files.makedirs(parent, exist_ok=True)
        files.put_file(local, path)


@lru_cache(maxsize=64)
def _is_within(url: str) -> bool:
    """Whether a list's own host is within this network: it may then name its neighbours."""
    host = (urlsplit(url).hostname or "") if is_web(url) else ""
    if not host:
        return False
    try:
        found = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):  # whoever opens it says so
        return False
    return all(is_internal(plain_address(str(entry[4][0]))) for entry in found)
