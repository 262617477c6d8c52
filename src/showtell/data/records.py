"""What the rest of showtell sees of a data set: records, and a list of what was wrong with it.

``dataset_fingerprint`` is one hash of all records, so that a run can say what it was trained on.
"""

import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

from showtell.core.messages import some
from showtell.errors import DataError, unknown_name

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

UNMIRRORED = "no view is mirrored: scenes' captions say left and right"


@dataclass(frozen=True, slots=True)
class Record:
    """One picture with its captions.

    Attributes:
        styles: of each caption, "" for none; empty where no caption has one.
    """

    image_id: str
    path: Path
    captions: tuple[str, ...]
    split: Split
    styles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.styles) in (0, len(self.captions)), "a style for each caption, or none"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that was skipped when a data set was read, or that is odd about it.

    Attributes:
        kind: A short phrase, the same for every problem of this kind ("missing picture").
        where: The picture, the image id or ``file:line`` with the problem.
        detail: What was found there, for a person.
    """

    kind: str
    where: str
    detail: str = ""


@dataclass(frozen=True)
class Dataset:
    """Records of one source, with the problems found while reading them.

    Attributes:
        name: What the user called it (a path, or ``scenes``).
        format: The source that read it, a key of ``SOURCES``.
        records: Every usable record; never empty.
        problems: What was skipped, and why.
        notes: Sentences about decisions made for the user, such as how a split was drawn.
        uncaptioned: Pictures that are there and have no caption, so that they are not records.
    """

    name: str
    format: str
    records: tuple[Record, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    uncaptioned: tuple[Path, ...] = ()

    @property
    def may_be_mirrored(self) -> bool:
        """Whether captions still fit a mirrored picture; those of scenes say left and right."""
        return self.format != "scenes"

    def split(self, split: Split) -> tuple[Record, ...]:
        """The records of one split, in order."""
        return tuple(record for record in self.records if record.split == split)

    def problem_counts(self) -> dict[str, int]:
        """How often each kind of problem was found, the most frequent first."""
        return dict(Counter(problem.kind for problem in self.problems).most_common())

    def skipped(self) -> list[str]:
        """A line for each kind of problem, with the first places, for whoever reads the data."""
        lines = []
        for kind, count in self.problem_counts().items():
            places = (problem.where for problem in self.problems if problem.kind == kind)
            first = some(list(islice(places, 4)), 3)
            lines.append(
                f"skipped: {count:,} x {kind}: {first} (`showtell data inspect` lists them)"
            )
        return lines

    def remarks(self) -> list[str]:
        """What a command says of the data that it reads: the notes, and what was skipped."""
        return [*self.notes, *self.skipped()]

    def split_counts(self) -> dict[Split, int]:
        """How many pictures each split has; splits without one are left out."""
        counts = Counter(record.split for record in self.records)
        return {split: counts[split] for split in SPLITS if counts[split]}

    def select(self, split: str) -> tuple[Record, ...]:
        """The records of ``train``, ``val`` or ``test``, or every record for ``all``.

        Raises:
            DataError: there is no split of this name, or it has no picture.
        """
        if split == "all":
            return self.records
        for known in SPLITS:
            if split == known:
                records = self.split(known)
                break
        else:
            raise DataError(unknown_name("split", split, (*SPLITS, "all")))
        if not records:
            there = ", ".join(f"{name} {count:,}" for name, count in self.split_counts().items())
            raise DataError(
                f"{self.name} has no {split!r} split; pictures in each split: {there}; "
                "--split all takes every one"
            )
        return records


def dataset_fingerprint(dataset: Dataset) -> str:
    """sha256 of every record's id, split, captions and picture's size in bytes, ordered by id.

    Paths are left out, so that a data set may be moved. The pictures' contents are left out, so
    that COCO takes a second. A picture that is no longer there counts as of size -1.
    """
    digest = hashlib.sha256()
    for record in sorted(dataset.records, key=lambda record: record.image_id):
        try:
            num_bytes = os.stat(record.path).st_size
        except OSError:
            num_bytes = -1
        styles = [list(record.styles)] if record.styles else []
        line = json.dumps([record.image_id, record.split, num_bytes, *record.captions, *styles])
        digest.update(line.encode("ascii") + b"\n")
    return digest.hexdigest()
