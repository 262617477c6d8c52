"""Data sets of captioned pictures: the formats, and ``load_dataset``, which reads any of them.

A format is a ``Source`` in the registry ``SOURCES``. Another package adds one with
``register_source``; docs/extending.md has an example. The contract tests run over all of them.
"""

import os
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from showtell.config.registry import Registry
from showtell.core.memory import paused_collector
from showtell.core.progress import Progress
from showtell.data.cache import load_cached
from showtell.data.reading import parse_json, read_text, reading_as
from showtell.data.records import Dataset
from showtell.data.sources import (
    arrow,
    base,
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
from showtell.data.unpack import unpacking_progress
from showtell.errors import DataError

SOURCES: Registry[Source] = Registry("format", "showtell.sources", DataError)
ALIASES = {"tsv": "csv"}


def register_source(source: Source) -> Source:
    """Add a format that ``load_dataset`` and ``--format`` know from now on.

    Raises:
        ConfigError: the name is taken.
    """
    SOURCES.register(source.name, source)
    return source


for _source in (
    coco.SOURCE,
    karpathy.SOURCE,
    flickr8k.SOURCE,
    folder.SOURCE,
    table.SOURCE,
    jsonl.SOURCE,
    parquet.SOURCE,
    arrow.SOURCE,
    webdataset.SOURCE,
    scenes.SOURCE,
):
    register_source(_source)


def load_dataset(
    data: str | Path,
    *,
    format: str | None = None,
    images: Path | None = None,
    encoding: str | None = None,
    only_edited: bool = False,
    progress: Progress | None = None,
) -> Dataset:
    """Read captioned pictures in any format.

    Args:
        data: A file or folder, or ``scenes`` or ``scenes:NUMBER`` for the built-in set (a folder
            of that name is ``./scenes``, given as a string).
        format: A key of ``SOURCES``; default: the format is recognised.
        images: The folder of the pictures, if they are not in the usual places.
        encoding: Of the texts, where they are not UTF-8; as Python names it.
        only_edited: Leave out captions that a model wrote and nobody edited.
        progress: Called with the number of pictures unpacked so far, and 0, while an archive is
            unpacked.

    Raises:
        DataError: there is no such data, its format is not recognised, it cannot be read, or
            nothing in it is usable.
    """
    with (
        paused_collector(),
        unpacking_progress(progress),
        reading_as(encoding),
        base.only_edited(only_edited),
    ):
        # Half a million annotations hold no cycle; looking for one took a third of the time.
        return _load(os.fspath(data), format, images, only_edited=only_edited)


def _load(text: str, format: str | None, images: Path | None, *, only_edited: bool) -> Dataset:
    if images is not None and not Path(images).is_dir():
        raise DataError(f"--images {images} is not a folder; give the folder of the pictures")
    if format is not None:
        source = SOURCES.find(ALIASES.get(format, format))
    elif scenes.is_scenes(text):
        source = scenes.SOURCE
    else:
        source = recognise(Path(text))
    if source is not scenes.SOURCE and not os.path.exists(text):
        raise DataError(_nothing_there(Path(text)))
    if only_edited and not source.tells_edits:
        raise DataError(
            f"{text} ({source.name}) cannot say which captions a person edited: give a table or "
            "JSON lines that `showtell caption` wrote"
        )
    load = source.load
    if source.notes_inputs:
        load = partial(load_cached, source.load, source.name)
    return load(Path(text), Path(images) if images is not None else None)


def recognise(path: Path) -> Source:
    """The source that recognises ``path``.

    Sources of other packages are asked if none of showtell's own recognises it.

    Raises:
        DataError: nothing is there, or no source or several recognise it; the message says
            what was found and what to do.
    """
    if not os.path.exists(path):
        raise DataError(_nothing_there(path))
    found = [source for source in SOURCES.values() if source.matches(path)]
    if not found:
        SOURCES.load_all()
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
        f"{', '.join(SOURCES.names())}, or scenes for the built-in set"
    )
