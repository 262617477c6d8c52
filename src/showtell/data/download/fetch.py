"""One large file over HTTP: fetched in pieces, resumed where it stopped, checked at its end.

What has come so far lies in ``NAME.part``; beside it ``NAME.part.json`` says which version of the
file it belongs to (its ETag or date, RFC 9110, sections 8.8 and 14). The next request asks for the
rest with ``Range`` and ``If-Range``: a server whose file has changed then sends all of it, and
reading starts anew. A server may know no ranges, say one thing and send another, or break off;
each is noticed, by the answer's own headers, by the size, and by the sum where one is known.
"""

import hashlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from showtell.core.files import write_json
from showtell.core.progress import Progress
from showtell.data.download.catalogue import Archive
from showtell.errors import DataError, reason_of
from showtell.version import __version__

PIECE = 2**20  # bytes that are read at once
TIMEOUT = 60.0  # seconds without a byte
TRIES = 5  # in a row without a byte of progress
WAIT = 2.0  # seconds before the second try; doubled for each one after
LONG = 2**30  # bytes whose sum takes seconds
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # statuses that another try may cure
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(slots=True)
class _Part:
    """What has come of a file, and which version of it that is."""

    path: Path
    total: int = 0
    validator: str = ""

    @property
    def state(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def load(self, url: str) -> None:
        """Read what an earlier run left; what is of another address is dropped."""
        try:
            value = json.loads(self.state.read_bytes())
            if value["url"] != url:
                raise ValueError(url)
            self.total, self.validator = int(value["total"]), str(value["validator"])
        except (OSError, ValueError, KeyError, TypeError):
            self.drop()

    def save(self, url: str) -> None:
        write_json(self.state, {"url": url, "total": self.total, "validator": self.validator})

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)
        self.total, self.validator = 0, ""


class _BrokenOffError(Exception):
    """The connection ended early, or could not be made; another try may help."""


def remote_size(archive: Archive) -> int:
    """The size of a file in bytes, as the table or else the server has it; 0 where neither does.

    Raises:
        DataError: the server says that there is no such file, or cannot be reached.
    """
    if archive.num_bytes:
        return archive.num_bytes
    try:
        with _open(archive.url, {}, method="HEAD") as answer:
            return _length(answer.headers)
    except _BrokenOffError as error:
        raise DataError(f"cannot reach {archive.url}: {error}; try again later") from None


def bytes_there(archive: Archive, folder: Path) -> int:
    """How many bytes of a file lie in ``folder`` from an earlier run."""
    whole, part = folder / archive.name, folder / f"{archive.name}.part"
    return next((path.stat().st_size for path in (whole, part) if path.is_file()), 0)


def fetch_file(
    archive: Archive,
    folder: Path,
    *,
    progress: Progress | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Path:
    """Fetch a file, or what is missing of it.

    Args:
        archive: Which.
        folder: Where to; it exists.
        progress: Called with the bytes that are there, and all bytes (0 where nobody knows).
        note: Called with a sentence where something had to be done again.

    Returns:
        The file, checked.

    Raises:
        DataError: there is no such file, the connection keeps breaking off, or what came is not
            what it should be. What has come is kept, unless it was wrong.
    """
    target = folder / archive.name
    if target.is_file():
        return target
    part = _Part(folder / f"{archive.name}.part")
    part.load(archive.url)
    failures, furthest = 0, part.size
    while not (part.total and part.size == part.total):
        try:
            _fetch_rest(archive, part, progress, note)
            if not part.total:  # a file of unknown size ends where its connection ends
                break
        except _BrokenOffError as error:
            # What is lost comes a second time, which is no progress.
            failures = 1 if part.size > furthest else failures + 1
            furthest = max(furthest, part.size)
            if failures >= TRIES:
                raise DataError(
                    f"{archive.url}: {error}, {TRIES} times; {part.size:,} bytes are kept, and the "
                    "same command continues from there"
                ) from None
            if failures > 1:
                time.sleep(WAIT * 2 ** (failures - 2))
    if archive.sha256 and part.size > LONG:
        note(f"{archive.name}: all bytes are there; checking their sum")
    _check(archive, part)
    os.replace(part.path, target)
    part.drop()
    return target


def _fetch_rest(
    archive: Archive, part: _Part, progress: Progress | None, note: Callable[[str], None]
) -> None:
    """One request: append what comes to the part.

    Raises:
        _BrokenOffError: less came than was promised.
        DataError: the server refuses, or the file is larger than it may be.
    """
    headers = {}
    start = part.size
    if start and part.validator:
        headers = {"Range": f"bytes={start}-", "If-Range": part.validator}
    elif start:  # nothing says whether the rest would be of the same file
        part.drop()
        start = 0
    with _open(archive.url, headers) as answer:
        if answer.status == 416:  # no such range: the file has become shorter
            note(f"{archive.name} has changed at its address; fetched anew")
            part.drop()
            raise _BrokenOffError("the file has changed while it was fetched")
        if answer.status == 206:
            _check_range(answer, start, part, note, archive.name)
        elif start:
            note(f"{archive.name}: the server sends all of it again, not the rest; fetched anew")
            part.drop()
            start = 0
        if not start:
            part.total = _length(answer.headers)
            part.validator = _validator(answer.headers)
            if archive.num_bytes and part.total and part.total != archive.num_bytes:
                raise DataError(
                    f"{archive.url} has {part.total:,} bytes, expected {archive.num_bytes:,}; "
                    "this address has a different file"
                )
            part.save(archive.url)
        _append(answer, part, start, progress, most=archive.num_bytes)


def _check_range(
    answer: Any, start: int, part: _Part, note: Callable[[str], None], name: str
) -> None:
    """Whether a partial answer begins where it should, of a file of the same size.

    Raises:
        _BrokenOffError: it does not; the part is dropped.
    """
    match = _RANGE.fullmatch(answer.headers.get("Content-Range") or "")
    total = match[3] if match else "*"
    validator = _validator(answer.headers)
    is_other = bool(validator and validator != part.validator)
    if match is None or int(match[1]) != start or total != str(part.total) or is_other:
        note(f"{name}: the server sent the wrong range; starting again")
        part.drop()
        raise _BrokenOffError("the server ignores ranges")


def _append(answer: Any, part: _Part, start: int, progress: Progress | None, *, most: int) -> None:
    """Append what comes.

    Args:
        most: bytes that the file may have, whatever the server says or leaves unsaid; 0: any.

    Raises:
        _BrokenOffError: less came than was promised, or more.
        DataError: the file is larger than it may be.
    """
    num_bytes = start
    with open(part.path, "ab" if start else "wb") as file:
        while True:
            try:
                piece = answer.read(PIECE)
            except (OSError, http.client.HTTPException) as error:
                raise _BrokenOffError(_reason(error)) from None
            if not piece:
                break
            num_bytes += len(piece)
            if most and num_bytes > most:
                file.close()
                part.drop()
                raise DataError(f"more bytes came than the {most:,} expected; they were deleted")
            if part.total and num_bytes > part.total:
                file.close()
                part.drop()
                raise _BrokenOffError("more bytes came than the file has")
            file.write(piece)
            if progress is not None:
                progress(num_bytes, part.total)
    if part.total and num_bytes < part.total:
        raise _BrokenOffError(f"broke off after {num_bytes:,} of {part.total:,} bytes")


def _check(archive: Archive, part: _Part) -> None:
    """
    Raises:
        DataError: the file has another size or sum than it should; it is deleted.
    """
    size = part.size
    if archive.num_bytes and size != archive.num_bytes:
        part.drop()
        raise DataError(
            f"{archive.url} gave {size:,} bytes, expected {archive.num_bytes:,}; they were deleted"
        )
    if not archive.sha256:
        return
    with open(part.path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != archive.sha256:
        part.drop()
        raise DataError(
            f"{archive.name} has the sha256 {found}, expected {archive.sha256}; it was deleted. "
            "Run the same command again; if it says so again, the file at its address has changed"
        )


def _open(url: str, headers: dict[str, str], *, method: str = "GET") -> Any:
    """The answer to a request; 416 is one.

    Raises:
        _BrokenOffError: no connection, or a status that may pass.
        DataError: the server refuses.
    """
    asked = {
        "User-Agent": f"showtell/{__version__}",
        "Accept-Encoding": "identity",
        **headers,
    }
    request = urllib.request.Request(url, headers=asked, method=method)
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            return error
        error.close()
        if error.code in PASSING:
            raise _BrokenOffError(f"the server answers {error.code} {error.reason}") from None
        raise DataError(
            f"{url}: the server answers {error.code} {error.reason}; the file may have moved"
        ) from None
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        raise _BrokenOffError(_reason(error)) from None


def _length(headers: Any) -> int:
    """The bytes that an answer says it has; 0 where it does not say, or nothing sensible."""
    length = headers.get("Content-Length") or ""
    return int(length) if re.fullmatch(r"[0-9]{1,18}", length) else 0


def _validator(headers: Any) -> str:
    """What names this version of the file: a strong ETag, else the date of its last change."""
    tag = headers.get("ETag") or ""
    if tag and not tag.startswith("W/"):
        return str(tag)
    return str(headers.get("Last-Modified") or "")


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return reason_of(reason) if isinstance(reason, BaseException) else str(reason)
