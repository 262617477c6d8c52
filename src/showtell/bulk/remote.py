"""Pictures behind URLs: ``s3://``, ``gs://``, ``https://`` and whatever else fsspec opens.

A URL that a person typed is opened as it is. A URL from a list may come from a stranger:
``listed_picture`` refuses URLs that lead into this machine or its cloud's own services (server-side
request forgery), even through a redirect or a host name.
"""

import errno
import re
import socket
from collections import Counter
from collections.abc import Callable
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import unquote, urljoin, urlsplit

from showtell.bulk.naming import broken, is_picture_member
from showtell.errors import DataError, ImageError, MissingExtraError
from showtell.inference.stream import Picture

MOST_BYTES = 2**28
"""A picture of more bytes than this is refused."""

# Schemes of stores. A downloaded list may name these and its own, and nothing that is local.
STORE_SCHEMES = frozenset(
    ("http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "hf")
)

# Where clouds tell a machine its credentials, where that is not a link-local address: Amazon's
# over IPv6, Alibaba's, Oracle's, Azure's.
METADATA_ADDRESSES = frozenset(
    map(ip_address, ("fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"))
)
NAT64 = ip_network("64:ff9b::/96")

Address = IPv4Address | IPv6Address


def is_url(name: str) -> bool:
    """Whether a name has a scheme, ``s3://``; ``file://`` and a drive of Windows are no URLs."""
    found = re.match(r"([a-z][a-z0-9+.-]+)://", name, re.IGNORECASE)
    return found is not None and found[1].lower() != "file"


def local_path(name: str) -> str:
    """The path behind ``file:///home/me/cat.jpg``; another name as it is."""
    if not name.lower().startswith("file://"):
        return name
    host, slash, path = name[len("file://") :].partition("/")
    return unquote(f"{slash}{path}") if slash else host


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
    files, path = _open(url)
    try:
        if any(sign in path for sign in "*[") and not url.startswith("http"):
            found = sorted(files.glob(path))
        elif not url.startswith("http") and files.isdir(path):
            names = sorted(str(name) for name in files.find(path))
            start = len(path.rstrip("/")) + 1
            found = [name for name in names if is_picture_member(name[start:], left_out)]
        else:
            return [url]
    except Exception as error:  # each store has errors of its own
        raise DataError(f"{url}: {_one_line(error)}") from None
    if not found:
        raise DataError(f"{url}: no pictures there")
    return [str(files.unstrip_protocol(name)) for name in found]


def picture(url: str) -> Picture:
    """The picture behind a URL that a person named; it is fetched when its turn comes."""
    return Picture(url, partial(fetch, url))


def listed_picture(name: str, source: str) -> Picture:
    """The picture that a list or a table names; one that fails where it must not be fetched.

    Args:
        name: a URL; where ``source`` is one too, also a name as seen from its folder.
        source: the list or table, a path or a URL.
    """
    try:
        return _allowed(name, source)
    except ValueError as error:  # of a URL that cannot be taken apart
        return broken(name, f"is not a URL: {_one_line(error)}")


def _allowed(name: str, source: str) -> Picture:
    url = urljoin(f"{source.rpartition('/')[0]}/", name) if _is_web(source) else name
    if is_url(source) and "://" not in url:
        if url.startswith("/"):
            return broken(name, f"is a path of this machine, and {source} is a downloaded list")
        url = f"{source.rpartition('/')[0]}/{url}"
    if is_url(source):
        scheme = urlsplit(url).scheme.lower()
        if "::" in url or scheme not in STORE_SCHEMES | {urlsplit(source).scheme.lower()}:
            return broken(name, f"{scheme}:// is refused in a downloaded list; name it yourself")
    refuses = _is_internal if is_url(source) and not _is_within(source) else _is_metadata
    if _is_web(url) and (address := _literal(url)) is not None and refuses(address):
        return broken(name, f"{address} is an address within this network or machine: refused")
    return Picture(url, partial(fetch, url, refuses))


def fetch(url: str, refuses: Callable[[Address], bool] | None = None) -> bytes:
    """The bytes behind a URL.

    Args:
        refuses: tells of an internet address that no connection may be made to.

    Raises:
        ImageError: they cannot be had, or are more than ``MOST_BYTES``.
    """
    try:
        with open_url(url, refuses) as file:
            content = file.read(MOST_BYTES + 1)
    except Exception as error:
        raise ImageError(_one_line(error)) from None
    if len(content) > MOST_BYTES:
        raise ImageError(f"has more than {MOST_BYTES:,} bytes")
    return content


def open_url(url: str, refuses: Callable[[Address], bool] | None = None) -> BinaryIO:
    """The file behind a URL, open for reading.

    Raises:
        DataError, MissingExtraError: as ``expand``; and what the store itself raises.
    """
    files, path = _open(url, refuses)
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


def _open(url: str, refuses: Callable[[Address], bool] | None = None) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError:
        raise MissingExtraError("remote", "reading URLs") from None
    options = {}
    if _is_web(url):
        try:
            import aiohttp  # noqa: F401 - what fsspec reads the web with
        except ModuleNotFoundError:
            raise MissingExtraError("remote", f"reading {url}") from None
        if refuses is not None:
            options["get_client"] = _CLIENTS[refuses]
    try:
        files, path = url_to_fs(url, **options)
    except ImportError as error:  # the store's own package; fsspec names it
        raise DataError(f"{url}: {_one_line(error)}") from None
    except ValueError as error:
        raise DataError(f"{url}: {_one_line(error)}") from None
    return files, str(path)


def _is_web(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


def _literal(url: str) -> Address | None:
    """The address that a URL names by its number; None where it names a host."""
    try:
        return _plain(urlsplit(url).hostname or "")
    except ValueError:
        return None


@lru_cache(maxsize=64)
def _is_within(url: str) -> bool:
    """Whether a list's own host is within this network: it may then name its neighbours."""
    host = (urlsplit(url).hostname or "") if _is_web(url) else ""
    if not host:
        return False
    try:
        found = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):  # whoever opens it says so
        return False
    return all(_is_internal(_plain(str(entry[4][0]))) for entry in found)


def _plain(text: str) -> Address:
    """An address; an IPv4 address that is written as an IPv6 one as what it is."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_metadata(address: Address) -> bool:
    return address.is_link_local or address in METADATA_ADDRESSES


def _is_internal(address: Address) -> bool:
    return not address.is_global or _is_metadata(address)


def _client(refuses: Callable[[Address], bool]) -> Callable[..., Any]:
    """Makes the session that fsspec reads the web with; it looks at every address it connects to.

    So a host name or a redirect that leads to a refused address is refused as well.
    """

    async def get_client(**options: Any) -> Any:
        import aiohttp

        def connect(info: Any) -> socket.socket:
            address = _plain(str(info[4][0]))
            if refuses(address):
                reason = f"{address} is an address within this network or machine: refused"
                raise PermissionError(errno.EACCES, reason)
            return socket.socket(info[0], info[1], info[2])

        connector = aiohttp.TCPConnector(socket_factory=connect)
        return aiohttp.ClientSession(connector=connector, **options)

    return get_client


_CLIENTS: dict[Callable[[Address], bool], Callable[..., Any]] = {
    refuses: _client(refuses) for refuses in (_is_metadata, _is_internal)
}


def _one_line(error: Exception) -> str:
    """The reason; where fsspec says only which URL failed, that of what failed below it."""
    cause = error.__cause__
    told = str(error)
    if cause is not None and str(cause) and "://" in told and " " not in told:
        told = str(cause)
    return " ".join(told.split()) or type(error).__name__
