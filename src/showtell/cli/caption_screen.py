"""Captions on standard output as they come, or as one JSON object."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import typer

from showtell.bulk.formats import COLUMNS, Record, record_of, text_lines, to_line
from showtell.core.files import atomic_write
from showtell.data.reading import printable
from showtell.inference.stream import PictureResult


def write_results(
    results: Iterable[PictureResult], kind: str, output: Path | None, *, alone: bool
) -> set[str]:
    """Write captions; failures go to standard error, or, for ``json``, into the object.

    Args:
        kind: json, text, jsonl or csv.
        output: a file instead of standard output.
        alone: whether there is but one picture, whose text needs no path.

    Returns:
        The paths that failed.
    """
    with _opened(output) as file:
        if kind == "json":
            return _write_json(results, file)
        return _write_lines(results, file, kind, alone=alone)


def _write_json(results: Iterable[PictureResult], file: IO[str]) -> set[str]:
    captions: list[Record] = []
    failures: list[Record] = []
    for result in results:
        (failures if result.caption is None else captions).append(record_of(result))
    value = {"captions": captions, "failures": failures}
    text = json.dumps(value, ensure_ascii=False, indent=2)
    if text != text.encode("utf-8", "replace").decode():  # paths of odd bytes
        text = json.dumps(value, indent=2)
    file.write(text + "\n")
    return {failure["path"] for failure in failures}


def _write_lines(
    results: Iterable[PictureResult], file: IO[str], kind: str, *, alone: bool
) -> set[str]:
    failed = set()
    table = csv.DictWriter(file, COLUMNS[:4], extrasaction="ignore", lineterminator="\n")
    if kind == "csv":
        table.writeheader()
    for result in results:
        record = record_of(result)
        if kind != "jsonl":  # whose records have the notes
            for note in result.notes:
                typer.echo(f"note: {printable(str(result.path))}: {note}", err=True)
        if result.caption is None:
            failed.add(record["path"])
            typer.echo(f"error: {printable(str(result.error))}", err=True)
        elif kind == "jsonl":
            file.write(to_line(record))
        elif kind == "csv":
            table.writerow(record | {"path": printable(record["path"])})
        else:
            _tell_withheld(result)
            file.write(text_lines(record, alone=alone))
    return failed


def _tell_withheld(result: PictureResult) -> None:
    assert result.caption is not None
    for caption in (result.caption, *result.caption.alternatives):
        if caption.withheld is not None:
            path = printable(str(result.path))
            typer.echo(f"withheld: {path}: confidence {caption.confidence:.2f}", err=True)


@contextmanager
def _opened(path: Path | None) -> Iterator[IO[str]]:
    if path is None:
        yield sys.stdout
    else:
        with atomic_write(path) as file:
            yield file
