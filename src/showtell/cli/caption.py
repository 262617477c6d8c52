"""``showtell caption``."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from showtell.cli import options
from showtell.cli.decoding import Decoding, with_decoding
from showtell.errors import ConfigError
from showtell.pretrained import DEFAULT

if TYPE_CHECKING:
    from showtell.captioner import PictureResult


class CaptionFormat(StrEnum):
    """How captions are written."""

    text = "text"
    jsonl = "jsonl"


@with_decoding
def caption(
    pictures: Annotated[
        list[str], typer.Argument(metavar="PICTURE...", help="Files, folders or globs.")
    ],
    model: options.Model = DEFAULT,
    format: Annotated[CaptionFormat, typer.Option("--format", help="How to write them.")] = (
        CaptionFormat.text
    ),
    output: options.Output = None,
    ensemble: options.Ensemble = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    attention: Annotated[
        bool, typer.Option("--attention", help="JSON says where each word looked.")
    ] = False,
    as_json: options.Json = False,
    *,
    decoding: Decoding,
) -> None:
    """Say what is in pictures.

    With --num-captions, text has a line for each caption, the best first, and JSON has
    `alternatives`. JSON has the words with their log-probabilities, and that of the end. With
    --attention it has a row of weights for each word and for the end, over a grid of so many rows
    and columns, row by row from the top left. With --min-confidence a caption that is less sure is
    empty; JSON has it as `withheld`, and beside text standard error names its picture. A picture
    that cannot be read is named on standard error and the others are still captioned; the exit
    code is then 1.
    """
    from showtell.captioner import Captioner
    from showtell.data.paths import expand_pictures

    if attention and not as_json and format is not CaptionFormat.jsonl:
        raise ConfigError("--attention has no place in text: add --format jsonl or --json")
    paths = expand_pictures(pictures)
    captioner = Captioner.load(model, ensemble=ensemble or (), device=device, precision=precision)
    settings = captioner.config.decoding.with_changes(decoding)
    results = captioner.caption_files(paths, decoding=settings, attention=attention)
    with _opened(output) as file:
        if as_json:
            failed = _write_json(results, file)
        else:
            failed = _write_lines(results, file, format, alone=len(paths) == 1)
    if failed:
        raise typer.Exit(1)


def _record(result: "PictureResult") -> dict[str, Any]:
    from showtell.captions import caption_record

    assert result.caption is not None
    return {"path": str(result.path), **caption_record(result.caption)}


def _write_json(results: "Iterator[PictureResult]", file: IO[str]) -> int:
    captions, failures = [], []
    for result in results:
        if result.caption is None:
            failures.append({"path": str(result.path), "error": result.error})
        else:
            captions.append(_record(result))
    json.dump({"captions": captions, "failures": failures}, file, ensure_ascii=False, indent=2)
    file.write("\n")
    return len(failures)


def _write_lines(
    results: "Iterator[PictureResult]", file: IO[str], format: CaptionFormat, *, alone: bool
) -> int:
    num_failed = 0
    for result in results:
        if result.caption is None:
            num_failed += 1
            typer.echo(f"error: {result.error}", err=True)
        elif format is CaptionFormat.jsonl:
            file.write(json.dumps(_record(result), ensure_ascii=False) + "\n")
        else:
            for caption in (result.caption, *result.caption.alternatives):
                if caption.withheld is not None:
                    sure = f"confidence {caption.confidence:.2f}"
                    typer.echo(f"withheld: {result.path}: {sure}", err=True)
                file.write(f"{caption.text}\n" if alone else f"{result.path}: {caption.text}\n")
    return num_failed


@contextmanager
def _opened(path: Path | None) -> Iterator[IO[str]]:
    from showtell.files import atomic_write

    if path is None:
        yield sys.stdout
    else:
        with atomic_write(path) as file:
            yield file
