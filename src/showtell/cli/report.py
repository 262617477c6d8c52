"""``showtell report``: an HTML page about one or several runs."""

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
            help="File of the page, or a folder for it; default: report.html in RUN, or, with "
            "several runs, comparison.html in the first.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Training data, if it has moved since the training."),
    ] = None,
    format: options.Format = None,
    images: options.Images = None,
    store: options.Store = None,
    max_pictures: Annotated[
        int,
        typer.Option(
            "--max-pictures",
            min=0,
            help="Largest number of validation pictures to caption; 0: only curves and settings.",
        ),
    ] = 5000,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
) -> None:
    """Write an HTML page about a run, or a page that compares several runs.

    The page has curves, the best and worst captions with their pictures, attention maps, words and
    lengths, settings and fingerprints. It needs no other file and no network. Each figure is also
    written as PNG into a folder beside the page. The run may still be in progress.
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
