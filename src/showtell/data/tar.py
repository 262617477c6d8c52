"""Headers of tar archives that are read from front to back.

``tarfile`` takes a cut-off archive for one that has ended, and reads a header's own text into
memory whatever its size. ``TarMember`` notes how the archive ended, and refuses such a header.
"""

import tarfile
from typing import Self

MOST_HEADER_BYTES = 2**20  # of a header's own text: names, not contents


class TarMember(tarfile.TarInfo):
    """A header; give the class to ``tarfile.open`` as ``tarinfo``.

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


def has_end_mark(archive: tarfile.TarFile) -> bool:
    """Whether an archive of ``TarMember``s, read to its end, has an end mark and is not cut off."""
    return isinstance(getattr(archive, "ended_by", None), tarfile.EOFHeaderError)  # type: ignore[attr-defined]
