"""Captions in one file: records of results, and how each format writes them and reads them back.

Every format is made of records, which are JSON objects: that of a caption has ``path``,
``caption``, ``confidence`` and more, that of a failure has ``path`` and ``error``. If a finished
file can be read back, a new run keeps its captions by the same model and adds the others.

People correct such a file by hand, so a row that cannot be read stops the run before it begins.

A file that showtell did not write is recognized, too. A file counts as showtell's if its first
record names the model. A text file has no such record, so each of its lines has to begin with a
picture's name: one with a suffix of pictures, or that of a file which is there.
"""

import csv
import json
import math
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

from showtell.bulk.naming import sample_keys
from showtell.config import DecodingConfig
from showtell.core.files import parse_json, short_digest
from showtell.data.column_names import is_edited
from showtell.data.duplicates import Look
from showtell.data.pictures import PICTURE_SUFFIXES
from showtell.data.reading import is_text, printable
from showtell.data.tar import members
from showtell.errors import DataError, MissingExtraError, needs_extra, one_line
from showtell.inference.caption import Caption, caption_record
from showtell.inference.captioner import Captioner
from showtell.inference.stream import PictureResult

Record = dict[str, Any]
Item = TypeVar("Item")


class Reiterable(Generic[Item]):
    """An iterable that can be gone through any number of times.

    Args:
        begin: gives a new iterator each time.
    """

    def __init__(self, begin: Callable[[], Iterator[Item]]) -> None:
        self._begin = begin

    def __iter__(self) -> Iterator[Item]:
        return self._begin()


def record_of(result: PictureResult, model: str | None = None) -> Record:
    """The record of a result.

    Args:
        model: what made it, ``model_id``; left out where None.
    """
    if result.caption is None:
        return {"path": str(result.path), "error": result.error}
    record: Record = {"path": str(result.path), **caption_record(result.caption)}
    if result.look is not None:
        record["look"] = result.look.to_text()
    if result.same_as is not None:
        record["same_as"] = str(result.same_as)
    if result.notes:
        record["notes"] = list(result.notes)
    if model is not None:
        record["model"] = model
    return record


def result_of(record: Record) -> PictureResult:
    """The result that a record of a caption was made of, its attention left out.

    Raises:
        KeyError, TypeError, ValueError: it is no such record.
    """
    caption = _heard(record, tuple(_heard(other) for other in record.get("alternatives", ())))
    look = Look.from_text(record["look"]) if "look" in record else None
    notes = tuple(record.get("notes", ()))
    return PictureResult(record["path"], caption, None, look, record.get("same_as"), notes)


def to_line(record: Record) -> str:
    """A record as one line of JSON; names that are not text (odd bytes) come as escapes."""
    line = json.dumps(record, ensure_ascii=False)
    return (line if is_text(line) else json.dumps(record)) + "\n"


def model_id(captioner: Captioner, decoding: DecodingConfig) -> str:
    """12 digits that stand for what captions follow from, besides the picture."""
    identity = captioner.cleaning.identity
    return short_digest(captioner.fingerprint, decoding.identity(), identity)


def _heard(record: Record, alternatives: tuple[Caption, ...] = ()) -> Caption:
    return Caption(
        text=str(record["caption"]),
        words=tuple(record["words"]),
        log_probs=tuple(record["log_probs"]),
        confidence=math.nan if record["confidence"] is None else float(record["confidence"]),
        alternatives=alternatives,
        withheld=record.get("withheld"),
        raw=record.get("raw"),
    )


COLUMNS = (
    *("path", "caption", "confidence", "log_prob", "alternatives", "look", "same_as", "model"),
    "edited",
)
NUMBERS = ("confidence", "log_prob")
ROWS_A_GROUP = 4096

Write = Callable[[Iterable[Record], IO[bytes]], None]
Read = Callable[[Path], Iterator[Record]]


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of file.

    Attributes:
        is_ours: whether showtell wrote a file; on other files it may raise errors of its reader.
        suffix: of the files' names; None if no name tells this format.
        write: puts records, which may be gone through again, into an open binary file; None if
            ``-o`` does not write this format.
        read: gives the records of such a file; None where it cannot tell.
    """

    is_ours: Callable[[Path], bool]
    suffix: str | None = None
    write: Write | None = None
    read: Read | None = None


def _has(value: Any, *keys: str) -> bool:
    return isinstance(value, dict) and set(keys) <= value.keys()


_SUFFIXES = "|".join(suffix[1:] for suffix in sorted(PICTURE_SUFFIXES))
_NAMED = re.compile(rf".+(\.({_SUFFIXES})|\.parquet/\d+(/[^:]*)?|://[^ ]+): ", re.IGNORECASE)
_BREAKS = re.compile("[\t-\r\x1c-\x1f\x85\u2028\u2029]+")
_CONTROLS = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff]")


def on_one_line(caption: str) -> str:
    """A caption without line breaks and without what a terminal obeys: a model may say anything.

    Unlike ``printable`` it leaves marks that join letters, which many scripts need.
    """
    plain = _BREAKS.sub(" ", caption)
    return _CONTROLS.sub(lambda found: repr(found[0])[1:-1], plain)


def text_lines(record: Record, *, alone: bool) -> str:
    """A line a caption, the best first; with the path unless it is the only picture."""
    said = [record, *record.get("alternatives", ())]
    head = "" if alone else f"{printable(record['path'])}: "
    return "".join(f"{head}{on_one_line(caption['caption'])}\n" for caption in said)


def write_text(records: Iterable[Record], file: IO[bytes]) -> None:
    """One line a caption, with its picture's path."""
    for record in records:
        file.write(text_lines(record, alone=False).encode())


def write_text_alone(records: Iterable[Record], file: IO[bytes]) -> None:
    """The captions of the only picture."""
    for record in records:
        file.write(text_lines(record, alone=True).encode())


def _is_text(path: Path) -> bool:
    with open(path, encoding="utf-8", errors="surrogateescape") as lines:
        return all(_NAMED.match(line) or _names_a_file(line) for line in lines)


def _names_a_file(line: str) -> bool:
    """Whether a line begins with the path of a file and a colon; the path may have colons in it."""
    return any(os.path.isfile(line[: found.start()]) for found in re.finditer(": ", line))


def write_jsonl(records: Iterable[Record], file: IO[bytes]) -> None:
    """One JSON object a line."""
    for record in records:
        file.write(to_line(record).encode())


def read_jsonl(path: Path) -> Iterator[Record]:
    """The captions of a JSON lines file."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.isspace():
                continue
            try:
                yield _checked(parse_json(line))
            except ValueError as error:
                raise _bad_row(path, f"line {number:,}", error) from None


def _is_jsonl(path: Path) -> bool:
    with open(path, "rb") as file:
        return _has(parse_json(file.readline()), "path", "caption", "model")


def write_csv(records: Iterable[Record], file: IO[bytes]) -> None:
    """A table with a line of names; alternatives as JSON, odd bytes of paths as they are."""
    lines = csv.writer(_Encoder(file))
    lines.writerow(COLUMNS)
    for record in records:
        lines.writerow(_flat(record).values())


def read_csv(path: Path) -> Iterator[Record]:
    """The captions of a table that ``write_csv`` wrote, or a spreadsheet after that."""
    with _open_csv(path) as (file, delimiter):
        rows = csv.DictReader(file, delimiter=delimiter, strict=True)
        while True:
            first = rows.line_num + 1  # a quotation mark too many makes one row of all lines
            try:
                row = next(rows, None)
                if row is None:
                    return
                if None in row:
                    raise ValueError("it has more cells than the table has columns")
                if any(row.values()):
                    yield _checked(_unflat(row))
            except (ValueError, csv.Error) as error:
                raise _bad_row(path, f"line {max(first, 2):,}", error) from None


def _is_csv(path: Path) -> bool:
    with _open_csv(path) as (file, delimiter):
        return _are_columns(next(csv.reader(file, delimiter=delimiter), ()))


@contextmanager
def _open_csv(path: Path) -> Iterator[tuple[IO[str], str]]:
    """A table, open, and what is between its cells: spreadsheets write a byte order mark, and
    semicolons where a number's comma is decimal.
    """
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        head = file.readline()
        file.seek(0)
        delimiters = (",", ";", "\t")
        is_ours = (_are_columns(next(csv.reader([head], delimiter=d), ())) for d in delimiters)
        yield file, next((d for d, fits in zip(delimiters, is_ours, strict=True) if fits), ",")


def _are_columns(names: Sequence[str]) -> bool:
    """Whether a table has columns of ours alone; the page's has not all of them."""
    return {"path", "caption", "model"} <= set(names) <= set(COLUMNS)


def write_parquet(records: Iterable[Record], file: IO[bytes]) -> None:
    """A Parquet table with the columns of the CSV."""
    pyarrow, parquet = _pyarrow()
    kinds = [(name, pyarrow.float64() if name in NUMBERS else pyarrow.string()) for name in COLUMNS]
    schema = pyarrow.schema(kinds)
    with parquet.ParquetWriter(file, schema) as writer:
        for group in _groups(records):
            rows = [_texts_only(_flat(record)) for record in group]
            writer.write_table(pyarrow.Table.from_pylist(rows, schema))


def read_parquet(path: Path) -> Iterator[Record]:
    """The captions of a table that ``write_parquet`` wrote."""
    pyarrow, parquet = _pyarrow()
    try:
        number = 0
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=ROWS_A_GROUP):
            for row in batch.to_pylist():
                number += 1
                yield _checked(_unflat(row))
    except (ValueError, pyarrow.ArrowException) as error:
        raise _bad_row(path, f"row {number:,}", error) from None


def _is_parquet(path: Path) -> bool:
    pyarrow, parquet = _pyarrow()
    try:
        return _are_columns(parquet.read_schema(path).names)
    except pyarrow.ArrowException:
        return False


def write_webdataset(records: Iterable[Record], file: IO[bytes]) -> None:
    """A tar archive: ``KEY.txt`` has the caption and ``KEY.json`` the record, a picture each.

    The keys are unique (``naming.sample_keys``); those of pictures of one archive are the
    archive's own, so that both join by key.

    Args:
        records: gone through three times.
    """
    paths = Reiterable(lambda: (record["path"] for record in records))
    with tarfile.open(fileobj=file, mode="w") as archive:
        for key, record in zip(sample_keys(paths), records, strict=True):
            for suffix, text in (("txt", record["caption"]), ("json", to_line(record))):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                content = text.encode()
                member.size = len(content)
                archive.addfile(member, BytesIO(content))
            archive.members.clear()  # type: ignore[attr-defined]  # else it keeps every header


def read_webdataset(path: Path) -> Iterator[Record]:
    """The captions of an archive that ``write_webdataset`` wrote."""
    with open(path, "rb") as file:
        number = 0
        try:
            for member, content in members(file):
                if member.isreg() and member.name.endswith(".json"):
                    number += 1
                    yield _checked(parse_json(content()))
        except (ValueError, EOFError, tarfile.TarError) as error:
            raise _bad_row(path, f"record {number:,}", error) from None


def _is_webdataset(path: Path) -> bool:
    with tarfile.open(path, "r:") as archive:
        caption, record = archive.next(), archive.next()
        if caption is None:  # of a run that captioned nothing
            return True
        content = archive.extractfile(record) if record and record.name.endswith(".json") else None
        return content is not None and _has(parse_json(content.read()), "path", "caption", "model")


def _is_json(path: Path) -> bool:
    return _has(parse_json(path.read_bytes()), "captions", "failures")


def _is_failures(path: Path) -> bool:
    with open(path, "rb") as file:
        return _has(parse_json(file.readline()), "path", "error")


def listed_failures(path: Path) -> dict[str, Record]:
    """The records of a list of failures by their pictures; none where there is no such list."""
    listed = {}
    with suppress(FileNotFoundError), open(path, "rb") as file:
        for line in file:
            with suppress(ValueError):
                if _has(record := parse_json(line), "path", "error"):
                    listed[str(record["path"])] = record
    return listed


FORMATS: dict[str, Format] = {
    "text": Format(_is_text, ".txt", write_text),
    "jsonl": Format(_is_jsonl, ".jsonl", write_jsonl, read_jsonl),
    "csv": Format(_is_csv, ".csv", write_csv, read_csv),
    "parquet": Format(_is_parquet, ".parquet", write_parquet, read_parquet),
    "webdataset": Format(_is_webdataset, ".tar", write_webdataset, read_webdataset),
    "json": Format(_is_json),  # one object, as ``--json`` writes
    "failures": Format(_is_failures),
}


def format_of(path: Path) -> str:
    """The format that a file's name tells by its suffix, else ``text``."""
    suffix = path.suffix.lower()
    return next((kind for kind, format in FORMATS.items() if format.suffix == suffix), "text")


def writer_of(kind: str) -> Write:
    """What writes a format. It is looked up before the work, so that errors come before it, too.

    Raises:
        MissingExtraError: what writes the format is not installed.
        DataError: there is no such format.
    """
    writers = {name: format.write for name, format in FORMATS.items() if format.write is not None}
    if kind not in writers:
        raise DataError(f"no file format {kind!r}; known: {', '.join(writers)}")
    if kind == "parquet":
        _pyarrow()
    return writers[kind]


def is_written_by_showtell(path: Path, kind: str) -> bool:
    """Whether a path is a file, and one of showtell's in a format of ``FORMATS``."""
    if not path.is_file():  # to read a pipe would wait without end
        return False
    try:
        return FORMATS[kind].is_ours(path)
    except (ValueError, OSError, EOFError, csv.Error, tarfile.TarError, MissingExtraError):
        return False


def finished_records(
    path: Path, kind: str, model: str | None, *, attention: bool = False
) -> Iterator[tuple[Record, bool]]:
    """The records of a finished file, and whether each is kept.

    A record is kept if it is by the same model, or by a person: what the page calls ``edited``.
    There is nothing where there is no such file.

    Args:
        model: None: any.
        attention: whether only records with their attention are wanted.

    Raises:
        DataError: a row cannot be read; a person may have changed it.
    """
    read = FORMATS[kind].read
    if read is None or not path.is_file():
        return
    for record in read(path):
        is_same = model in (None, record.get("model"))
        is_enough = is_same and not (attention and "attention" not in record)
        yield record, is_enough or record.get("edited") is True


class _Encoder:
    """What ``csv`` writes text to, over a binary file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode("utf-8", "surrogateescape"))


def _flat(record: Record) -> Record:
    row = {name: record.get(name) for name in COLUMNS}
    if row["alternatives"] is not None:
        row["alternatives"] = json.dumps(row["alternatives"], ensure_ascii=False)
    row["edited"] = "true" if row["edited"] else None
    return row


def _unflat(row: dict[str, Any]) -> Record:
    """The record of a table's row, in which an empty cell stands for nothing, or no caption.

    Raises:
        ValueError: its alternatives are no JSON.
    """
    record = {name: value for name, value in row.items() if value not in (None, "")}
    for name in NUMBERS:
        if name in record:
            record[name] = _number(record[name])
    if "alternatives" in record:
        record["alternatives"] = parse_json(record["alternatives"])
    return {"caption": "", **record}


def _number(cell: str | float) -> float | None:
    """Also with a decimal comma; None where a person wrote something else."""
    try:
        return float(str(cell).replace(",", "."))
    except ValueError:
        return None


def _checked(record: Any) -> Record:
    """A record of a caption, with ``edited`` as it is there: true or not at all.

    Raises:
        ValueError: it is something else.
    """
    if not _has(record, "path", "caption"):
        raise ValueError("it has no path and caption")
    if not isinstance(record["path"], str) or not isinstance(record["caption"], str):
        raise ValueError("its path and caption are not texts")
    if is_edited(record.pop("edited", None)):
        record["edited"] = True
    return dict(record)


def _bad_row(path: Path, place: str, reason: Exception) -> DataError:
    return DataError(
        f"{path}: {place} cannot be read ({one_line(reason)}): mend it, or --overwrite to "
        "caption everything anew"
    )


def _texts_only(row: Record) -> Record:
    """Parquet's strings are UTF-8: odd bytes of paths come as escapes."""
    return {
        name: value if not isinstance(value, str) or is_text(value) else printable(value)
        for name, value in row.items()
    }


def _groups(records: Iterable[Record]) -> Iterator[list[Record]]:
    group: list[Record] = []
    for record in records:
        group.append(record)
        if len(group) == ROWS_A_GROUP:
            yield group
            group = []
    if group:
        yield group


def _pyarrow() -> tuple[Any, Any]:
    with needs_extra("parquet", "a Parquet table"):
        import pyarrow
        from pyarrow import parquet
    return pyarrow, parquet
