"""What the student is trained and measured on: the teacher's captions, and people's.

People's captions make the test set, where there are some, and weigh more in training: each comes as
often as ``human_weight`` says. Pictures that look like one of the test or validation set are left
out of training, whoever captioned them. Without people's captions a part of the teacher's is held
out, and the figures on it say how far the student agrees with its teacher.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from showtell.core.files import atomic_write
from showtell.data.duplicates import Look, NearDuplicates
from showtell.data.records import Dataset, Record, Split
from showtell.data.splits import hash_order, usable_splits
from showtell.distil.filters import Filtered, Said
from showtell.distil.request import Style
from showtell.errors import DataError
from showtell.text.neutral import neutral
from showtell.text.segment import PTB, Segmentation

DATA_FILE = "captions.jsonl"
HELD_OUT_SHARE = 0.05
MOST_HELD_OUT = 1_000
SAME = "looks like a held-out picture"


@dataclass(frozen=True)
class Mixture:
    """Records of both sources, and how many each split has of which.

    Attributes:
        records: of the student's data set.
        counts: by source and split.
    """

    records: tuple[Record, ...]
    counts: Mapping[str, int]


def split_human(dataset: Dataset) -> Dataset:
    """People's captions with all three splits.

    What the data says is kept. A data set without test gives half of val to it.

    Raises:
        DataError: there are too few pictures.
    """
    dataset = usable_splits(dataset)
    if dataset.split("test"):
        return dataset
    val = hash_order(record.image_id for record in dataset.split("val"))
    if len(val) < 2:
        raise DataError(
            f"{dataset.name} has {len(val)} picture to measure on; a test set and a validation set "
            "need one each: give more captioned pictures, or mark some as test"
        )
    test = set(val[: (len(val) + 1) // 2])
    records = tuple(
        replace(record, split="test") if record.image_id in test else record
        for record in dataset.records
    )
    note = f"the data marks no picture as test, so {len(test):,} of its val pictures become test"
    return replace(dataset, records=records, notes=(*dataset.notes, note))


def without_held_out(
    said: Sequence[Said], looks: Mapping[str, Look], held_out: Sequence[Look], found: Filtered
) -> list[Said]:
    """The captions of pictures that look like none of ``held_out``; the others are dropped."""
    known = NearDuplicates()
    for look in held_out:
        known.add(look)
    kept = []
    for one in said:
        own = looks.get(one.picture)
        if own is not None and known.find(own) is not None:
            found.drop(one, SAME)
        else:
            kept.append(one)
    return kept


def mix(
    said: Sequence[Said],
    human: Dataset | None,
    *,
    human_weight: int,
    styles: Sequence[Style],
    segmentation: Segmentation = PTB,
) -> Mixture:
    """The student's data.

    Args:
        said: the teacher's captions, those of a picture one after another.
        human: with all three splits.
        styles, segmentation: as ``styled``.

    Raises:
        DataError: too few pictures are left.
    """
    by_picture: dict[str, list[Said]] = {}
    for one in said:
        by_picture.setdefault(one.picture, []).append(one)
    splits: dict[str, Split] = dict.fromkeys(by_picture, "train")
    if human is None:
        if len(by_picture) < 3:
            raise DataError(
                f"{len(by_picture)} pictures have captions; at least three are needed: one to "
                "train on, one to validate and one to test on"
            )
        number = max(1, min(MOST_HELD_OUT, round(HELD_OUT_SHARE * len(by_picture))))
        ordered = drawn(by_picture)
        splits |= dict.fromkeys(ordered[:number], "test")
        splits |= dict.fromkeys(ordered[number : 2 * number], "val")
    records = []
    for picture, captions in by_picture.items():
        texts, kinds = styled([one.text for one in captions], styles, segmentation)
        if splits[picture] != "train":  # plain captions are what is measured
            texts, kinds = [one.text for one in captions], ()
        records.append(
            Record(
                f"teacher/{picture}", Path(captions[0].file), tuple(texts), splits[picture], kinds
            )
        )
    for record in human.records if human else ():
        times = human_weight if record.split == "train" else 1
        texts, kinds = list(record.captions) * times, record.styles * times
        name = f"human/{record.image_id}"
        records.append(replace(record, image_id=name, captions=tuple(texts), styles=kinds))
    counts: dict[str, int] = {}
    for record in records:
        name = f"{record.image_id.partition('/')[0]} {record.split}"
        counts[name] = counts.get(name, 0) + 1
    return Mixture(tuple(records), counts)


def drawn(names: Collection[str]) -> list[str]:
    """Pictures as if shuffled: by the hash of their file names, wherever their folder lies."""
    order = {name: place for place, name in enumerate(hash_order(map(_base, names)))}
    return sorted(names, key=lambda name: (order[_base(name)], name))


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def styled(
    texts: Sequence[str], styles: Sequence[Style], segmentation: Segmentation = PTB
) -> tuple[list[str], tuple[str, ...]]:
    """A picture's captions, and again with a style.

    ``short`` has the caption with the fewest words, ``detailed`` the one with the most, if they are
    of different lengths; ``neutral`` all of them in neutral words.

    Args:
        segmentation: how captions are cut into words.

    Returns:
        The captions, and the style of each: "" for none; no styles at all where none were asked
        for.
    """
    if not styles:
        return list(texts), ()
    pairs = [(text, "") for text in texts]
    lengths = {text: len(segmentation.words(text)) for text in texts}
    ordered = sorted(texts, key=lengths.__getitem__)
    differ = lengths[ordered[0]] < lengths[ordered[-1]]
    if "short" in styles and differ:
        pairs.append((ordered[0], "short"))
    if "detailed" in styles and differ:
        pairs.append((ordered[-1], "detailed"))
    if "neutral" in styles:
        pairs += [(neutral(text), "neutral") for text in texts]
    return [text for text, _ in pairs], tuple(style for _, style in pairs)


def write_mixture(records: Sequence[Record], folder: Path) -> Path:
    """Write the records as a data set that ``showtell train`` reads; returns its path."""
    path = folder / DATA_FILE
    with atomic_write(path) as file:
        for record in records:
            values: dict[str, Any] = {
                "path": str(record.path.absolute()),
                "image_id": record.image_id,
                "captions": list(record.captions),
                "split": record.split,
            }
            if any(record.styles):
                values["caption_styles"] = list(record.styles)
            file.write(json.dumps(values, ensure_ascii=False) + "\n")
    return path
