"""ZIP archives unpacked into a folder that no member leaves.

Each file is written under a temporary name and renamed when its sum (CRC-32) was right, so a run
that was stopped continues: files that are there in their full size are passed over. Links, absolute
names, names with ``..`` and hidden leftovers of file managers are never written.
"""

import os
import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from showtell.core.progress import Progress
from showtell.data.pictures import is_hidden, leaves_folder
from showtell.data.reading import is_text, printable
from showtell.errors import DataError

PIECE = 2**20
MOST_RATIO = 200  # unpacked bytes of a packed one; a bomb has thousands
SMALL = 2**24  # bytes: below it, any ratio does no harm


def members_of(archive: Path, wanted: Sequence[str] = ()) -> list[zipfile.ZipInfo]:
    """The files of an archive that may be unpacked.

    Args:
        archive: A ZIP file.
        wanted: The beginnings of their names; empty: all.

    Raises:
        DataError: it is not a ZIP file, none of its files is wanted, or one of them is hostile.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            found = opened.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DataError(f"{archive} cannot be unpacked: {error}") from None
    chosen = [
        member
        for member in found
        if not member.is_dir()
        and not is_hidden(member.filename)
        and (not wanted or member.filename.startswith(tuple(wanted)))
    ]
    for member in chosen:
        if fault := _fault(member):
            name = printable(member.filename)
            raise DataError(f"{archive}: {name} {fault}, so nothing of it was unpacked")
    if not chosen:
        names = ", ".join(printable(member.filename) for member in found[:5]) or "nothing"
        raise DataError(f"{archive} holds no {' or '.join(wanted) or 'file'}; it holds {names}")
    return chosen


def _fault(member: zipfile.ZipInfo) -> str:
    name = member.filename
    kind = stat.S_IFMT(member.external_attr >> 16)
    if leaves_folder(name) or "\0" in name or not is_text(name):
        return "leads out of the folder"
    if kind not in (0, stat.S_IFREG):
        return "is a link or a device"
    if member.flag_bits & 1:
        return "is encrypted"
    if member.file_size > max(SMALL, MOST_RATIO * member.compress_size):
        return f"becomes {member.file_size:,} bytes of {member.compress_size:,}"
    return ""


def unpacked_bytes(members: Sequence[zipfile.ZipInfo], folder: Path) -> int:
    """How many bytes unpacking will still write."""
    return sum(member.file_size for member in members if not _is_there(member, folder))


def _is_there(member: zipfile.ZipInfo, folder: Path) -> bool:
    try:
        found = os.stat(folder / member.filename)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == member.file_size


def extract(
    archive: Path,
    members: Sequence[zipfile.ZipInfo],
    folder: Path,
    *,
    progress: Progress | None = None,
) -> int:
    """Unpack files that are not there yet.

    Args:
        archive: The ZIP file.
        members: Of it, as ``members_of`` gave them.
        folder: Where to.
        progress: Called with how many files are done, and how many there are.

    Returns:
        How many files were written.

    Raises:
        DataError: the archive is damaged; what was unpacked before is kept.
        OSError: the disk is full, or the folder cannot be written.
    """
    root = os.path.realpath(folder)
    num_written = 0
    with zipfile.ZipFile(archive) as opened:
        for done, member in enumerate(members, 1):
            if not _is_there(member, folder):
                target = Path(root, member.filename)
                target.parent.mkdir(parents=True, exist_ok=True)
                real = os.path.realpath(target.parent)
                if real != root and not real.startswith(os.path.join(root, "")):
                    # A folder that is a link may lead elsewhere, whoever made it.
                    raise DataError(f"{target.parent} is a link that leads out of {folder}")
                _write(opened, member, target, archive)
                num_written += 1
            if progress is not None:
                progress(done, len(members))
    return num_written


def _write(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, archive: Path) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with opened.open(member) as source, open(temporary, "wb") as file:
            while piece := source.read(PIECE):
                file.write(piece)
        os.replace(temporary, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DataError(
            f"{archive} is damaged at {printable(member.filename)}: {error}; delete it, and run "
            "the same command again"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
