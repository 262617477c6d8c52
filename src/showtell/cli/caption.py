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

if TYPE_CHECKING:
    from showtell.captioner import PictureResult
    from showtell.config import DecodingConfig


class CaptionFormat(StrEnum):
    """How captions are written."""

    text = "text"
    jsonl = "jsonl"


def caption(
    pictures: Annotated[
        list[str], typer.Argument(metavar="PICTURE...", help="Files, folders or globs.")
    ],
    model: options.Model,
    format: Annotated[CaptionFormat, typer.Option("--format", help="How to write them.")] = (
        CaptionFormat.text
    ),
    output: options.Output = None,
    beam_size: options.BeamSize = None,
    max_length: options.MaxLength = None,
    length_penalty: options.LengthPenalty = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    as_json: options.Json = False,
) -> None:
    """Say what is in pictures.

    A picture that cannot be read is named on standard error and the others are still captioned;
    the exit code is then 1.
    """
    from showtell.captioner import Captioner
    from showtell.data.paths import expand_pictures

    paths = expand_pictures(pictures)
    captioner = Captioner.load(model, device=device, precision=precision)
    decoding = decoding_settings(
        captioner.config.decoding,
        beam_size=beam_size,
        max_length=max_length,
        length_penalty=length_penalty,
    )
    results = captioner.caption_files(paths, decoding=decoding)
    with _opened(output) as file:
        if as_json:
            failed = _write_json(results, file)
        else:
            failed = _write_lines(results, file, format, alone=len(paths) == 1)
    if failed:
        raise typer.Exit(1)


def decoding_settings(base: "DecodingConfig", **overrides: Any) -> "DecodingConfig":
    """``base`` with the options that were given.

    Raises:
        ConfigError: a value cannot be.
    """
    from showtell.config import replace_settings

    return replace_settings(base, {k: v for k, v in overrides.items() if v is not None})


def _record(result: "PictureResult") -> dict[str, Any]:
    assert result.caption is not None
    return {
        "path": str(result.path),
        "caption": result.caption.text,
        "confidence": round(result.caption.confidence, 4),
    }


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
            file.write(result.caption.text if alone else f"{result.path}: {result.caption.text}")
            file.write("\n")
    return num_failed


@contextmanager
def _opened(path: Path | None) -> Iterator[IO[str]]:
    from showtell.files import atomic_write

    if path is None:
        yield sys.stdout
    else:
        with atomic_write(path) as file:
            yield file
