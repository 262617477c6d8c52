"""COCO captions: ``annotations/captions_train2017.json`` and its pictures.

Takes one annotations file, the folder ``annotations`` or the folder above it (train and val are
joined). The split is what the file's name says. Format: https://cocodataset.org/#format-data

VizWiz-Captions has the same format (Gurari et al. 2020, "Captioning Images Taken by People Who Are
Blind"); captions that its annotators rejected, or replaced by a fixed sentence, are left out.
"""

import re
from pathlib import Path
from typing import Any

from showtell.core.messages import counted
from showtell.data.collect import REJECTED, Collector
from showtell.data.ids import IdNumbers, id_text
from showtell.data.pictures import PictureFinder, last_part
from showtell.data.reading import json_list, note_input, printable, read_json_object
from showtell.data.records import Dataset, Split
from showtell.data.sources.base import Source, is_json_list, peek, picture_finder
from showtell.data.splits import split_in_name
from showtell.errors import DataError

PICTURE_FOLDERS = (
    *("val2017", "train2017", "val2014", "train2014", "test2015", "test2017"),
    *("train", "val", "test"),
)
_HAS_LISTS = re.compile(r'"(?:images|annotations)"\s*:\s*[\[{]')
_FOLDER_IN_NAME = re.compile(r"(train|val|test)20\d\d")
_PREFIX_OF_2014 = re.compile(r"^COCO_(train|val)2014_")
_OFFICIAL = re.compile(r"^captions_(train|val)(20\d\d)\.json$")
_PLAIN = re.compile(r"^captions_(train|val|test)\.json$")  # as showtell itself writes them


def matches(path: Path) -> bool:
    """A folder with ``captions_*.json``, or a JSON with ``images`` whose captions stand apart."""
    if path.is_dir():
        return bool(_annotation_files(path))
    if path.suffix.lower() != ".json":
        return False
    text = peek(path)
    if '"sentences"' in text or is_json_list(text):
        return False
    return _HAS_LISTS.search(text) is not None


def load(path: Path, images: Path | None) -> Dataset:
    """Read one annotations file or a folder of them.

    Raises:
        DataError: no such file, not COCO captions, or no picture is found.
    """
    files, note = _choose(path) if path.is_dir() else ([path], "")
    finder = coco_pictures(files[0].parent, images, [file.stem for file in files])
    collector = Collector(str(path), "coco", finder)
    if note:
        collector.notes.append(note)
    for file in files:
        _read(file, collector)
    note_renamed(collector)
    return collector.finish()


def coco_pictures(folder: Path, images: Path | None, stems: list[str]) -> PictureFinder:
    """Looks beside the annotations, above them, and in ``images``; the named year's folder first.

    A picture of val is looked for in the folders of val before those of train: both may number
    their pictures from 1.

    Args:
        folder: Where the annotations lie.
        images: The folder of the pictures that the user named, or None.
        stems: Names of the annotation files, which may say ``val2017``.
    """
    found = (_FOLDER_IN_NAME.search(stem) for stem in stems)
    named = [match[0] for match in found if match]
    above = folder.resolve().parent if folder == Path() else folder.parent
    bases = [folder, above, folder / "images", above / "images"]
    folders = dict.fromkeys([*named, *PICTURE_FOLDERS])
    return picture_finder(images, bases, folders, bare=True, other_name=name_of_2017)


def name_of_2017(file_name: str) -> str:
    """The 2017 release's name of a picture.

    COCO's two releases hold the same pictures; ``COCO_val2014_000000000042.jpg`` became
    ``000000000042.jpg``. Karpathy's split goes by the old names. Any other name stays.
    """
    last = last_part(file_name)
    return _PREFIX_OF_2014.sub("", last) if _PREFIX_OF_2014.match(last) else file_name


def note_renamed(collector: Collector) -> None:
    """Say where pictures were found under the names of the other release."""
    if collector.finder.num_renamed:
        collector.notes.append(
            f"{counted(collector.finder.num_renamed, 'picture')} of the 2014 release found under "
            "their 2017 names (COCO renamed the same pictures)"
        )


def _annotation_files(folder: Path) -> list[Path]:
    for place in (folder / "annotations", folder):
        note_input(place)
        files = sorted(place.glob("captions_*.json"))
        if files:
            return files
    return []


def _choose(folder: Path) -> tuple[list[Path], str]:
    """The files of one release, and a note where there was a choice."""
    files = _annotation_files(folder)
    years: dict[str, list[Path]] = {}
    for file in files:
        if match := _OFFICIAL.match(file.name):
            years.setdefault(match[2], []).append(file)
    are_plain = bool(files) and all(_PLAIN.match(file.name) for file in files)
    if not years and (len(files) == 1 or are_plain):
        return files, ""
    if not years:
        names = ", ".join(printable(file.name) for file in files[:6])
        found = f"of several: {names}" if files else "captions_train2017.json or the like"
        raise DataError(
            f"{folder} has no official COCO captions file; give one annotations file {found}"
        )
    if len(years) == 1:
        return next(iter(years.values())), ""
    roots = {folder, files[0].parent.parent}
    for root in roots:
        note_input(root)
    with_pictures = [
        year
        for year in years
        if any((root / f"{split}{year}").is_dir() for root in roots for split in ("train", "val"))
    ]
    year = max(with_pictures or years)
    return years[year], (
        f"{folder} holds captions of {' and '.join(sorted(years))}, which are of the same "
        f"pictures; those of {year} were read"
    )


def _read(path: Path, collector: Collector) -> None:
    value = read_json_object(path)
    if "annotations" not in value and "images" in value:
        raise DataError(f"{path} lists pictures without captions; give a captions_*.json")
    pictures = json_list(value, "images", path)
    annotations = json_list(value, "annotations", path)
    _add_pictures(pictures, split_in_name(path.stem), collector)
    num_captions = _add_captions(annotations, collector)
    if annotations and not num_captions:
        raise DataError(
            f"{path}: none of its {len(annotations):,} annotations has a caption (COCO's "
            "instances or keypoints file?); give captions_*.json"
        )


def _add_pictures(pictures: list[Any], split: Split | None, collector: Collector) -> None:
    for entry in pictures:
        try:
            image_id, file_name = id_text(entry["id"]), entry["file_name"]
        except (KeyError, TypeError):
            collector.problem("bad image entry", _short(entry), "needs id and file_name")
            continue
        if not isinstance(file_name, str) or image_id is None:
            detail = "id is not a number or text, or file_name is not text"
            collector.problem("bad image entry", _short(entry), detail)
            continue
        collector.add_picture(image_id, file_name, split)


def _add_captions(annotations: list[Any], collector: Collector) -> int:
    """Add the captions; returns how many entries had one, usable or not."""
    num_captions = num_respelled = 0
    numbers: IdNumbers | None = None
    for entry in annotations:
        try:
            caption, image_id = entry["caption"], id_text(entry["image_id"])
        except (KeyError, TypeError):
            collector.problem("bad annotation", _short(entry), "needs image_id and caption")
            continue
        num_captions += 1
        if image_id is None:
            collector.problem("bad annotation", _short(entry), "image_id is not a number or text")
            continue
        if not collector.known(image_id):
            numbers = numbers or IdNumbers(collector.ids())
            found = numbers.find(image_id)
            if len(found) != 1:
                detail = f"could be of {' or '.join(found[:3])}" if found else _short(caption)
                collector.problem("annotation without its image", image_id, detail)
                continue
            image_id = found[0]
            num_respelled += 1
        draft = collector.draft(image_id)
        if draft is None:
            continue
        if _is_true(entry.get("is_rejected")) or _is_true(entry.get("is_precanned")):
            collector.problem(REJECTED, image_id, _short(caption))
        else:
            collector.add_caption(draft, caption)
    if num_respelled:
        collector.notes.append(
            f"{counted(num_respelled, 'annotation')} spelled the id of the picture in another way "
            "(such as 139.0 or 000000000139 for 139) and were matched by the number"
        )
    return num_captions


def _is_true(value: object) -> bool:
    """Whether a flag is set, also as 1 or "true", as tables that become JSON write it."""
    return value is True or str(value).lower() in ("true", "1", "1.0")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


SOURCE = Source(
    name="coco",
    description="COCO captions: an annotations JSON, or the folder that holds annotations/",
    looks_for="annotations/captions_*.json, or a JSON with images and annotations",
    matches=matches,
    load=load,
    notes_inputs=True,
)
