"""Several data sets as one: ids that collide, and pictures that are in more than one of them.

A file that is in several sets becomes one picture with the captions of all. Where the sets disagree
on its split, the one that is kept from training wins, so that nothing leaks. Copies of the file
within the first set stay, and go into the same split.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import PurePath

from showtell.core.messages import counted
from showtell.core.progress import Progress
from showtell.data.check_pictures import PictureCheck, check_pictures, same_groups
from showtell.data.duplicates import can_look
from showtell.data.records import SPLITS, Dataset, Problem, Record
from showtell.errors import DataError, install_line


def merge_datasets(
    datasets: Sequence[Dataset], *, near: bool = True, progress: Progress | None = None
) -> Dataset:
    """One data set of several.

    Args:
        datasets: In order; the first one's ids stay as they are.
        near: Also look for near-duplicates in different splits, and say how many there are.
        progress: Called with how many pictures are compared, and how many there are.

    Raises:
        DataError: fewer than two data sets.
    """
    if len(datasets) < 2:
        raise DataError("merging needs two data sets or more; to copy one: showtell data convert")
    names = _short_names([dataset.name for dataset in datasets])
    records = [record for dataset in datasets for record in dataset.records]
    owners = [number for number, dataset in enumerate(datasets) for _ in dataset.records]
    checks = check_pictures(records, looks=near, progress=progress)
    merged, notes = _join_copies(records, owners, checks)
    kept = [number for number, record in enumerate(merged) if record is not None]
    result = [record for record in merged if record is not None]
    result, num_renamed = _unique_ids(result, [names[owners[number]] for number in kept])
    if num_renamed:
        notes.append(
            f"{counted(num_renamed, 'id')} taken by another data set: the set's name is put "
            "in front"
        )
    if near:
        notes += _near_notes(result, [checks[number] for number in kept])
    problems: list[Problem] = [p for dataset in datasets for p in dataset.problems]
    told = [
        f"{name}: {note}"
        for name, dataset in zip(names, datasets, strict=True)
        for note in dataset.notes
    ]
    return Dataset(
        " + ".join(dataset.name for dataset in datasets),
        "+".join(dict.fromkeys(dataset.format for dataset in datasets)),
        tuple(result),
        tuple(problems),
        (*told, *notes),
        tuple(path for dataset in datasets for path in dataset.uncaptioned),
    )


def _short_names(names: Sequence[str]) -> list[str]:
    """A name for each data set that no other has: ``photos``, ``photos-2``."""
    found: list[str] = []
    for name in names:
        path = PurePath(name)
        short = path.stem if path.suffix else path.name
        short = short or "data"
        wanted, number = short, 2
        while wanted in found:
            wanted, number = f"{short}-{number}", number + 1
        found.append(wanted)
    return found


def _join_copies(
    records: Sequence[Record], owners: Sequence[int], checks: Sequence[PictureCheck]
) -> tuple[list[Record | None], list[str]]:
    """Give a file that several sets have to the first; the others' records become None."""
    by_digest: dict[str, list[int]] = {}
    for number, check in enumerate(checks):
        if check.digest:
            by_digest.setdefault(check.digest, []).append(number)
    merged: list[Record | None] = list(records)
    num_joined = num_moved = 0
    for group in by_digest.values():
        first, *others = group
        copies = [number for number in others if owners[number] != owners[first]]
        if not copies:
            continue
        together = [records[first], *(records[number] for number in copies)]
        said = dict.fromkeys(pair for record in together for pair in _with_styles(record))
        captions, styles = zip(*said, strict=True)
        splits = {records[number].split for number in group}
        split = max(splits, key=SPLITS.index)
        num_joined += len(copies)
        num_moved += len(splits) > 1
        for number in group:
            merged[number] = None if number in copies else replace(records[number], split=split)
        merged[first] = replace(
            records[first],
            captions=captions,
            split=split,
            styles=styles if any(styles) else (),
        )
    notes = []
    if num_joined:
        notes.append(
            f"{counted(num_joined, 'picture')} in more than one data set, joined with the captions "
            "of all"
        )
    if num_moved:
        notes.append(
            f"{num_moved:,} of them are in different splits; test wins over val, and val over train"
        )
    return merged, notes


def _with_styles(record: Record) -> Iterator[tuple[str, str]]:
    return zip(record.captions, record.styles or repeat(""), strict=False)


def _unique_ids(records: Sequence[Record], names: Sequence[str]) -> tuple[list[Record], int]:
    taken: set[str] = set()
    result = []
    num_renamed = 0
    for record, name in zip(records, names, strict=True):
        image_id, number = record.image_id, 2
        if image_id in taken:
            num_renamed += 1
            image_id = f"{name}/{record.image_id}"
        while image_id in taken:
            image_id, number = f"{name}-{number}/{record.image_id}", number + 1
        taken.add(image_id)
        result.append(record if image_id == record.image_id else replace(record, image_id=image_id))
    return result, num_renamed


def _near_notes(records: Sequence[Record], checks: Sequence[PictureCheck]) -> list[str]:
    if not can_look():
        return [f"near-duplicates were not looked for: {install_line('dedupe')}"]
    num_across = 0
    for group in same_groups(checks):
        splits = Counter(records[number].split for number in group)
        num_across += len(splits) > 1
    if not num_across:
        return []
    return [
        f"{counted(num_across, 'group')} of pictures that look the same lie in different splits; "
        "`showtell data split` puts each into one"
    ]
