"""Files behind URLs, read by fsspec: ``https://``, ``s3://``, ``gs://`` and whatever else it opens.

A URL is opened where somebody names it, and nothing here looks for URLs in other files. Whoever
opens URLs from strangers says which internet addresses no connection may be made to.
"""

import errno
import io
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, BinaryIO, cast
from urllib.parse import unquote, urlsplit

from showtell.errors import (
    DataError,
    ImageError,
    ShowtellError,
    UnavailableError,
    needs_extra,
    one_line,
)

MOST_BYTES = 2**28
"""A picture of more bytes than this is refused."""

BYTES_A_READ = 2**18

SECONDS_OF_SILENCE = 30.0
"""A web server that sends nothing for so long while a picture is fetched is not waited for."""

MOST_SECONDS = 300.0  # of the fetch of one picture from the web

MOST_SAID = 200  # characters of an error of fsspec that are shown

TOO_SLOW = "its host takes too long to answer"
NOT_THERE = "404, there is no such file"

PHRASES = {status.value: status.phrase for status in HTTPStatus}

PASSING_STATUSES = (408, 425, 429)
"""Answers of a web server that ask for patience, besides those of 500 and more."""

LASTING_ERRORS = (FileNotFoundError, IsADirectoryError, PermissionError, ValueError)
"""What stays as it is, however often a URL is tried."""

# Where clouds tell a machine its credentials, where that is not a link-local address: Amazon's
# over IPv6, Alibaba's, Oracle's, Azure's.
METADATA_ADDRESSES = frozenset(
    map(ip_address, ("fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"))
)
NAT64 = ip_network("64:ff9b::/96")

Address = IPv4Address | IPv6Address


class TooManyBytesError(ImageError):
    """A picture's file has more bytes than are wanted."""


def is_url(name: str) -> bool:
    """Whether a name has a scheme, ``s3://``; ``file://`` and a drive of Windows are not URLs."""
    found = re.match(r"([a-z][a-z0-9+.-]+)://", name, re.IGNORECASE)
    return found is not None and found[1].lower() != "file"


def local_path(name: str) -> str:
    """The path behind ``file:///home/me/cat.jpg`` or ``file:/home/me/cat.jpg``; else the name."""
    if not name.lower().startswith("file:/"):
        return name
    path = name[len("file:") :]
    if not path.startswith("//"):
        return unquote(path)
    host, slash, path = path[2:].partition("/")
    return unquote(f"{slash}{path}") if slash else host


def fetch(
    url: str, refuses: Callable[[Address], bool] | None = None, *, most: int | None = None
) -> bytes:
    """The bytes behind a URL.

    Args:
        refuses: tells of an internet address that no connection may be made to.
        most: how many bytes there may be; None: ``MOST_BYTES``.

    Raises:
        UnavailableError: they cannot be had, but a later try may succeed: a time out, a host that
            is busy or not reached.
        TooManyBytesError: they are more than ``most``.
        ImageError: they cannot be had.
    """
    most = MOST_BYTES if most is None else most
    content = bytearray()
    try:
        files, path = open_store(url, refuses)
        how = _as_one_stream() if is_web(url) else {}
        with files.open(path, "rb", **how) as file:
            while len(content) <= most and (part := file.read(min(BYTES_A_READ, most + 1))):
                content += part
    except TimeoutError as error:
        is_slow = not is_web(url) or _is_silence(error)
        reason = TOO_SLOW if is_slow else f"not fetched within {MOST_SECONDS:g} s"
        raise UnavailableError(reason) from None
    except Exception as error:
        kind = ImageError if _is_lasting(error, url) else UnavailableError
        raise kind(reason_of_fsspec(error).removeprefix(f"{url}: ")) from None
    if len(content) > most:
        raise TooManyBytesError(f"has more than {most:,} bytes")
    return bytes(content)


def _as_one_stream() -> dict[str, Any]:
    """How fsspec opens a file of the web that is asked for once, and not for its size before."""
    from aiohttp import ClientTimeout

    silence = SECONDS_OF_SILENCE
    timeout = ClientTimeout(total=MOST_SECONDS, sock_connect=silence, sock_read=silence)
    return {"block_size": 0, "size": 1, "timeout": timeout}


def _is_silence(error: TimeoutError) -> bool:
    """Whether a web server sent nothing for too long; else it sends, but its time is over."""
    from aiohttp import ServerTimeoutError

    return isinstance(error.__cause__ or error, ServerTimeoutError)


def _is_lasting(error: BaseException, url: str) -> bool:
    """Whether a URL that could not be read would fail again: it is not there, or it is refused."""
    # Of whatever fails in the web, fsspec says that there is no such file; the reason is the cause.
    while (is_web(url) or isinstance(error, DataError)) and error.__cause__ is not None:
        error = error.__cause__
    if _is_wrong_redirect(error):
        return True
    status = getattr(error, "status", None)  # of aiohttp's errors about a server's answer
    if isinstance(status, int):
        return 400 <= status < 500 and status not in PASSING_STATUSES
    return isinstance(error, LASTING_ERRORS)


def open_url(url: str, refuses: Callable[[Address], bool] | None = None) -> BinaryIO:
    """The file behind a URL, open for reading; what fails while it is read is an OSError.

    Raises:
        DataError: it cannot be opened; and as ``open_store``.
        MissingExtraError: as ``open_store``.
    """
    files, path = open_store(url, refuses)
    try:
        file = files.open(path, "rb")
    except Exception as error:  # each store has errors of its own
        reason = reason_of_fsspec(error).removeprefix(f"{url}: ")
        raise DataError(f"cannot read {url}: {reason}") from None
    return cast(BinaryIO, io.BufferedReader(_StoreFile(file), BYTES_A_READ))


class _StoreFile(io.RawIOBase):
    """A file that fsspec has opened, whose errors of any kind are OSErrors."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with _as_os_error():
            self._file.seek(offset, whence)
            return int(self._file.tell())

    def tell(self) -> int:
        with _as_os_error():
            return int(self._file.tell())

    def readinto(self, buffer: Any) -> int:
        with _as_os_error():
            content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise OSError(reason_of_fsspec(error)) from error


def open_store(url: str, refuses: Callable[[Address], bool] | None = None) -> tuple[Any, str]:
    """What fsspec opens a URL's store with, and the path in there.

    Raises:
        DataError: there is no such kind of store, its own package is not installed, or it has no
            credentials.
        MissingExtraError: fsspec, or what it reads the web with, is not installed.
    """
    with needs_extra("remote", "reading URLs"):
        from fsspec.core import url_to_fs
    options = {}
    if is_web(url):
        with needs_extra("remote", f"reading {url}"):
            import aiohttp  # noqa: F401 - what fsspec reads the web with
        if refuses is not None:
            options["get_client"] = _CLIENTS[refuses]
    try:
        files, path = url_to_fs(url, **options)
    except Exception as error:  # each store has errors of its own
        raise DataError(f"{url}: {reason_of_fsspec(error)}") from error
    return files, str(path)


def is_web(url: str) -> bool:
    """Whether it is a URL of the web."""
    return url.lower().startswith(("http://", "https://"))


def address_in(url: str) -> Address | None:
    """The address that a URL names by its number; None where it names a host."""
    try:
        return plain_address(urlsplit(url).hostname or "")
    except ValueError:
        return None


def plain_address(text: str) -> Address:
    """An address; an IPv4 address that is written as an IPv6 one as what it is."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_metadata(address: Address) -> bool:
    """Whether clouds tell a machine its credentials there."""
    return address.is_link_local or address in METADATA_ADDRESSES


def is_internal(address: Address) -> bool:
    """Whether it is an address within this machine or its network."""
    return not address.is_global or is_metadata(address)


def _client(refuses: Callable[[Address], bool]) -> Callable[..., Any]:
    """Makes the session that fsspec reads the web with; it looks at every address it connects to.

    So a host name or a redirect that leads to a refused address is refused as well.
    """

    async def get_client(**options: Any) -> Any:
        import aiohttp

        def connect(info: Any) -> socket.socket:
            address = plain_address(str(info[4][0]))
            if refuses(address):
                reason = f"{address} is an address within this network or machine: refused"
                raise PermissionError(errno.EACCES, reason)
            return socket.socket(info[0], info[1], info[2])

        connector = aiohttp.TCPConnector(socket_factory=connect)
        return aiohttp.ClientSession(connector=connector, **options)

    return get_client


_CLIENTS: dict[Callable[[Address], bool], Callable[..., Any]] = {
    refuses: _client(refuses) for refuses in (is_metadata, is_internal)
}


def reason_of_fsspec(error: BaseException) -> str:
    """One line of about 200 characters at most, unless the error is one of showtell's own.

    Where fsspec says only which URL failed, the reason is that of the error below it.
    """
    if isinstance(error, ShowtellError):
        return one_line(error)
    if words := _in_words(error):
        return words
    cause, told = error.__cause__, str(error)
    if "://" not in told or " " in told:
        return one_line(error, MOST_SAID)
    if cause is not None:
        return reason_of_fsspec(cause)
    return NOT_THERE if isinstance(error, FileNotFoundError) else one_line(error, MOST_SAID)


def _in_words(error: BaseException) -> str:
    """What an error of aiohttp or a time out means, without what a server said; else empty."""
    if isinstance(error, TimeoutError):
        return TOO_SLOW
    aiohttp = sys.modules.get("aiohttp")  # only where it is in use already: it is slow to import
    if aiohttp is None:
        return ""
    if isinstance(error, aiohttp.TooManyRedirects):
        return "redirects too often"
    if isinstance(error, aiohttp.NonHttpUrlRedirectClientError):
        scheme = str(error).partition(":")[0][:20]
        return f"redirects to something that is not the web ({scheme}:)"
    if isinstance(error, aiohttp.InvalidUrlRedirectClientError):
        return "redirects to something that is not a URL"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "its answer was cut off, or damaged on the way"
    if not isinstance(error, aiohttp.ClientResponseError):
        return ""
    if isinstance(error.__cause__, aiohttp.http.HttpProcessingError):
        return "answered with something that is not HTTP"
    if error.status == HTTPStatus.NOT_FOUND:
        return NOT_THERE
    return f"{error.status}, {PHRASES.get(error.status, 'which is no status of HTTP')}"


def _is_wrong_redirect(error: BaseException) -> bool:
    """Whether a redirect leads in circles, or to what is not of the web."""
    aiohttp = sys.modules.get("aiohttp")
    if aiohttp is None:
        return False
    return isinstance(error, (aiohttp.TooManyRedirects, aiohttp.RedirectClientError))
