"""Writers that put the pictures' bytes into the output: WebDataset's tar shards and Parquet.

Shards are written from front to back, a picture at a time. The same data gives the same bytes: tar
members have no time and no owner.
"""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from showtell.data.pictures import PICTURE_SUFFIXES
from showtell.data.reading import lines_of
from showtell.data.records import SPLITS, Record
from showtell.data.unpack import MOST_BYTES
from showtell.data.writers.base import Job, Writer, suffix_of
from showtell.data.writers.rows import SPLIT_FOLDERS, styles_of
from showtell.errors import DataError, needs_extra

SHARD_BYTES = 512 * 2**20  # of pictures in one file
SHARD_PICTURES = 10_000
GROUP_BYTES = 32 * 2**20  # of pictures in one row group, which is held in memory
GROUP_PICTURES = 256


def write_webdataset(job: Job) -> None:
    """``train-000000.tar`` and its kin; members ``000000000.jpg``, ``.txt`` and ``.json``.

    The text has a caption a line; it is left out where it could not say all: where a caption has
    several lines itself, or a style. The JSON has all: captions, styles, split and id.
    """
    number = 0
    for split in SPLITS:
        records = [record for record in job.records if record.split == split]
        for shard, part in enumerate(_shards(records)):
            path = job.folder / f"{split}-{shard:06d}.tar"
            with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
                for record in part:
                    _add_sample(archive, f"{number:09d}", record)
                    archive.members.clear()  # type: ignore[attr-defined]  # else it keeps them all
                    number += 1
                    job.placer.done()


def _add_sample(archive: tarfile.TarFile, key: str, record: Record) -> None:
    suffix = record.path.suffix.lower()
    if suffix not in PICTURE_SUFFIXES:
        suffix = suffix_of(record.path)
    _add_member(archive, key + suffix, _bytes_of(record))
    if not record.styles and all(len(lines_of(text)) == 1 for text in record.captions):
        _add_member(archive, f"{key}.txt", "\n".join(record.captions).encode())
    said = {
        "captions": record.captions,
        "split": record.split,
        "image_id": record.image_id,
        **styles_of(record),
    }
    _add_member(archive, f"{key}.json", json.dumps(said, ensure_ascii=False).encode())


def _add_member(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def write_parquet(job: Job) -> None:
    """``data/train-00000-of-00001.parquet`` and its kin, or one file with all splits.

    The columns are ``image`` (bytes and path), ``captions``, ``split`` and ``image_id``, with
    the note by which Hugging Face's ``datasets`` decodes the pictures.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    with needs_extra("parquet", "writing Parquet"):
        from pyarrow import parquet
    schema = _schema()
    for path, records in _parquet_files(job):
        path.parent.mkdir(exist_ok=True)
        with parquet.ParquetWriter(path, schema) as file:
            for group in _groups(records):
                file.write_table(_table(group, schema, job))


def _parquet_files(job: Job) -> Iterator[tuple[Path, Sequence[Record]]]:
    if job.file is not None:
        yield job.folder / job.file, job.records
        return
    for split in SPLITS:
        shards = list(_shards([record for record in job.records if record.split == split]))
        for number, records in enumerate(shards):
            name = f"{SPLIT_FOLDERS[split]}-{number:05d}-of-{len(shards):05d}.parquet"
            yield job.folder / "data" / name, records


def _schema() -> Any:
    import pyarrow

    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    text = {"dtype": "string", "_type": "Value"}
    features = {
        "image": {"_type": "Image"},
        "captions": {"feature": text, "_type": "List"},
        "split": text,
        "image_id": text,
    }
    return pyarrow.schema(
        [
            ("image", image),
            ("captions", pyarrow.list_(pyarrow.string())),
            ("split", pyarrow.string()),
            ("image_id", pyarrow.string()),
        ],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )


def _table(records: Sequence[Record], schema: Any, job: Job) -> Any:
    import pyarrow

    rows = []
    for record in records:
        rows.append(
            {
                "image": {"bytes": _bytes_of(record), "path": job.placer.name_for(record)},
                "captions": list(record.captions),
                "split": record.split,
                "image_id": record.image_id,
            }
        )
        job.placer.done()
    return pyarrow.Table.from_pylist(rows, schema=schema)


def _bytes_of(record: Record) -> bytes:
    """
    Raises:
        DataError: the picture is larger than what is read from archives.
    """
    content = record.path.read_bytes()
    if len(content) > MOST_BYTES:
        raise DataError(
            f"{record.path} has {len(content):,} bytes; a picture in an archive has {MOST_BYTES:,} "
            "at most"
        )
    return content


def _shards(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    return _cut(records, SHARD_BYTES, SHARD_PICTURES)


def _groups(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    return _cut(records, GROUP_BYTES, GROUP_PICTURES)


def _cut(records: Sequence[Record], most_bytes: int, most: int) -> Iterator[Sequence[Record]]:
    """Runs of records with no more bytes of pictures, nor pictures, than this."""
    part: list[Record] = []
    num_bytes = 0
    for record in records:
        size = record.path.stat().st_size
        if part and (num_bytes + size > most_bytes or len(part) == most):
            yield part
            part, num_bytes = [], 0
        part.append(record)
        num_bytes += size
    if part:
        yield part


WRITERS = (
    Writer(
        "parquet",
        "Parquet with the pictures in it, as Hugging Face has it",
        write_parquet,
        ".parquet",
        packs=True,
    ),
    Writer(
        "webdataset",
        "tar shards of pictures and texts",
        write_webdataset,
        packs=True,
        holds_styles=True,
    ),
)
