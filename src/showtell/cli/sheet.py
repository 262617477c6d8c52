"""``showtell sheet``: pictures with their captions on one sheet."""

from pathlib import Path
from typing import Annotated

import typer

from showtell.cli import options
from showtell.cli.decoding import Decoding, with_decoding
from showtell.errors import UsageError
from showtell.pretrained import DEFAULT

SUFFIXES = (".jpg", ".jpeg", ".png")


@with_decoding
@options.with_settings
@options.with_cleaning
def sheet(
    pictures: Annotated[
        list[str], typer.Argument(metavar="PICTURE...", help="Files, folders or globs.")
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", dir_okay=False, help="File of the sheet, .jpg or .png."),
    ],
    model: options.Model = DEFAULT,
    columns: Annotated[
        int, typer.Option("--columns", min=1, help="Number of pictures in a row.")
    ] = 4,
    heading: Annotated[
        str, typer.Option("--heading", help="Line of text above the pictures.")
    ] = "",
    device: options.AnyDevice = "auto",
    precision: options.Precision = "auto",
    runtime: options.Runtime = options.RuntimeChoice.auto,
    trust_model: options.TrustModel = False,
    *,
    settings: options.Settings,
    cleaning: options.Cleaning,
    decoding: Decoding,
) -> None:
    """Draw pictures with their captions on one sheet.

    A picture that cannot be read is named on standard error; the exit code is then 1.
    """
    from showtell.bulk.inputs import find_inputs
    from showtell.images.sheet import Cell, refuse_others, save_contact_sheet
    from showtell.inference.captioner import Captioner

    if output.suffix.lower() not in SUFFIXES:
        raise UsageError(f"-o {output}: the name of a sheet must end in {', '.join(SUFFIXES)}")
    inputs = find_inputs(pictures)
    with options.told_skipped(inputs):
        options.check_file(output, inputs.paths, is_picture=True)
        refuse_others(output)
        captioner = Captioner.load(
            model,
            device=device,
            precision=precision,
            runtime=runtime.value,
            trust_model=trust_model,
            settings=options.prepared([model], settings),
            cleaning=cleaning,
        )
        options.say_runtime(captioner)
        results = list(captioner.caption_stream(inputs, decoding=decoding))
    cells = [Cell(Path(found.path), found.caption.text) for found in results if found.caption]
    for found in results:
        if found.caption is None:
            typer.echo(f"error: {found.error}", err=True)
    if cells:
        save_contact_sheet(output, cells, columns=columns, heading=heading)
        typer.echo(f"the sheet is {output}")
    if len(cells) < len(results):
        raise typer.Exit(1)
