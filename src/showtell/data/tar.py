"""The members of tar archives, read from front to back.

``tarfile`` takes a cut-off archive for one that has ended, and reads a header's own text into
memory whatever its size. ``members`` notes how the archive ended, and refuses such a header.
"""

import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, Self

MOST_HEADER_BYTES = 2**20  # of a header's own text: names, not contents


def members(file: IO[bytes]) -> Iterator[tuple[tarfile.TarInfo, Callable[[], bytes]]]:
    """The members of an archive; the second is called for a regular file's content, if at all.

    Args:
        file: Never sought in, so a pipe will do. The compression is found out.

    Raises:
        ValueError: a header's own text is larger than ``MOST_HEADER_BYTES``.
        tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError: the archive is damaged or
            cut off; the members before were right.
    """
    with tarfile.open(fileobj=file, mode="r|*", tarinfo=_Header) as archive:
        for member in archive:
            yield member, partial(_content, archive, member)
            archive.members.clear()  # type: ignore[attr-defined]  # else it keeps every header
        if not isinstance(getattr(archive, "ended_by", None), tarfile.EOFHeaderError):  # type: ignore[attr-defined]
            raise tarfile.ReadError("it has no end mark, so it may be cut off")


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None
    return file.read()


class _Header(tarfile.TarInfo):
    """A header that notes in its archive what ended it.

    Raises:
        ValueError: the header's own text (a long name, extended attributes) is larger than
            ``MOST_HEADER_BYTES``.
    """

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:  # the name is the base class's
        try:
            return super().fromtarfile(tarfile)
        except Exception as error:
            tarfile.ended_by = error  # type: ignore[attr-defined]
            raise

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.type in (b"L", b"K", b"x", b"g", b"X") and member.size > MOST_HEADER_BYTES:
            raise ValueError(f"a member's header has {member.size:,} bytes")
        return member
