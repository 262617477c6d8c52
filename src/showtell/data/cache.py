"""Large data sets as they were read, kept so that the next run starts at once.

A file in the cache folder holds the records in columns, beside a stamp of each file and folder that
was looked at: where one of them has changed, the data is read again. The cache is a convenience: if
it cannot be written or read, nothing is said and the data is read as if there were none.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any

from showtell.core.files import cache_folder, short_digest, write_json
from showtell.data.reading import Inputs, chosen_encoding, stamp, watch_inputs
from showtell.data.records import SPLITS, Dataset, Problem, Record
from showtell.images import heif
from showtell.version import __version__

FORMAT = 7  # raise it when a source comes to read the same files differently
WORTH_IT = 10_000  # pictures; fewer are read in less than half a second
SETTLED = 1.0  # seconds; what changed less long ago may change again under the same time stamp


def load_cached(
    load: Callable[[Path, Path | None], Dataset], name: str, path: Path, images: Path | None
) -> Dataset:
    """As ``load(path, images)``, from the cache where all that it looked at is as it was.

    Args:
        load: notes all its inputs.
        name: the source's.

    Raises:
        DataError: as ``load``.
    """
    file = _cache_file(name, path, images)
    kept = _read(file)
    if kept is not None:
        return kept
    with watch_inputs() as inputs:
        dataset = load(path, images)
    if len(dataset.records) >= WORTH_IT and _are_settled(inputs):
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, _to_json(dataset, inputs), indent=None)
    return dataset


def _cache_file(name: str, path: Path, images: Path | None) -> Path:
    asked = [FORMAT, __version__, heif.is_installed(), name]
    asked += [os.getcwd(), str(path), str(images)]
    if (encoding := chosen_encoding()) is not None:
        asked.append(encoding)
    key = short_digest(json.dumps(asked), length=16)
    return cache_folder() / "datasets" / f"{key}.json"


def _are_settled(inputs: Inputs) -> bool:
    newest = max((found[1] for found in inputs.values() if found), default=0)
    return newest < time.time_ns() - SETTLED * 1e9


def _to_json(dataset: Dataset, inputs: Inputs) -> dict[str, Any]:
    records = dataset.records
    return {
        "inputs": inputs,
        "name": dataset.name,
        "format": dataset.format,
        "ids": [record.image_id for record in records],
        "paths": [str(record.path) for record in records],
        "splits": [record.split for record in records],
        "styles": {record.image_id: record.styles for record in records if record.styles},
        "num_captions": [len(record.captions) for record in records],
        "captions": list(chain.from_iterable(record.captions for record in records)),
        "problems": [[p.kind, p.where, p.detail] for p in dataset.problems],
        "notes": list(dataset.notes),
        "uncaptioned": [str(path) for path in dataset.uncaptioned],
    }


def _read(file: Path) -> Dataset | None:
    """The data set in ``file``; None where there is none, or where it may be another by now."""
    try:
        value = json.loads(file.read_bytes())
        _check(value)
        if any(stamp(path) != found for path, found in value["inputs"].items()):
            return None
        captions = iter(value["captions"])
        records = tuple(
            Record(
                image_id,
                path,
                tuple(islice(captions, num)),
                split,
                tuple(value["styles"].get(image_id, ())),
            )
            for image_id, path, num, split in zip(
                value["ids"],
                _paths(value["paths"]),
                value["num_captions"],
                value["splits"],
                strict=True,
            )
        )
        problems = tuple(Problem(*problem) for problem in value["problems"])
        return Dataset(
            value["name"],
            value["format"],
            records,
            problems,
            tuple(value["notes"]),
            tuple(_paths(value["uncaptioned"])),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _check(value: dict[str, Any]) -> None:
    """Raise ValueError, TypeError or KeyError where a value is not as ``_to_json`` makes it."""
    columns = ("ids", "paths", "splits", "captions", "notes")
    texts = [[value["name"], value["format"]], *(value[column] for column in columns)]
    texts += [*value["problems"], *value["styles"].values()]
    if not all(isinstance(column, list) for column in texts):
        raise TypeError("a column is not a list")
    for column in texts:
        "".join(column).encode()  # which fails for anything but texts that can be written
    if not set(value["splits"]) <= set(SPLITS):
        raise ValueError("no such split")
    counts = value["num_captions"]
    if not all(type(count) is int and count > 0 for count in counts):
        raise ValueError("a picture has no captions")
    if sum(counts) != len(value["captions"]) or not counts:
        raise ValueError("captions are missing, or left over")
    styles = value["styles"]
    pictures = zip(value["ids"], counts, strict=True)
    if any(len(styles[name]) != num for name, num in pictures if name in styles):
        raise ValueError("captions have no style, or several")


def _paths(texts: Iterable[str]) -> Iterator[Path]:
    """A path for each text; the parts of each folder are parsed once, as that takes time."""
    folders: dict[str, Path] = {}
    for text in texts:
        folder, _, name = text.rpartition(os.sep)
        if folder not in folders:
            folders[folder] = Path(folder)
        yield folders[folder] / name if folder else Path(text)
