"""The first stage: every picture is opened once, and those that look the same are put together.

So a broken picture, and a second copy of one, cost nothing at the teacher. Pictures that are not
files (of archives, tables and URLs) are written into the stage's folder, where training finds them.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from showtell.bulk.inputs import Inputs
from showtell.bulk.journal import Journal
from showtell.bulk.naming import split_name
from showtell.core.files import atomic_write
from showtell.core.prefetch import work_ahead
from showtell.core.progress import Reporter
from showtell.data.duplicates import Look, NearDuplicates, can_look, look_of
from showtell.data.records import Record
from showtell.errors import DataError, ImageError, MissingExtraError, UnavailableError
from showtell.images.open import open_image
from showtell.inference.stream import Picture, fetched_ahead

LIST = "pictures.jsonl"
SIDE = 64  # pixels: a JPEG is decoded at a fraction of its size, yet read to its end
BATCH = 32
_SUFFIXES = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"GI": ".gif", b"RI": ".webp", b"BM": ".bmp"}


@dataclass(frozen=True, slots=True)
class Known:
    """A picture that can be read.

    Attributes:
        name: as the user's inputs name it.
        file: where it lies.
        look: what it looks like; None where nobody asked.
        same_as: the name of an earlier picture that looks the same.
    """

    name: str
    file: Path
    look: Look | None = None
    same_as: str | None = None


class Counts(NamedTuple):
    """What a survey found, in pictures.

    Attributes:
        readable: that can be read.
        same: those of them that look like an earlier one.
        failed: that cannot be read.
        passing: those of them that failed for a reason that may pass.
    """

    readable: int
    same: int
    failed: int
    passing: int


def survey(inputs: Inputs, folder: Path, *, with_looks: bool, report: Reporter) -> Counts:
    """Open each picture and list it in ``folder``.

    A call goes on where one before it was stopped, or met failures that may pass. Files that have
    changed since then are opened again.

    Raises:
        DataError: none can be read, or another process is writing there.
        MissingExtraError: ``imagehash`` is not installed, and looks were asked for.
    """
    if with_looks and not can_look():
        what = "finding pictures that look the same (--filter near_duplicates=false does without)"
        raise MissingExtraError("dedupe", what)
    identity = {
        "kind": "pictures of a distillation",
        "names": list(inputs.names),
        "looks": with_looks,  # the marks of copies follow from it
    }
    target = folder / LIST
    with Journal(target.with_name(f"{LIST}.partial"), identity, restart=True) as journal:
        seen = _still_true(journal, inputs)
        looks = _Looks()
        for known in seen.values():  # anew, for an original may be gone or have changed
            looks.place(known)
        num_passing = 0

        def look(picture: Picture) -> dict[str, Any]:
            return _record(picture, folder, with_look=with_looks)

        with closing(fetched_ahead(_left(inputs, seen))) as left:
            opened = work_ahead(
                left, look, batch_size=BATCH, overlaps=False, weigh=lambda picture: picture.weight
            )
            for _, record in opened:
                looks.place(record)
                if record.pop("may_pass", False):
                    num_passing += 1
                else:
                    journal.add([record])
                seen[record["path"]] = record
                report.progress("opening", len(seen), inputs.count or 0, "pictures")
        records = list(seen.values())
        with atomic_write(target) as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
        if not num_passing:  # else the next call opens those alone
            journal.remove()
    failed = [record for record in records if "error" in record]
    if len(failed) == len(records):
        example = f": {failed[0]['error']}" if failed else ""
        raise DataError(f"none of the {len(records):,} pictures can be read{example}")
    num_same = sum("same_as" in record for record in records)
    return Counts(len(records) - len(failed), num_same, len(failed), num_passing)


def known_pictures(folder: Path) -> Iterator[Known]:
    """The readable pictures that ``survey`` listed."""
    for record in _records(folder):
        if "error" not in record:
            look = Look.from_text(record["look"]) if "look" in record else None
            yield Known(record["path"], Path(record["file"]), look, record.get("same_as"))


def failures(folder: Path) -> list[dict[str, Any]]:
    """Those that cannot be read, each with ``path`` and ``error``."""
    return [record for record in _records(folder) if "error" in record]


def fingerprint_of(inputs: Inputs) -> dict[str, Any]:
    """What a list of pictures was made of: how many, and a hash of their names and sizes."""
    digest, number = hashlib.sha256(), 0
    for picture in inputs:
        number += 1
        try:
            size = -1 if picture.read is not None else Path(picture.path).stat().st_size
        except (OSError, ValueError):
            size = -1
        line = f"{picture.path}\0{size}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return {"number of pictures": number, "names and sizes": digest.hexdigest()[:16]}


def looks_of_records(records: tuple[Record, ...], report: Reporter) -> Mapping[str, Look]:
    """What captioned pictures look like, by image id; those that cannot be read are left out."""
    found: dict[str, Look] = {}
    for number, record in enumerate(records, 1):
        try:
            found[record.image_id] = look_of(open_image(record.path, min_side=SIDE))
        except ImageError:
            continue
        report.progress("opening", number, len(records), "pictures")
    return found


class _Looks:
    """Finds the first picture with a look."""

    def __init__(self) -> None:
        self._duplicates = NearDuplicates()
        self._names: list[str] = []

    def place(self, record: dict[str, Any]) -> None:
        """Give a record ``same_as``, the name of the first with its look; not to the first one."""
        record.pop("same_as", None)
        if "look" not in record:
            return
        look = Look.from_text(record["look"])
        number = self._duplicates.find(look)
        if number is not None:
            record["same_as"] = self._names[number]
            return
        self._duplicates.add(look)
        self._names.append(record["path"])


def _still_true(journal: Journal, inputs: Inputs) -> dict[str, dict[str, Any]]:
    """The journal's records of pictures that are named and have not changed, by their names."""
    if not journal.done:
        return {}
    stamps = {str(picture.path): _stamp(picture) for picture in inputs}
    found: dict[str, dict[str, Any]] = {}
    for record in journal.all_records():
        name = record["path"]
        found.pop(name, None)  # of several records the last counts, in its place
        if name in stamps and record.get("stamp") == stamps[name]:
            found[name] = record
    return found


def _stamp(picture: Picture) -> list[int] | None:
    """Size and time of change of a picture's file, or of its archive; None where there is none.

    So it is None for URLs, whose records stay as they are.
    """
    name = str(picture.path)
    try:
        info = os.stat(name if picture.read is None else split_name(name)[0])
    except (OSError, ValueError):
        return None
    return [info.st_size, info.st_mtime_ns]


def _left(inputs: Inputs, seen: Mapping[str, Any]) -> Iterator[Picture]:
    """The pictures that are not in the journal yet; none comes twice."""
    asked: set[str] = set()
    for picture in inputs:
        name = str(picture.path)
        if name not in seen and name not in asked:
            asked.add(name)
            yield picture


def _record(picture: Picture, folder: Path, *, with_look: bool) -> dict[str, Any]:
    name, stamp = str(picture.path), _stamp(picture)  # before it is opened: it may change now
    begun = {"path": name} | ({} if stamp is None else {"stamp": stamp})
    try:
        if picture.read is None:
            file = Path(picture.path).absolute()
            image = open_image(file, min_side=SIDE)
        else:
            content = picture.read()
            image = open_image(content, min_side=SIDE, name=name)
            file = _keep(content, folder / "files").absolute()
    except ImageError as error:
        text = str(error)
        failure = begun | {"error": text if name in text else f"{name}: {text}"}
        return failure | {"may_pass": isinstance(error, UnavailableError)}
    record = begun | {"file": str(file)}
    return record | ({"look": look_of(image).to_text()} if with_look else {})


def _keep(content: bytes, folder: Path) -> Path:
    """A file with this content, named by its hash."""
    folder.mkdir(parents=True, exist_ok=True)
    suffix = _SUFFIXES.get(content[:2], ".img")
    path = folder / f"{hashlib.sha256(content).hexdigest()[:24]}{suffix}"
    if not path.exists():
        with atomic_write(path, "wb") as file:
            file.write(content)
    return path


def _records(folder: Path) -> Iterator[dict[str, Any]]:
    with open(folder / LIST, encoding="utf-8") as lines:
        yield from map(json.loads, lines)
