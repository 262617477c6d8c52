"""A blind sheet: what raters see, in random order, and the key that says who said what.

Pictures that every captioner has a caption of are drawn at random, and their captions are put in
random order under opaque ids. What the sheet has names no captioner; the key does. The same files
and seed give the same sheet.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from showtell.core.messages import counted, some
from showtell.data.pictures import is_hidden, is_picture_name
from showtell.data.reading import printable, read_json_object
from showtell.errors import DataError
from showtell.metrics.caption_files import Entry, read_results
from showtell.metrics.coco_io import same_image
from showtell.rating.scales import Scale, scale_named

KEY_KIND = "showtell rating key 1"


@dataclass(frozen=True)
class Author:
    """Who said a caption.

    Attributes:
        system: its place among the sheet's systems.
        row: the caption's place in the system's file, from 0.
        confidence: of the captioner, if its file has one.
    """

    system: int
    row: int
    confidence: float | None = None


@dataclass(frozen=True)
class Item:
    """One question.

    Attributes:
        id: opaque.
        picture: its path in the folder of pictures.
        captions: one, or the two to compare: A and B.
        authors: of each caption; a caption that several systems gave is asked about once.
    """

    id: str
    picture: str
    captions: tuple[str, ...]
    authors: tuple[tuple[Author, ...], ...]


@dataclass(frozen=True)
class System:
    """A captioner: a name made of its file's, and the file."""

    name: str
    file: str


@dataclass(frozen=True)
class Sheet:
    """A sheet with its key.

    Attributes:
        id: stands in the sheet, in answers and in the key, so that they are not mixed up.
        items: in the order in which they are shown.
        equal: items that nobody is asked, as both captions of a pair are the same words.
        notes: what a person should know about how the sheet was made.
    """

    id: str
    scale: Scale
    seed: int
    systems: tuple[System, ...]
    items: tuple[Item, ...]
    equal: tuple[Item, ...] = ()
    notes: tuple[str, ...] = ()

    def to_key(self) -> dict[str, Any]:
        """The key, as JSON has it."""
        return {
            "kind": KEY_KIND,
            "sheet": self.id,
            "scale": self.scale.name,
            "seed": self.seed,
            "systems": [asdict(system) for system in self.systems],
            "items": [asdict(item) for item in self.items],
            "equal": [asdict(item) for item in self.equal],
        }

    @classmethod
    def of_key(cls, path: Path) -> "Sheet":
        """Read a key.

        Raises:
            DataError: the file cannot be read, or is not a key.
        """
        value = read_json_object(path)
        if value.get("kind") != KEY_KIND:
            raise DataError(
                f"{path} is not the key of a rating sheet: `showtell rate` writes it beside the "
                "page, as NAME.key.json"
            )
        try:
            key = TypeAdapter(_Key).validate_python(value)
            scale = scale_named(key.scale)
            sheet = cls(key.sheet, scale, key.seed, key.systems, key.items, key.equal)
            sheet._check()
            return sheet
        except ValidationError as error:
            first = error.errors()[0]
            fault = f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
        except ValueError as error:
            fault = printable(str(error))
        raise DataError(f"{path}: the key of a rating sheet is damaged: {fault}")

    def _check(self) -> None:
        """Raise ValueError where the parts of a key do not fit together."""
        num, ids = self.scale.num_captions, set()
        for item in (*self.items, *self.equal):
            if item.id in ids:
                raise ValueError(f"two items are called {item.id}")
            ids.add(item.id)
            counts = [len(each) for each in item.authors]
            is_shared = (
                num > 1 and max(counts, default=0) > 1
            )  # the captions of a pair are of one system each
            if not len(item.captions) == len(counts) == num or 0 in counts or is_shared:
                raise ValueError(f"{item.id}: expected {counted(num, 'caption')} with authors")
            for author in (author for each in item.authors for author in each):
                if not 0 <= author.system < len(self.systems) or author.row < 0:
                    raise ValueError(
                        f"{item.id}: no row {author.row} of a captioner {author.system}"
                    )


@dataclass(frozen=True)
class _Key:
    """What a key has, as ``Sheet.to_key`` makes it."""

    sheet: str
    scale: str
    seed: int
    systems: tuple[System, ...]
    items: tuple[Item, ...]
    equal: tuple[Item, ...]


def make_sheet(
    results: Sequence[Path],
    pictures: Path,
    scale: Scale,
    *,
    sample: int | None = None,
    seed: int = 0,
) -> Sheet:
    """Choose and mix what will be rated.

    Args:
        results: a file of captions for each captioner.
        pictures: the folder with their pictures.
        sample: how many pictures to draw; default: all.

    Raises:
        DataError: no pictures, no captions of them, or too few files for the scale.
        ScoringError: a file of captions cannot be read.
    """
    if len(results) < scale.num_captions:
        raise DataError(
            f"the scale {scale.name} compares captioners: give two files of captions or more"
        )
    notes: list[str] = []
    found = _Pictures(pictures)
    systems = _systems(results)
    said: list[dict[str, tuple[str, Author]]] = []
    for number, path in enumerate(results):
        said.append(_said(path, number, found, notes))
    shared = [picture for picture in said[0] if all(picture in each for each in said)]
    if not shared:
        raise DataError(f"no picture in {pictures} has a caption in {_all(results)}")
    if left := len(set().union(*said)) - len(shared):
        notes.append(f"left out: {counted(left, 'picture')} without a caption in every file")
    rng = random.Random(seed)
    chosen = sorted(shared)
    rng.shuffle(chosen)
    if sample is not None and sample > len(chosen):
        notes.append(f"{sample} pictures were asked for, and there are {len(chosen)}")
    questions = [
        question
        for picture in chosen[:sample]
        for question in _questions(picture, [each[picture] for each in said], scale, rng)
    ]
    # The letter before it keeps spreadsheets from taking an id for a number.
    ids = rng.sample(range(2**32), len(questions))
    questions = [replace(one, id=f"q{i:08x}") for one, i in zip(questions, ids, strict=True)]
    equal = [item for item in questions if len(set(item.captions)) < scale.num_captions]
    asked = [item for item in questions if len(set(item.captions)) == scale.num_captions]
    rng.shuffle(asked)
    sheet_id = f"s{rng.getrandbits(32):08x}"
    if equal:
        notes.append(
            f"{counted(len(equal), 'pair')} of equal captions count as ties: nobody is asked"
        )
    return Sheet(sheet_id, scale, seed, systems, tuple(asked), tuple(equal), tuple(notes))


def _questions(
    picture: str, said: Sequence[tuple[str, Author]], scale: Scale, rng: random.Random
) -> list[Item]:
    if scale.num_captions == 2:
        items = []
        for pair in combinations(said, 2):
            first, second = rng.sample(pair, 2)
            captions, authors = (first[0], second[0]), ((first[1],), (second[1],))
            items.append(Item("", picture, captions, authors))
        return items
    by_words: dict[str, list[Author]] = {}
    for caption, author in said:
        by_words.setdefault(caption, []).append(author)
    return [
        Item("", picture, (caption,), (tuple(authors),)) for caption, authors in by_words.items()
    ]


def _said(
    path: Path, system: int, pictures: "_Pictures", notes: list[str]
) -> dict[str, tuple[str, Author]]:
    """The captions of a file whose picture is there, by picture."""
    said: dict[str, tuple[str, Author]] = {}
    missing, empty = [], 0
    for row, entry in enumerate(read_results(path, notes)):
        picture = pictures.of(entry)
        caption = " ".join(entry.captions[0].split())
        if picture is None:
            missing.append(printable(entry.image_id))
        elif not caption:
            empty += 1
        else:
            said[picture] = caption, Author(system, row, entry.confidence)
    if not said:
        raise DataError(
            f"{path}: none of its {counted(len(missing) + empty, 'caption')} is of a picture in "
            f"{pictures.folder}: {some(missing)}"
        )
    if missing:
        notes.append(
            f"{path}: left out {counted(len(missing), 'caption')} without a picture: "
            f"{some(missing)}"
        )
    if empty:
        notes.append(f"{path}: left out {counted(empty, 'empty caption')}")
    return said


class _Pictures:
    """The pictures of a folder and its folders, found by what files of captions call them."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise DataError(f"no folder {folder}: the last argument is the folder of the pictures")
        self.folder = folder
        names = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")))
        self._names = [name for name in names if is_picture_name(name) and not is_hidden(name)]
        if not self._names:
            raise DataError(f"no pictures in {folder}")
        self._known = set(self._names)
        self._alike: dict[str, list[str]] = {}
        for name in self._names:
            self._alike.setdefault(same_image(name), []).append(name)

    def of(self, entry: Entry) -> str | None:
        """The picture's path in the folder; None where there is none, or it could be several."""
        for name in reversed(entry.names.values()):  # a file name says more than an id
            parts = re.split(r"[/\\]", name)
            for start in range(len(parts)):
                if (tail := "/".join(parts[start:])) in self._known:
                    return tail
            if len(alike := self._alike.get(same_image(name), [])) == 1:
                return alike[0]
        return None


def _systems(results: Sequence[Path]) -> tuple[System, ...]:
    """Captioners named by their files."""
    if len(set(results)) < len(results):
        raise DataError(f"a file of captions was given twice: {_all(results)}")
    names = names_of(results)
    return tuple(System(name, str(path)) for name, path in zip(names, results, strict=True))


def names_of(files: Sequence[Path]) -> list[str]:
    """A name of each file: its stem, with its folder's name where two files have one stem."""
    names = [path.stem for path in files]
    if len(set(names)) < len(names):
        names = [f"{path.absolute().parent.name}/{path.stem}" for path in files]
    if len(set(names)) < len(names):
        names = [str(path) for path in files]
    return names


def _all(results: Sequence[Path]) -> str:
    return " and ".join(map(str, results))
