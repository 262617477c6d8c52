"""What the student is trained and measured on: the teacher's captions, and people's.

People's captions make the test set, where there are some, and weigh more in training: each comes as
often as ``human_weight`` says. Pictures that look like one of the test or validation set are left
out of training, whoever captioned them. A picture that both have captioned is one record, in the
split that people's data gives it. Without people's captions a part of the teacher's is held out,
and the figures on it say how far the student agrees with its teacher.
"""

import json
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any

from showtell.core.files import atomic_write
from showtell.core.progress import Reporter
from showtell.data.duplicates import Look, NearDuplicates
from showtell.data.records import Dataset, Record, Split
from showtell.data.request import DataRequest
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
        counts: of pictures, by source and split: ``teacher train``, ``human and teacher train``.
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
    said: Sequence[Said],
    human: Dataset,
    *,
    looks: Mapping[str, Look],
    human_looks: Mapping[str, Look],
    found: Filtered,
) -> tuple[list[Said], Dataset]:
    """The teacher's captions and people's, without training pictures that are held out as well.

    These are pictures that people hold out, and those that look like one.

    Args:
        human: with all three splits.
        looks: of the teacher's pictures, by name; empty where nobody asked.
        human_looks: of people's pictures, by image id; empty where nobody asked.
        found: gets the teacher's captions that are left out.
    """
    held_out = [record for record in human.records if record.split != "train"]
    files = {os.path.realpath(record.path) for record in held_out}
    known = NearDuplicates()
    for record in held_out:
        if (look := human_looks.get(record.image_id)) is not None:
            known.add(look)

    def is_held_out(look: Look | None) -> bool:
        return look is not None and known.find(look) is not None

    pictures = {one.picture: one.file for one in said}
    left_out = {
        picture
        for picture, file in pictures.items()
        if os.path.realpath(file) in files or is_held_out(looks.get(picture))
    }
    kept = []
    for one in said:
        if one.picture in left_out:
            found.drop(one, SAME)
        else:
            kept.append(one)
    records = tuple(
        record
        for record in human.records
        if record.split != "train" or not is_held_out(human_looks.get(record.image_id))
    )
    return kept, replace(human, records=records)


def mix(
    said: Sequence[Said],
    human: Dataset | None,
    *,
    human_weight: int,
    styles: Sequence[Style],
    segmentation: Segmentation = PTB,
) -> Mixture:
    """The student's data.

    What the teacher says of a training picture of people's is added to their captions. What it says
    of one that they hold out is left out.

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
    people = {os.path.realpath(r.path): r.image_id for r in human.records} if human else {}
    added: dict[str, list[tuple[str, str]]] = {}  # by image id of people's: captions and styles
    records, counts = [], Counter[str]()
    for picture, captions in by_picture.items():
        texts, kinds = styled([one.text for one in captions], styles, segmentation)
        if splits[picture] != "train":  # plain captions are what is measured
            texts, kinds = [one.text for one in captions], ()
        file = Path(captions[0].file)
        if (image_id := people.get(os.path.realpath(file))) is not None:
            added.setdefault(image_id, []).extend(_pairs(texts, kinds))
            continue
        records.append(Record(f"teacher/{picture}", file, tuple(texts), splits[picture], kinds))
        counts[f"teacher {splits[picture]}"] += 1
    for record in human.records if human else ():
        is_train = record.split == "train"
        pairs = list(_pairs(record.captions, record.styles)) * (human_weight if is_train else 1)
        more = added.get(record.image_id, []) if is_train else []
        said_of, kinds = zip(*pairs, *more, strict=True)
        name = f"human/{record.image_id}"
        styles_of = kinds if any(kinds) else ()
        records.append(replace(record, image_id=name, captions=said_of, styles=styles_of))
        counts[f"human{' and teacher' if more else ''} {record.split}"] += 1
    if all(record.split != "train" for record in records):
        raise DataError(
            f"no picture is left to train on: all of the {len(records):,} are held out. Give more "
            "pictures; if those that look like a held-out one may train: --filter "
            "near_duplicates=false"
        )
    return Mixture(tuple(records), dict(counts))


def _pairs(texts: Sequence[str], kinds: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Captions with their styles; "" where there are none."""
    return zip(texts, kinds or repeat(""), strict=False)


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


def open_mixture(path: Path, report: Reporter) -> Dataset:
    """Read what ``write_mixture`` wrote; what cannot be used of it is said.

    Raises:
        DataError: it cannot be read.
    """
    dataset = DataRequest(str(path)).load()
    for line in dataset.skipped():
        report.note(line)
    return dataset
