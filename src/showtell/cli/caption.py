"""``showtell caption``."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from showtell.cli import options
from showtell.cli.decoding import Decoding, with_decoding
from showtell.errors import ConfigError
from showtell.pretrained import DEFAULT

if TYPE_CHECKING:
    from showtell.bulk.inputs import Inputs


class CaptionFormat(StrEnum):
    """How captions are written."""

    text = "text"
    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"
    webdataset = "webdataset"
    sidecar = "sidecar"
    xmp = "xmp"


class Engine(StrEnum):
    """What does the work."""

    local = "local"
    ray = "ray"


BESIDE = (CaptionFormat.sidecar, CaptionFormat.xmp)
BY_SUFFIX = {
    ".jsonl": CaptionFormat.jsonl,
    ".csv": CaptionFormat.csv,
    ".parquet": CaptionFormat.parquet,
    ".tar": CaptionFormat.webdataset,
}
TO_SCREEN = (CaptionFormat.text, CaptionFormat.jsonl, CaptionFormat.csv)


@with_decoding
def caption(
    pictures: Annotated[
        list[str],
        typer.Argument(
            metavar="PICTURE...",
            help="Files, folders, globs, lists (.txt, .jsonl, .parquet), .tar archives, URLs.",
        ),
    ],
    model: options.Model = DEFAULT,
    format: Annotated[
        CaptionFormat | None,
        typer.Option("--format", help="How to write them; default: as -o ends, else text."),
    ] = None,
    output: options.Output = None,
    ensemble: options.Ensemble = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    attention: Annotated[
        bool, typer.Option("--attention", help="JSON says where each word looked.")
    ] = False,
    as_json: options.Json = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace captions and texts that are there.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be captioned and kept, do nothing.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if any picture fails.")
    ] = False,
    failures: Annotated[
        Path | None,
        typer.Option("--failures", help="Where failures are listed; default: failures.jsonl."),
    ] = None,
    dedupe: Annotated[
        bool, typer.Option("--dedupe", help="Pictures that look the same share a caption.")
    ] = False,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Pictures at once.")
    ] = None,
    engine: Annotated[Engine, typer.Option("--engine", help="This machine, or Ray.")] = (
        Engine.local
    ),
    address: Annotated[
        str | None, typer.Option("--address", help="ray: of the cluster; default: a local one.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="ray: models in memory at once.")
    ] = None,
    *,
    decoding: Decoding,
) -> None:
    """Say what is in pictures.

    With --num-captions, text has a line for each caption, the best first, and JSON has
    `alternatives`. JSON has the words with their log-probabilities, and that of the end. With
    --attention it has a row of weights for each word and for the end, over a grid of so many rows
    and columns, row by row from the top left. With --min-confidence a caption that is less sure is
    empty; JSON has it as `withheld`, and beside text standard error names its picture.

    A picture that cannot be read is named on standard error, and in failures.jsonl where captions
    go to files; the others are still captioned. The exit code is then 1 if the picture was named
    on its own, if a list that was gives no other, or with --strict.

    With -o, and for `sidecar` (a .txt file beside each picture) and `xmp` (the picture's own
    metadata), a run that was stopped goes on when it is started again, and does only what is left.
    A text that a picture has already is kept unless --overwrite, and so is a file that showtell
    did not write.
    """
    from showtell.bulk.inputs import find_inputs
    from showtell.bulk.targets import refuse_others
    from showtell.cli.caption_files import caption_into, failures_file, make_target, print_plan
    from showtell.cli.options import check_file

    is_ray = engine is Engine.ray
    format = _check_format(format, None if is_ray else output, as_json=as_json)
    if attention and not as_json and format is not CaptionFormat.jsonl:
        raise ConfigError("--attention has no place in text: add --format jsonl or --json")
    _check_output(format, output, as_json=as_json)
    if is_ray:
        from showtell.cli.caption_files import caption_on_ray

        loading = {"model": model, "ensemble": ensemble or [], "device": device}
        if caption_on_ray(
            pictures,
            output,
            format.value,
            loading | {"precision": precision},
            decoding,
            address=address,
            workers=workers,
            dedupe=dedupe,
            overwrite=overwrite,
        ):
            raise typer.Exit(1 if strict else 0)
        return
    for name, value in (("--workers", workers), ("--address", address)):
        if value is not None:
            raise ConfigError(f"{name} is for --engine ray, and the engine is {engine.value}")
    inputs = find_inputs(pictures)
    if skipped := inputs.describe_skipped():
        typer.echo(skipped, err=True)
    check_file(output, inputs.paths)
    check_file(failures, inputs.paths, option="--failures", makes_folder=True)
    target = None
    if not as_json and (output is not None or format in BESIDE):
        failures = failures or failures_file(pictures, output)
        alone = _is_alone(inputs)
        target = make_target(format.value, output, failures, overwrite=overwrite, alone=alone)
        target.check()
    elif output is not None and not overwrite:
        refuse_others(output, "json")
    if dry_run:
        failed = print_plan(inputs, target)
        if inputs.has_failed(failed) or (strict and failed):
            raise typer.Exit(1)
        return

    from showtell.inference.captioner import Captioner

    captioner = Captioner.load(model, ensemble=ensemble or (), device=device, precision=precision)
    settings = captioner.resolve(decoding)
    if target is None:
        from showtell.cli.caption_screen import write_results
        from showtell.inference.stream import Originals

        results = captioner.caption_stream(
            inputs,
            decoding=settings,
            attention=attention,
            batch_size=batch_size,
            originals=Originals() if dedupe else None,
        )
        kind = "json" if as_json else format.value
        failed = write_results(results, kind, output, alone=_is_alone(inputs))
        has_failed = inputs.has_failed(failed) or (strict and bool(failed))
    else:
        has_failed = caption_into(
            target,
            captioner,
            inputs,
            strict=strict,
            alone=_is_alone(inputs),
            decoding=settings,
            attention=attention,
            dedupe=dedupe,
            overwrite=overwrite,
            batch_size=batch_size,
        )
    if has_failed:
        raise typer.Exit(1)


def _is_alone(inputs: "Inputs") -> bool:
    return len(inputs.paths) == inputs.count == 1


def _check_format(
    format: CaptionFormat | None, output: Path | None, *, as_json: bool
) -> CaptionFormat:
    """The format that was asked for, or that the output's name tells."""
    suffix = output.suffix.lower() if output is not None and not as_json else ""
    if format is None and suffix == ".json":
        raise ConfigError(
            f"-o {output}: add --json for one JSON object, or end the name in .jsonl for an object "
            "a line"
        )
    return format or BY_SUFFIX.get(suffix, CaptionFormat.text)


def _check_output(format: CaptionFormat, output: Path | None, *, as_json: bool) -> None:
    if as_json and format not in (CaptionFormat.text, CaptionFormat.jsonl):
        raise ConfigError(f"--json and --format {format.value} are two formats; give one")
    if output is not None and format in BESIDE:
        raise ConfigError(f"--format {format.value} writes beside or into the pictures: no -o")
    if output is None and format not in TO_SCREEN + BESIDE:
        raise ConfigError(f"--format {format.value} needs a file: add -o FILE")
