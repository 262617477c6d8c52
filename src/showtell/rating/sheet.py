"""A blind sheet: what raters see, in random order, and the key that says who said what.

Pictures that every captioner has a caption of are drawn at random, and their captions are put in
random order under opaque ids. What the sheet has names no captioner; the key does. The same files
and seed give the same sheet; sheets that differ in anything share no id.
"""

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations, takewhile
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from showtell.core.messages import counted, some
from showtell.data.reading import printable, read_json_object
from showtell.errors import DataError
from showtell.metrics.caption_files import Entry, read_results
from showtell.metrics.picture_folder import PictureFolder
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
        id: stands in the sheet, in answers and in the key, so that they are not mixed up. It is
            made of everything in the key, as are the items' ids.
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
    if not pictures.is_dir():
        raise DataError(f"no folder {pictures}: the last argument is the folder of the pictures")
    found = PictureFolder(pictures)
    if not found.num_pictures:
        raise DataError(f"no pictures in {pictures}")
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
    equal = [item for item in questions if len(set(item.captions)) < scale.num_captions]
    asked = [item for item in questions if len(set(item.captions)) == scale.num_captions]
    rng.shuffle(asked)
    if equal:
        notes.append(
            f"{counted(len(equal), 'pair')} of equal captions count as ties: nobody is asked"
        )
    return _with_ids(
        Sheet("", scale, seed, systems, tuple(asked), tuple(equal), tuple(notes)),
    )


def _with_ids(sheet: Sheet) -> Sheet:
    """The sheet with ids made of all that its key has, but not of the folders of its files."""
    key = sheet.to_key() | {"systems": [system.name for system in sheet.systems]}
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    # The letter before each keeps spreadsheets from taking an id for a number.
    own, *others = random.Random(digest).sample(
        range(2**32), 1 + len(sheet.items) + len(sheet.equal)
    )
    named = [
        replace(item, id=f"q{number:08x}")
        for item, number in zip((*sheet.items, *sheet.equal), others, strict=True)
    ]
    num_asked = len(sheet.items)
    return replace(
        sheet,
        id=f"s{own:08x}",
        items=tuple(named[:num_asked]),
        equal=tuple(named[num_asked:]),
    )


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
    path: Path, system: int, pictures: PictureFolder, notes: list[str]
) -> dict[str, tuple[str, Author]]:
    """The captions of a file whose picture is there, by picture."""
    said: dict[str, tuple[str, Author]] = {}
    lost: dict[str, list[str]] = {}  # names of images, by the reason why they have no picture
    empty = 0
    entries = read_results(path, notes)
    # A file name says more than an id.
    found = pictures.find([[*reversed(entry.names.values())] for entry in entries])
    _check_one_each(path, entries, found)
    for row, (entry, picture) in enumerate(zip(entries, found, strict=True)):
        caption = " ".join(entry.captions[0].split())
        if isinstance(picture, str):
            lost.setdefault(picture, []).append(printable(entry.image_id))
        elif not caption:
            empty += 1
        else:
            name = picture.relative_to(pictures.folder).as_posix()
            said[name] = caption, Author(system, row, entry.confidence)
    if not said:
        missing = [name for names in lost.values() for name in names]
        raise DataError(
            f"{path}: none of its {counted(len(entries), 'caption')} is of a picture in "
            f"{pictures.folder}: " + (some(missing) if missing else "all are empty")
        )
    for reason, names in lost.items():
        notes.append(
            f"{path}: left out {counted(len(names), 'caption')} with {reason}: {some(names)}"
        )
    if empty:
        notes.append(f"{path}: left out {counted(empty, 'empty caption')}")
    return said


def _check_one_each(path: Path, entries: Sequence[Entry], found: Sequence[Path | str]) -> None:
    """
    Raises:
        DataError: two captions fit one picture equally well.
    """
    rows: dict[Path, int] = {}
    for row, picture in enumerate(found):
        if isinstance(picture, Path) and (before := rows.setdefault(picture, row)) != row:
            one, other = (next(reversed(entries[n].names.values())) for n in (before, row))
            both = zip(one.split("/"), other.split("/"), strict=False)
            start = "/".join(part for part, _ in takewhile(lambda pair: pair[0] == pair[1], both))
            folder = printable(f", {start}," if start else "")
            raise DataError(
                f"{path}: rows {before} and {row}, counted from 0, are captions of one picture, "
                f"{picture}: {printable(one)} and {printable(other)}; give the folder{folder} that "
                "these paths start from, or keep one of the rows"
            )


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
