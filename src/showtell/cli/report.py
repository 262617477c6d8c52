"""``showtell report``: an HTML page about runs, or about files of captions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from showtell.cli import options
from showtell.cli.files import check_file
from showtell.cli.groups import group, with_options

if TYPE_CHECKING:
    from showtell.report.captions import DataPlace


@group
class Files:
    """What files of captions are compared by."""

    references: Annotated[
        Path | None,
        typer.Option(
            "--references", help="References of the files of captions, as for `showtell score`."
        ),
    ] = None
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            help="Metric to compare files by; may be repeated. Default: COCO's, CHAIR, object "
            "recall, length and bad endings.",
        ),
    ] = None
    subset: Annotated[
        bool, typer.Option("--subset", help="Compare files on the images that all of them caption.")
    ] = False


@group
class Place:
    """Where the data of runs are, and how many of the pictures are captioned."""

    data: Annotated[
        str | None,
        typer.Option("--data", help="Training data, if it has moved since the training."),
    ] = None
    format: options.Format = None
    images: options.Images = None
    encoding: options.Encoding = None
    store: options.Store = None
    max_pictures: Annotated[
        int,
        typer.Option(
            "--max-pictures",
            min=0,
            help="Largest number of validation pictures to caption; 0: only curves and settings.",
        ),
    ] = 5000

    def request(self) -> "DataPlace":
        """The same in the library's words."""
        from showtell.report.captions import DataPlace

        return DataPlace(
            self.data, self.format, self.images, self.store, self.max_pictures, self.encoding
        )


@with_options
def report(
    *,
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Folders that `train -o` made; or, with --references, two or more files of "
            "captions, as for `showtell score`.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="File of the page, or a folder for it; default: report.html in RUN, or, with "
            "several runs, comparison.html in the first; of files, leaderboard.html here.",
        ),
    ] = None,
    files: Files,
    place: Place,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    overwrite: options.Overwrite = False,
) -> None:
    """Write an HTML page about a run, or a page that compares runs or files of captions.

    The page of a run has curves, the best and worst captions with their pictures, attention maps,
    words and lengths, settings and fingerprints; each figure is also written as PNG into a folder
    beside the page. The run may still be in progress. With --references, the page is a
    leaderboard of files of captions, with intervals and tests, and with the pictures on which they
    differ most from the first, if --images has them. A page needs no other file and no network.
    """
    from showtell.cli.console import ConsoleReporter
    from showtell.errors import UsageError
    from showtell.report.page import is_page, page_at

    references = files.references
    page = page_at(output or Path(), len(runs), of_files=references is not None)
    if output is not None or references is not None:
        is_kept = not (overwrite or is_page(page))
        inputs = [*runs, *([references] if references else [])]
        check_file(page, inputs, makes_folder=True, is_kept=is_kept)
    if references is not None:
        if place.data or place.store:
            raise UsageError("--data and --store are for runs; --references is for files")
        typer.echo(f"the page is {_leaderboard(runs, references, output, files, place.images)}")
        return
    if files.metrics or files.subset:
        raise UsageError("--metric and --subset are for files of captions, with --references")
    from showtell.report.build import make_report

    with ConsoleReporter() as console:
        result = make_report(
            runs,
            output=output,
            place=place.request(),
            device=device,
            precision=precision,
            report=console,
        )
        for what, reason in result.left_out.items():
            console.note(f"left out: {what}: {reason}")
    typer.echo(f"the page is {result.page}; its figures are in {result.figures}")


def _leaderboard(
    results: list[Path], references: Path, output: Path | None, files: Files, images: Path | None
) -> Path:
    from showtell.metrics import meteor
    from showtell.report.leaderboard import check_files, make_leaderboard

    check_files(results, images)  # before METEOR's tables take 20 seconds
    metrics = files.metrics or ()
    if not metrics or "METEOR" in metrics:
        meteor.prepare_aloud(lambda text: typer.echo(text, err=True))
    return make_leaderboard(
        results,
        references,
        output=output,
        images=images,
        metrics=metrics,
        subset=files.subset,
        warn=lambda text: typer.echo(f"warning: {text}", err=True),
    )
