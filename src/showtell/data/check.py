"""Whether pictures decode, how large they are, and which are the same file twice.

Every file is read once: its bytes are decoded and, where another file is of the same size,
hashed. Knows nothing of how a picture is decoded: the caller brings that.
"""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from showtell.data.reading import printable
from showtell.data.records import Problem, Record
from showtell.errors import ImageError

PICTURES_A_TASK = 64

Decode = Callable[[bytes], tuple[int, int]]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class PictureCheck:
    """What was found of one record's picture.

    Attributes:
        width: In pixels, as stored (before any EXIF rotation); 0 where it does not decode.
        height: Likewise.
        digest: sha256 of the file where another one is of the same size, else "".
        error: Why it does not decode, else "".
    """

    width: int
    height: int
    digest: str
    error: str


def decode_pictures(
    records: Sequence[Record], decode: Decode, *, progress: Progress | None = None
) -> list[PictureCheck]:
    """Decode every record's picture, in threads.

    Args:
        decode: Takes a file's bytes, gives width and height; raises ImageError where it cannot.
        records: Whose pictures; the result has their order.
        progress: Called with how many are done, and of how many.
    """
    sizes = [_num_bytes(record) for record in records]
    counts = Counter(sizes)
    tasks = [
        [(record, counts[size] > 1) for record, size in pairs]
        for pairs in _chunks(list(zip(records, sizes, strict=True)))
    ]

    def run(task: list[tuple[Record, bool]]) -> list[PictureCheck]:
        return [_check(record, needs_digest, decode) for record, needs_digest in task]

    checks: list[PictureCheck] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in pool.map(run, tasks):
            checks += done
            if progress is not None:
                progress(len(checks), len(records))
    return checks


def broken_pictures(records: Sequence[Record], checks: Sequence[PictureCheck]) -> list[Problem]:
    """A problem for each picture that does not decode."""
    return [
        Problem("broken picture", printable(str(record.path)), printable(check.error))
        for record, check in zip(records, checks, strict=True)
        if check.error
    ]


def same_pictures(
    records: Sequence[Record], checks: Sequence[PictureCheck]
) -> tuple[list[Problem], list[Problem]]:
    """Files that are byte for byte the same: those within a split, and those across splits.

    The second kind leaks: what is tested or validated on was trained on.
    """
    groups: dict[str, list[Record]] = defaultdict(list)
    for record, check in zip(records, checks, strict=True):
        if check.digest:
            groups[check.digest].append(record)
    within, across = [], []
    for first, *others in groups.values():
        for other in others:
            detail = f"{other.split}; the same file as {first.image_id} ({first.split})"
            if other.split == first.split:
                within.append(Problem("same picture twice", other.image_id, detail))
            else:
                across.append(Problem("same picture in two splits", other.image_id, detail))
    return within, across


def _num_bytes(record: Record) -> int:
    try:
        return os.stat(record.path).st_size
    except OSError:
        return -1


def _chunks(pairs: list[tuple[Record, int]]) -> list[list[tuple[Record, int]]]:
    return [
        pairs[start : start + PICTURES_A_TASK] for start in range(0, len(pairs), PICTURES_A_TASK)
    ]


def _check(record: Record, needs_digest: bool, decode: Decode) -> PictureCheck:
    try:
        raw = record.path.read_bytes()
    except OSError as error:
        return PictureCheck(0, 0, "", error.strerror or str(error))
    digest = hashlib.sha256(raw).hexdigest() if needs_digest else ""
    try:
        width, height = decode(raw)
    except ImageError as error:
        return PictureCheck(0, 0, digest, str(error).removeprefix("picture: "))
    return PictureCheck(width, height, digest, "")
