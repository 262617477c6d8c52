"""``showtell caption`` to standard output as captions come, or as one JSON object."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import typer

from showtell.bulk.formats import COLUMNS, Record, on_one_line, record_of, text_lines, to_line
from showtell.bulk.inputs import Inputs
from showtell.bulk.targets import refuse_others
from showtell.core.files import atomic_write
from showtell.data.reading import printable
from showtell.inference.stream import Originals, Picture, PictureResult, fetched_ahead

if TYPE_CHECKING:
    from showtell.cli.caption import Request, Writing


def check_output(writing: "Writing") -> None:
    """Raise DataError where the file of ``--json -o FILE`` is there, and is a person's."""
    if writing.output is not None and not writing.overwrite:
        refuse_others(writing.output, "json")


def caption_to_screen(request: "Request", inputs: Inputs) -> bool:
    """Caption pictures and print; whether the exit code has to tell of a failure.

    Failures go to standard error, or, with ``--json``, into the object.
    """
    captioner, decoding = request.load()
    writing, making = request.writing, request.making
    with closing(fetched_ahead(_each_once(inputs))) as pictures:
        results = captioner.caption_stream(
            pictures,
            decoding=decoding,
            attention=making.attention,
            batch_size=making.batch_size,
            originals=Originals() if making.dedupe else None,
        )
        with _opened(writing.output) as file:
            if writing.as_json:
                failed = _write_json(results, file)
            else:
                kind, alone = writing.kind.value, inputs.is_one_picture
                failed = _write_lines(results, file, kind, alone=alone)
    if request.asking.price is not None and (cost := request.asking.cost(captioner)) is not None:
        typer.echo(cost, err=True)
    return inputs.has_failed(failed) or (request.strict and bool(failed))


def _each_once(pictures: Iterable[Picture]) -> Iterator[Picture]:
    seen: set[str] = set()
    for picture in pictures:
        if str(picture.path) not in seen:
            seen.add(str(picture.path))
            yield picture


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
            shown = {"path": printable(record["path"]), "caption": on_one_line(record["caption"])}
            table.writerow(record | shown)
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
