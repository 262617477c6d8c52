"""Captions that people graded, as a table: a picture, what was said of it, and how good that is.

``showtell rate --read ... --graded FILE`` writes one, and training reads it
(``training/graded.py``). The columns are ``image``, ``caption`` and ``grade``, a number; the larger
it is, the better is the caption. Other columns are passed over.
"""

import csv
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from showtell.core.files import atomic_write
from showtell.core.messages import counted
from showtell.data.reading import printable, read_text
from showtell.data.sources.table import TableText
from showtell.errors import DataError

COLUMNS = ("image", "caption", "grade")


class GradedCaption(NamedTuple):
    """A row.

    Attributes:
        image: the picture's name, its path or its id.
        grade: of the caption, from 0 to 1.
    """

    image: str
    caption: str
    grade: float


def read_graded(path: Path) -> list[GradedCaption]:
    """Read a table of graded captions.

    Raises:
        DataError: the file cannot be read, lacks a column or has no row, or a row has a cell too
            few or too many, or a grade that is not a number from 0 to 1.
    """
    found = list(_rows(path))
    if not found:
        raise DataError(f"{path}: no graded captions below the header")
    return found


def _rows(path: Path) -> Iterator[GradedCaption]:
    table = TableText(read_text(path))
    names = [name.strip().lower() for name in table.names]
    if missing := [name for name in COLUMNS if name not in names]:
        found = ", ".join(map(printable, table.names[:20])) or "nothing"
        raise DataError(
            f"{path}: no column {' and no column '.join(missing)}; found {found}; expected a table "
            "as `showtell rate --read ANSWERS.csv --key KEY --graded FILE` writes it"
        )
    image, caption, grade = (names.index(name) for name in COLUMNS)
    for number, cells in table.rows(picture=None, last_is_caption=False):
        if len(cells) != len(names):
            raise DataError(
                f"{path}: row {number} has {counted(len(cells), 'cell')}, but the header names "
                f"{len(names)}"
            )
        yield GradedCaption(
            cells[image].strip(), cells[caption].strip(), _number(cells[grade], path, number)
        )


def _number(text: str, path: Path, row: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise DataError(
            f"{path}: row {row}: grade {printable(text)!r}; expected a number from 0 to 1"
        )
    return value


def write_graded(path: Path, captions: Iterable[GradedCaption]) -> int:
    """Write a table; returns how many rows it has."""
    num = 0
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for caption in captions:
            writer.writerow((caption.image, caption.caption, f"{caption.grade:.4g}"))
            num += 1
    return num
