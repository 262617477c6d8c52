"""Parquet tables with pictures in them, as Hugging Face's ``datasets`` writes them.

A picture is ``{"bytes": ..., "path": ...}`` or plain bytes, whatever its column is called; a column
of paths serves too. The names of captions' and splits' columns are those of tables.
"""

from pathlib import Path
from typing import IO, Any

from showtell.data.records import Dataset
from showtell.data.sources.base import Source
from showtell.data.sources.columns import ROWS_PER_READ, Batches, read_table
from showtell.data.sources.containers import archives_in, load_archives
from showtell.data.unpack import Contents, Unpacker

SUFFIXES = (".parquet",)


def matches(path: Path) -> bool:
    """A ``.parquet``, or a folder of them: at the top, in ``data/`` or in split folders."""
    if path.is_dir():
        return bool(archives_in(path, SUFFIXES))
    return path.suffix.lower() in SUFFIXES


def load(path: Path, images: Path | None) -> Dataset:
    """Read a table, or all tables of a folder.

    Raises:
        DataError: no table, none that can be read, no column for picture or captions, or nothing
            usable.
        MissingExtraError: pyarrow is not installed.
    """
    return load_archives(path, "parquet", SUFFIXES, images, _read)


def _read(file: Path, unpacker: Unpacker) -> Contents:
    return read_table(file, unpacker, _open)


def _open(opened: IO[bytes]) -> tuple[Any, Batches]:
    from pyarrow import parquet

    table = parquet.ParquetFile(opened, pre_buffer=False)
    return table.schema_arrow, lambda names: table.iter_batches(
        batch_size=ROWS_PER_READ, columns=names
    )


SOURCE = Source(
    name="parquet",
    description="Parquet tables with the pictures in them, as Hugging Face has them",
    looks_for="a .parquet, or a folder of them",
    matches=matches,
    load=load,
    is_container=True,
)
