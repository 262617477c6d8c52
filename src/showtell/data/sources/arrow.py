"""Data sets that Hugging Face's ``datasets`` has saved: ``save_to_disk``, and its cache.

A saved set is a folder with ``data-00000-of-00001.arrow`` and ``dataset_info.json``; several splits
are such folders, named in ``dataset_dict.json`` above them. The files are Arrow streams, or Arrow
files in ``datasets``' newer form of the cache. They are read by pyarrow, a batch at a time.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from showtell.core.files import parse_json
from showtell.data.reading import note_input
from showtell.data.records import Dataset
from showtell.data.sources.base import Source
from showtell.data.sources.columns import ROWS_PER_READ, Batches, read_table
from showtell.data.sources.containers import archives_in, load_archives
from showtell.data.unpack import Contents, Unpacker
from showtell.errors import DataError

SUFFIXES = (".arrow",)
FILE_MAGIC = b"ARROW1"


def matches(path: Path) -> bool:
    """An ``.arrow`` file, a saved data set, or a folder of saved splits."""
    if path.is_dir():
        return bool(archives_in(path, SUFFIXES))
    return path.suffix.lower() in SUFFIXES


def load(path: Path, images: Path | None) -> Dataset:
    """Read a saved data set, or one file of it.

    Raises:
        DataError: no file, none that can be read, rows that were chosen but not saved, no column
            for picture or captions, or nothing usable.
        MissingExtraError: pyarrow is not installed.
    """
    for folder in {file.parent for file, _ in archives_in(path, SUFFIXES)}:
        _refuse_indices(folder)
    return load_archives(path, "arrow", SUFFIXES, images, _read)


def _refuse_indices(folder: Path) -> None:
    """Old versions saved ``select`` and ``shuffle`` as a list of rows beside the whole table."""
    state = folder / "state.json"
    note_input(state)
    try:
        value = parse_json(state.read_bytes())
    except (OSError, ValueError):
        return
    if isinstance(value, dict) and (
        value.get("_indices_data_files") or value.get("_indices_files")
    ):
        raise DataError(
            f"{folder} holds a choice of rows apart from its table; save it anew with "
            "dataset.flatten_indices().save_to_disk(...), or as Parquet with to_parquet"
        )


def _read(file: Path, unpacker: Unpacker) -> Contents:
    return read_table(file, unpacker, _open)


def _open(opened: IO[bytes]) -> tuple[Any, Batches]:
    from pyarrow import ipc

    is_file = opened.read(len(FILE_MAGIC)) == FILE_MAGIC
    opened.seek(0)
    table = ipc.open_file(opened) if is_file else ipc.open_stream(opened)

    def batches(names: list[str]) -> Iterator[Any]:
        if is_file:
            whole = (table.get_batch(number) for number in range(table.num_record_batches))
        else:
            whole = iter(table)
        for batch in whole:
            chosen = batch.select(names)
            for start in range(0, chosen.num_rows, ROWS_PER_READ):
                yield chosen.slice(start, ROWS_PER_READ)

    return table.schema, batches


SOURCE = Source(
    name="arrow",
    description="a data set saved by Hugging Face's datasets (save_to_disk)",
    looks_for="data-*.arrow, or folders of them",
    matches=matches,
    load=load,
    is_container=True,
)
