"""``showtell report``."""

from pathlib import Path
from typing import Annotated

import typer

from showtell.cli import options


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders that `train -o` made.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="The page, or a folder for it; default: report.html in RUN, or comparison.html "
            "in the first of several.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="DATA of the training, if it is no longer where it was."),
    ] = None,
    format: options.Format = None,
    images: options.Images = None,
    store: options.Store = None,
    max_pictures: Annotated[
        int,
        typer.Option(
            "--max-pictures",
            min=0,
            help="Caption at most so many validation pictures; 0: none, curves and settings only.",
        ),
    ] = 5000,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
) -> None:
    """Write one HTML page about a run, or one that compares several.

    The page holds curves, best and worst captions with their pictures, attention maps, words and
    lengths, settings and fingerprints, and needs no other file and no network. Each figure lies as
    PNG in a folder beside it, too. A run that is still going on can be reported on.
    """
    from showtell.cli.console import ConsoleReporter
    from showtell.cli.options import check_file
    from showtell.report.build import make_report
    from showtell.report.captions import DataPlace

    if output is not None and not output.is_dir():
        check_file(output, makes_folder=True)
    with ConsoleReporter() as console:
        result = make_report(
            runs,
            output=output,
            place=DataPlace(data, format, images, store, max_pictures),
            device=device,
            precision=precision,
            report=console,
        )
        for what, reason in result.left_out.items():
            console.note(f"left out: {what}: {reason}")
    typer.echo(f"the page is {result.page}; its figures are in {result.figures}")
