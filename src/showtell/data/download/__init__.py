"""``showtell data download``: published data sets, fetched from where their makers put them.

``catalogue.py`` has the addresses, ``fetch.py`` fetches one file, ``extract.py`` unpacks one. Here
is the order of it all: one archive after the other is fetched, checked, unpacked and deleted, and
what is done is noted, so that the same command continues where an earlier one stopped.
"""

import json
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from showtell.core.files import InUseError, locked_folder, write_json
from showtell.core.progress import Progress, Reporter
from showtell.data.download.catalogue import Archive, Published
from showtell.data.download.extract import extract, members_of, unpacked_bytes
from showtell.data.download.fetch import bytes_there, fetch_file, remote_size
from showtell.errors import DataError

INSIDE = ".download"  # within the folder: archives while they come, and what is done
DONE = "done.json"
ROOM_TO_SPARE = 256 * 2**20  # bytes that stay free on the disk
MEGABYTE = 10**6


@dataclass(frozen=True, slots=True)
class Plan:
    """What a download will do.

    Attributes:
        published: The data set.
        folder: Where to.
        sizes: The bytes of each archive that is not unpacked yet; 0 where nobody knows.
        to_fetch: How many bytes have to come.
        to_write: How much room on the disk that takes at most, unpacked and archives.
    """

    published: Published
    folder: Path
    sizes: dict[Archive, int]
    to_fetch: int
    to_write: int

    @property
    def is_done(self) -> bool:
        """Whether all is there already."""
        return not self.sizes


def plan_download(published: Published, folder: Path) -> Plan:
    """Find out what is missing in ``folder``.

    Raises:
        DataError: ``folder`` is a file, or an address does not answer.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"--to {folder} is a file; give the name of a folder")
    done = _done(folder)
    missing = [archive for archive in published.archives if _key(archive) not in done]
    sizes = {archive: remote_size(archive) for archive in missing}
    there = {archive: bytes_there(archive, folder / INSIDE) for archive in missing}
    to_fetch = sum(max(0, sizes[archive] - there[archive]) for archive in missing)
    # Pictures do not get smaller in an archive. Each archive is deleted when it is unpacked.
    unpacked = sum(sizes.values())
    largest = max(sizes.values(), default=0)
    return Plan(published, folder, sizes, to_fetch, unpacked + largest - sum(there.values()))


def download(plan: Plan, report: Reporter, *, keep: bool = False) -> None:
    """Fetch and unpack what is missing.

    Args:
        plan: From ``plan_download``.
        report: Gets progress and notes.
        keep: Leave the archives in the folder ``.download``.

    Raises:
        DataError: no room, no connection, a wrong sum, a damaged or hostile archive, or another
            process that downloads into the same folder.
    """
    folder = plan.folder
    folder.mkdir(parents=True, exist_ok=True)
    _check_room(folder, plan.to_write)
    inside = folder / INSIDE
    try:
        with locked_folder(inside):
            for archive in plan.sizes:
                _get(archive, folder, report, keep)
    except InUseError:
        raise DataError(f"another process downloads into {folder}; wait for it to end") from None


def _get(archive: Archive, folder: Path, report: Reporter, keep: bool) -> None:
    inside = folder / INSIDE

    def fetched(done: int, total: int) -> None:
        report.progress(f"fetching {archive.name}", done // MEGABYTE, total // MEGABYTE, "MB")

    file = fetch_file(archive, inside, progress=fetched, note=report.note)
    members = members_of(file, archive.members)
    _check_room(folder, unpacked_bytes(members, folder))
    extract(file, members, folder, progress=_watch(report, f"unpacking {archive.name}"))
    write_json(inside / DONE, sorted({*_done(folder), _key(archive)}))
    if not keep:
        file.unlink()
    report.note(f"{archive.name}: {len(members):,} files in {folder}")


def _watch(report: Reporter, task: str) -> Progress:
    return lambda done, total: report.progress(task, done, total, "files")


def _key(archive: Archive) -> str:
    """What names an unpacked archive: of one archive, two data sets may take different members."""
    return " ".join((archive.url, *archive.members))


def _done(folder: Path) -> set[str]:
    try:
        value = json.loads((folder / INSIDE / DONE).read_bytes())
    except (OSError, ValueError):
        return set()
    return {key for key in value if isinstance(key, str)} if isinstance(value, list) else set()


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed + ROOM_TO_SPARE > free:
        raise DataError(
            f"{needed / 1e9:,.1f} GB are needed on the disk of {folder}, and {free / 1e9:,.1f} GB "
            "are free; free some space, or name a folder on another disk with --to"
        )


def next_steps(plan: Plan) -> list[str]:
    """What to do with the data set now: things to do by hand, then the line that trains on it."""
    published, folder = plan.published, shlex.quote(str(plan.folder))
    data = shlex.quote(str(plan.folder / published.data)) if published.data else folder
    steps = [line.format(folder=folder) for line in published.by_hand]
    return [*steps, f"train on it: showtell train {data} -o runs/{published.name}"]
