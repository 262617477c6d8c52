"""Writers of text: JSON lines, CSV, COCO's and Karpathy's JSON, and Hugging Face's image folder.

Rows are written one after the other, so that a set of half a million captions takes no memory of
its own. Formats: https://cocodataset.org/#format-data, Karpathy and Fei-Fei 2015 (see
``sources/karpathy.py``), https://huggingface.co/docs/datasets/image_dataset.
"""

import csv
import json
import os
import shlex
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from showtell.core.files import atomic_write
from showtell.data.ids import id_number
from showtell.data.records import SPLITS, Record, Split
from showtell.data.writers.base import Job, Writer, size_of
from showtell.errors import DataError
from showtell.text.tokenizer import tokenize

IMAGES = "images"
SPLIT_FOLDERS: dict[Split, str] = {"train": "train", "val": "validation", "test": "test"}
"""As Hugging Face calls them."""


def write_jsonl(job: Job) -> None:
    """One object a picture: ``{"image_id", "path", "captions", "split"}``, perhaps styles."""
    with atomic_write(job.folder / (job.file or "captions.jsonl")) as file:
        for record in job.records:
            row = {
                "image_id": record.image_id,
                "path": job.placer.place(record, IMAGES),
                "captions": record.captions,
                "split": record.split,
                **styles_of(record),
            }
            file.write(_json(row) + "\n")


def styles_of(record: Record) -> dict[str, Any]:
    """What a JSON object says of the captions' styles, if they have any."""
    return {"caption_styles": record.styles} if record.styles else {}


def write_csv(job: Job) -> None:
    """One row a caption, under a header.

    Raises:
        DataError: a caption holds a NUL character.
    """
    path = job.folder / (job.file or "captions.csv")
    with atomic_write(path, "wb") as raw:
        table = csv.writer(_Utf8(raw), lineterminator="\n")
        table.writerow(("image_id", "path", "split", "caption"))
        for record in job.records:
            place = job.placer.place(record, IMAGES)
            for caption in record.captions:
                if "\0" in caption:
                    raise DataError(
                        f"a caption of {record.image_id} holds a NUL character, which no CSV can "
                        "hold; convert to jsonl"
                    )
                table.writerow((record.image_id, place, record.split, caption))


class _Utf8:
    """Text in UTF-8 with line ends as they are, for ``csv.writer``."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode())


def write_coco(job: Job) -> None:
    """``annotations/captions_train.json`` and its kin for the splits, and ``images/``."""
    ids = number_ids(job.records)
    root = _common_root(job)
    (job.folder / "annotations").mkdir()
    first = 1
    for split in SPLITS:
        records = [record for record in job.records if record.split == split]
        if records:
            path = job.folder / "annotations" / f"captions_{split}.json"
            with atomic_write(path) as file:
                first = _write_annotations(file, records, ids, root, job, first)


def _write_annotations(
    file: IO[str], records: list[Record], ids: dict[str, int], root: str, job: Job, first: int
) -> int:
    """One annotations file; returns the number of the next annotation."""
    info = {"description": "", "date_created": datetime.now(UTC).strftime("%Y/%m/%d")}
    file.write(f'{{"info": {_json(info)}, "licenses": [], "images": [\n')
    images = (_coco_image(record, ids[record.image_id], root, job) for record in records)
    _write_items(file, images)
    file.write('], "annotations": [\n')

    def annotations() -> Iterator[dict[str, Any]]:
        number = first
        for record in records:
            for caption in record.captions:
                yield {"image_id": ids[record.image_id], "id": number, "caption": caption}
                number += 1

    _write_items(file, annotations())
    file.write("]}\n")
    return first + sum(len(record.captions) for record in records)


def _coco_image(record: Record, number: int, root: str, job: Job) -> dict[str, Any]:
    name = _name(record, root, job)
    size = size_of(record.path)
    shape = {} if size is None else {"width": size[0], "height": size[1]}
    return {"id": number, "file_name": name, **shape}


def write_karpathy(job: Job) -> None:
    """``dataset_showtell.json`` and ``images/``; sentences with their tokens."""
    are_numbers = _numbers(job.records) is not None
    root = _common_root(job)
    with atomic_write(job.folder / (job.file or "dataset_showtell.json")) as file:
        file.write('{"dataset": "showtell", "images": [\n')
        _write_items(file, _karpathy_images(job, root, are_numbers))
        file.write("]}\n")


def _karpathy_images(job: Job, root: str, are_numbers: bool) -> Iterator[dict[str, Any]]:
    number = 0
    for image_number, record in enumerate(job.records):
        name = _name(record, root, job)
        sentences = []
        for caption in record.captions:
            sentences.append(
                {
                    "tokens": tokenize(caption),
                    "raw": caption,
                    "imgid": image_number,
                    "sentid": number,
                }
            )
            number += 1
        yield {
            "filename": name,
            "imgid": image_number,
            **({"cocoid": int(id_number(record.image_id) or 0)} if are_numbers else {}),
            "split": record.split,
            "sentids": [sentence["sentid"] for sentence in sentences],
            "sentences": sentences,
        }


def write_imagefolder(job: Job) -> None:
    """``train/metadata.jsonl`` beside its pictures, ``validation/``, ``test/``.

    The column is ``text`` where every picture has one caption, as training scripts expect it,
    else ``captions``, a list.
    """
    one_each = all(len(record.captions) == 1 for record in job.records)
    for split, folder in SPLIT_FOLDERS.items():
        records = [record for record in job.records if record.split == split]
        if not records:
            continue
        (job.folder / folder).mkdir()
        with atomic_write(job.folder / folder / "metadata.jsonl") as file:
            for record in records:
                name = job.placer.place(record, folder).removeprefix(f"{folder}/")
                said = {"text": record.captions[0]} if one_each else {"captions": record.captions}
                file.write(_json({"file_name": name, **said, **styles_of(record)}) + "\n")


def number_ids(records: Sequence[Record]) -> dict[str, int]:
    """COCO's number of each picture: that of its id where all ids are numbers, else 1, 2, ..."""
    numbers = _numbers(records)
    if numbers is None:
        return {record.image_id: number for number, record in enumerate(records, 1)}
    return numbers


def _numbers(records: Sequence[Record]) -> dict[str, int] | None:
    """The numbers that the ids are; None where one is none, or two are of one number."""
    numbers: dict[str, int] = {}
    for record in records:
        number = id_number(record.image_id)
        if number is None:
            return None
        numbers[record.image_id] = int(number)
    return numbers if len(set(numbers.values())) == len(records) else None


def _common_root(job: Job) -> str:
    """Where pictures stay: the folder that names start at, and a note on how to read them.

    It is that of the output's file where all pictures lie below it, and no note is needed.

    These formats are published ones, whose paths never leave the folder of the pictures.

    Raises:
        DataError: the pictures have no folder in common (drives of Windows).
    """
    if job.placer.how != "keep":
        return ""
    paths = [os.path.abspath(record.path) for record in job.records]
    if all(map(job.placer.is_near, paths)):  # found from the file's folder
        return job.placer.near
    try:
        root = os.path.commonpath(map(os.path.dirname, paths))
    except ValueError:
        raise DataError(
            "the pictures lie on several drives; leave out --pictures keep, or convert to jsonl"
        ) from None
    job.placer.note(f"the pictures stay where they are: read it with --images {shlex.quote(root)}")
    return root


def _name(record: Record, root: str, job: Job) -> str:
    """Put a picture into ``images/``; its name from there, or from ``root`` where it stays."""
    placed = job.placer.place(record, IMAGES)
    if root:
        return Path(os.path.relpath(os.path.abspath(record.path), root)).as_posix()
    return placed.removeprefix(f"{IMAGES}/")


def _write_items(file: IO[str], items: Iterator[dict[str, Any]]) -> None:
    comma = ""
    for item in items:
        file.write(comma + _json(item))
        comma = ",\n"
    file.write("\n")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


WRITERS = (
    Writer("jsonl", "JSON lines, and images/", write_jsonl, ".jsonl", True, holds_styles=True),
    Writer("csv", "a table, and images/", write_csv, ".csv", keeps_paths=True),
    Writer("coco", "COCO's annotations/ and images/", write_coco, keeps_paths=True),
    Writer(
        "karpathy", "Karpathy's split JSON, and images/", write_karpathy, ".json", keeps_paths=True
    ),
    Writer(
        "imagefolder",
        "Hugging Face's image folder: a folder a split, with metadata.jsonl",
        write_imagefolder,
        holds_styles=True,
    ),
)
