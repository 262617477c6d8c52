"""Every picture of a data set, decoded once: what is broken, and what is there twice.

``check_pictures`` reads each file once. It decodes the bytes, hashes them where another file has
the same size, and notes what the picture looks like, so that copies and near-duplicates are found.
"""

import hashlib
import io
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from PIL import Image

from showtell.core.progress import Progress
from showtell.data.duplicates import HASH_SIDE, Look, can_look, look_of, near_groups
from showtell.data.reading import printable
from showtell.data.records import Problem, Record
from showtell.errors import ImageError, reason_of
from showtell.images.open import notes_of, open_image

PICTURES_PER_TASK = 64
LOOK_SIDE = 4 * HASH_SIDE  # pixels that the perceptual hash is made of, in each direction
FLAT = 16  # of 255; the darkest and the brightest pixel differ by less


@dataclass(frozen=True, slots=True)
class PictureCheck:
    """What was found about one record's picture.

    Attributes:
        width: In pixels, as stored (before any EXIF rotation); 0 where it does not decode.
        height: Likewise.
        digest: sha256 of the file where another file has the same size, else "".
        error: Why it does not decode, else "".
        notes: What had to be assumed or left out to decode it.
        look: What it looks like; None where that was not asked for, or it does not decode.
    """

    width: int
    height: int
    digest: str
    error: str
    notes: tuple[str, ...] = ()
    look: Look | None = None


def check_pictures(
    records: Sequence[Record], *, looks: bool = False, progress: Progress | None = None
) -> list[PictureCheck]:
    """Decode every record's picture, in threads.

    Args:
        records: The records whose pictures are decoded; the result has their order.
        looks: Whether to note what each looks like; only where ``imagehash`` is installed.
        progress: Called with how many pictures are done, and how many there are.
    """
    looks = looks and can_look()
    sizes = [_num_bytes(record) for record in records]
    counts = Counter(sizes)
    pairs = [(record, counts[size] > 1) for record, size in zip(records, sizes, strict=True)]
    tasks = [
        pairs[start : start + PICTURES_PER_TASK]
        for start in range(0, len(pairs), PICTURES_PER_TASK)
    ]

    def run(task: list[tuple[Record, bool]]) -> list[PictureCheck]:
        return [_check(record, needs_digest, looks) for record, needs_digest in task]

    checks: list[PictureCheck] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for done in pool.map(run, tasks):
                checks += done
                if progress is not None:
                    progress(len(checks), len(records))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return checks


def broken_pictures(
    records: Sequence[Record], checks: Sequence[PictureCheck], kind: str = "broken picture"
) -> list[Problem]:
    """A problem for each picture that does not decode."""
    return [
        Problem(kind, printable(str(record.path)), printable(check.error))
        for record, check in zip(records, checks, strict=True)
        if check.error
    ]


def pictures_with_notes(records: Sequence[Record], checks: Sequence[PictureCheck]) -> list[Problem]:
    """A problem for each picture that is read, but not as its file says."""
    return [
        Problem("picture read with a note", printable(str(record.path)), printable(note))
        for record, check in zip(records, checks, strict=True)
        for note in check.notes
    ]


def same_pictures(
    records: Sequence[Record], checks: Sequence[PictureCheck]
) -> tuple[list[Problem], list[Problem]]:
    """Files that are the same byte for byte: first those within a split, then those across splits.

    The second kind is a leak: the model is tested or validated on pictures it was trained on.
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


def near_duplicates(
    records: Sequence[Record],
    checks: Sequence[PictureCheck],
    *,
    progress: Progress | None = None,
) -> tuple[list[Problem], list[Problem]]:
    """Pictures that look the same but are not the same file: within a split, and across splits.

    The second kind is a leak, as with copies: the same photo, saved again or made smaller.
    """
    within, across = [], []
    for first, *others in near_groups([check.look for check in checks], progress=progress):
        digests = {checks[first].digest} - {""}
        for other in others:
            digest = checks[other].digest
            if digest in digests:
                continue  # a copy, which ``same_pictures`` tells
            if digest:
                digests.add(digest)
            here, there = records[other], records[first]
            detail = f"{here.split}; looks like {there.image_id} ({there.split})"
            if here.split == there.split:
                within.append(Problem("near-duplicate picture", here.image_id, detail))
            else:
                across.append(Problem("near-duplicate in two splits", here.image_id, detail))
    return within, across


def same_groups(
    checks: Sequence[PictureCheck], *, progress: Progress | None = None
) -> list[list[int]]:
    """Pictures that belong together: copies and near-duplicates, as groups of two or more."""
    groups = near_groups([check.look for check in checks], progress=progress)
    member = {number: group for group in groups for number in group}
    by_digest: dict[str, list[int]] = defaultdict(list)
    for number, check in enumerate(checks):
        if check.digest and number not in member:  # what has a look is grouped by it already
            by_digest[check.digest].append(number)
    return [*groups, *(group for group in by_digest.values() if len(group) > 1)]


def _num_bytes(record: Record) -> int:
    try:
        return os.stat(record.path).st_size
    except OSError:
        return -1


def _check(record: Record, needs_digest: bool, looks: bool) -> PictureCheck:
    try:
        raw = record.path.read_bytes()
    except OSError as error:
        return PictureCheck(0, 0, "", reason_of(error))
    digest = hashlib.sha256(raw).hexdigest() if needs_digest else ""
    try:
        if not raw:
            raise ImageError("the file is empty")
        # The smallest scale of a JPEG is quick and still reads the file to its end.
        image = open_image(raw, min_side=LOOK_SIDE if looks else 1)
    except ImageError as error:
        return PictureCheck(0, 0, digest, str(error).removeprefix("picture: "))
    width, height = _stored_size(raw) or image.size
    look = look_of(image) if looks and not _is_flat(image) else None
    return PictureCheck(width, height, digest, "", notes_of(image), look)


def _is_flat(image: Image.Image) -> bool:
    """Whether a picture has hardly any structure that could be compared: plain colour, black."""
    darkest, brightest = image.convert("L").getextrema()
    return bool(brightest - darkest < FLAT)  # type: ignore[operator]  # one band: two numbers


def _stored_size(raw: bytes) -> tuple[int, int] | None:
    """As stored, before any rotation; where Pillow refuses the file, None."""
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(raw)) as picture:
            return picture.size
    return None
