"""Which pictures are for training, which for validation, which for testing.

What the data says is kept. Where it says nothing, or nothing that can be trained on, a split is
drawn by the rank of ``sha256(image_id)``: the same on every machine, in every order of reading.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import replace

from showtell.data.records import Dataset, Split
from showtell.errors import DataError

HELD_OUT_SHARE = 0.05
MAX_HELD_OUT = 5_000

_SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "restval": "train",  # Karpathy's: COCO val2014 pictures that are in neither val nor test
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
KNOWN_SPLIT_NAMES = ", ".join(_SPLIT_NAMES)


def split_of(name: str) -> Split | None:
    """The split that a usual name means (``dev`` is ``val``), None for any other name."""
    return _SPLIT_NAMES.get(name.strip().lower())


_SPLIT_IN_NAME = re.compile(rf"(?<![a-z])({'|'.join(_SPLIT_NAMES)})(?![a-z])")


def split_in_name(name: str) -> Split | None:
    """The split that a file's name says, such as ``captions_val2017``; None where it says none."""
    match = _SPLIT_IN_NAME.search(name.lower())
    return split_of(match[1]) if match else None


def hash_order(image_ids: Iterable[str]) -> list[str]:
    """Ids ordered by their sha256: as good as shuffled, and the same everywhere."""
    return sorted(image_ids, key=lambda image_id: hashlib.sha256(image_id.encode()).digest())


def hash_split(image_ids: Iterable[str]) -> dict[str, Split]:
    """About 80 % train, 10 % val, 10 % test; none is empty from three pictures on."""
    ordered = hash_order(image_ids)
    num_held = max(1, round(len(ordered) / 10))
    num_val = num_held if len(ordered) >= 2 else 0
    num_test = num_held if len(ordered) >= 3 else 0
    splits: dict[str, Split] = {}
    for rank, image_id in enumerate(ordered):
        if rank < num_test:
            splits[image_id] = "test"
        else:
            splits[image_id] = "val" if rank < num_test + num_val else "train"
    return splits


def describe_counts(splits: Iterable[Split]) -> str:
    """``80 train, 10 val, 10 test``."""
    found = list(splits)
    return ", ".join(f"{found.count(split):,} {split}" for split in ("train", "val", "test"))


def usable_splits(dataset: Dataset) -> Dataset:
    """The data set with pictures to train on and pictures to validate on, and a note on how.

    Nothing marked train: all is split anew by ``hash_split``. Train but no val: one in twenty of
    train (at least 1, at most 5,000) becomes val. A data set without test is left without.

    Raises:
        DataError: there are fewer than two pictures to divide.
    """
    counts = dataset.split_counts()
    if counts.get("train") and counts.get("val"):
        return dataset
    num_divisible = counts.get("train", len(dataset.records))
    if num_divisible < 2:
        raise DataError(
            f"{dataset.name} has {num_divisible} picture to train on; "
            "training needs at least 2, one of them to validate on"
        )
    if not counts.get("train"):
        drawn = hash_split(record.image_id for record in dataset.records)
        found = ", ".join(counts)
        note = (
            f"the data marks no picture as train (only {found}), so all were split anew by the "
            f"hash of their ids: {describe_counts(drawn.values())}"
        )
    else:
        num_held = min(MAX_HELD_OUT, max(1, round(HELD_OUT_SHARE * counts["train"])))
        train = hash_order(record.image_id for record in dataset.split("train"))
        drawn = dict.fromkeys(train[:num_held], "val")
        note = (
            f"the data marks no picture as val, so {num_held:,} of {counts['train']:,} train "
            "pictures were held out as val by the hash of their ids"
        )
    records = tuple(
        replace(record, split=drawn[record.image_id]) if record.image_id in drawn else record
        for record in dataset.records
    )
    return replace(dataset, records=records, notes=(*dataset.notes, note))
