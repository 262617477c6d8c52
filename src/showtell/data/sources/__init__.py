"""Every format that data comes in; ``load_dataset`` reads them all.

A new format is a module with a ``SOURCE`` and a line in ``SOURCES``; the contract tests then
run over it.
"""

import os
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from showtell.core.memory import paused_collector
from showtell.data.cache import load_cached
from showtell.data.reading import parse_json, read_text
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
from showtell.data.sources.unrecognised import advice
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

    def is_data(file: Path) -> bool:
        return any(source.matches(file) for source in SOURCES.values())

    try:
        line = advice(path, is_data, SOURCES)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    raise DataError(line)


def _nothing_there(path: Path) -> str:
    near = get_close_matches(str(path), ["scenes"], n=1)
    hint = " (did you mean the built-in set, scenes?)" if near else ""
    return (
        f"no data at {path}{hint}; expected a file or folder in one of the formats "
        f"{', '.join(SOURCES)}, or scenes for the built-in set"
    )
