"""Every format that data comes in; ``load_dataset`` reads them all.

A new format is a module with a ``SOURCE`` and a line in ``SOURCES``; the contract tests then
run over it.
"""

import os
import shlex
from collections import Counter
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from showtell.core.memory import paused_collector
from showtell.data.cache import load_cached
from showtell.data.pictures import is_hidden, is_picture_name
from showtell.data.reading import parse_json, printable, read_text
from showtell.data.records import Dataset
from showtell.data.sources import (
    coco,
    flickr8k,
    folder,
    jsonl,
    karpathy,
    parquet,
    scenes,
    table,
    webdataset,
)
from showtell.data.sources.base import Source
from showtell.data.unpack import Progress, unpacking_progress
from showtell.errors import DataError, unknown_name

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        coco.SOURCE,
        karpathy.SOURCE,
        flickr8k.SOURCE,
        folder.SOURCE,
        table.SOURCE,
        jsonl.SOURCE,
        parquet.SOURCE,
        webdataset.SOURCE,
        scenes.SOURCE,
    )
}
ALIASES = {"tsv": "csv"}


def load_dataset(
    data: str | Path,
    *,
    format: str | None = None,
    images: Path | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Read captioned pictures, whatever their format.

    Args:
        data: A file or folder, or ``scenes`` or ``scenes:NUMBER`` for the built-in set (a folder
            of that name is ``./scenes``, given as a string).
        format: A key of ``SOURCES`` where the format is not to be recognised.
        images: The folder of the pictures where they are not in the usual places.
        progress: Called with the number of pictures unpacked so far, and 0, while an archive is
            unpacked.

    Raises:
        DataError: there is no such data, its format cannot be told, it cannot be read, or
            nothing usable is in it.
    """
    text = os.fspath(data)
    if images is not None and not Path(images).is_dir():
        raise DataError(f"--images {images} is not a folder; give the folder of the pictures")
    if format is not None:
        name = ALIASES.get(format, format)
        if name not in SOURCES:
            raise DataError(unknown_name("format", format, SOURCES))
        source = SOURCES[name]
    elif scenes.is_scenes(text):
        source = scenes.SOURCE
    else:
        source = recognise(Path(text))
    if source is not scenes.SOURCE and not os.path.exists(text):
        raise DataError(_nothing_there(Path(text)))
    load = source.load
    if source.notes_inputs:
        load = partial(load_cached, source.load, source.name)
    # Half a million annotations hold no cycle; looking for one took a third of the time.
    with paused_collector(), unpacking_progress(progress):
        return load(Path(text), Path(images) if images is not None else None)


def recognise(path: Path) -> Source:
    """The one source whose format lies at ``path``.

    Raises:
        DataError: nothing is there, or no source or several recognise it; the message says
            what was found and what to do.
    """
    if not os.path.exists(path):
        raise DataError(_nothing_there(path))
    found = [source for source in SOURCES.values() if source.matches(path)]
    found = [source for source in found if not source.is_container] or found
    if len(found) == 1:
        return found[0]
    formats = ", ".join(SOURCES)
    if found:
        several = "; ".join(f"{source.name} ({source.looks_for})" for source in found)
        raise DataError(
            f"{path} could be read as {several}; say which with --format (one of {formats})"
        )
    if path.suffix.lower() == ".json":
        parse_json(read_text(path), path)  # says on which line a broken file is wrong
    if path.is_dir() and (picture := _a_picture_in(path)):
        raise DataError(
            f"{path} is {_what_lies_at(path)}, without captions: write the caption of {picture} "
            f"into {Path(picture).stem}.txt beside it, and so on; or let a model write them: "
            f"showtell caption {shlex.quote(str(path))} --format sidecar"
        )
    raise DataError(
        f"cannot tell the format of {path}: found {_what_lies_at(path)}; "
        f"say which with --format (one of {formats}; docs/formats.md shows each)"
    )


def _nothing_there(path: Path) -> str:
    near = get_close_matches(str(path), ["scenes"], n=1)
    hint = " (did you mean the built-in set, scenes?)" if near else ""
    return (
        f"no data at {path}{hint}; expected a file or folder in one of the formats "
        f"{', '.join(SOURCES)}, or scenes for the built-in set"
    )


def _a_picture_in(folder: Path) -> str:
    """The name of one picture in a folder or its subfolders, "" where there is none."""
    for place in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        if is_hidden(place.relative_to(folder).as_posix()):
            continue
        names = (entry.name for entry in os.scandir(place))
        found = min((name for name in names if is_picture_name(name)), default="")
        if found and not is_hidden(found):
            return printable(found)
    return ""


def _what_lies_at(path: Path) -> str:
    if not path.is_dir():
        kind = f"a {path.suffix} file" if path.suffix else "a file without an ending"
        return f"{kind} of {path.stat().st_size:,} bytes"
    endings: Counter[str] = Counter()
    with os.scandir(path) as entries:
        for entry in entries:
            ending = os.path.splitext(entry.name)[1] or "other"
            endings["folders" if entry.is_dir() else ending] += 1
    if not endings:
        return "an empty folder"
    counts = ", ".join(f"{count:,} {printable(kind)}" for kind, count in endings.most_common(6))
    return f"a folder with {counts}"
