"""``showtell rate``: a blind sheet on which people rate captions, and what their answers say."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from showtell.cli import options
from showtell.cli.files import check_file
from showtell.core.files import json_text
from showtell.core.messages import counted
from showtell.errors import UsageError


class ScaleChoice(StrEnum):
    """Names of ``rating.scales.SCALES``."""

    one_to_five = "1-5"
    pairwise = "pairwise"
    right = "right/half/wrong"


def rate(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULTS... PICTURES",
            help="A file of captions for each captioner, then the folder of their pictures; with "
            "--read, files of answers.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="HTML file of the sheet; its CSV form and the key are written beside it.",
        ),
    ] = Path("rating.html"),
    scale: Annotated[
        ScaleChoice, typer.Option("--scale", help="What raters are asked.")
    ] = ScaleChoice.right,
    sample: Annotated[
        int | None,
        typer.Option("--sample", min=1, help="Number of pictures to draw; default: all."),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Seed of the draw and of the order.")
    ] = 0,
    link: Annotated[
        bool,
        typer.Option("--link", help="Link to the pictures instead of putting them into the page."),
    ] = False,
    read: Annotated[
        bool, typer.Option("--read", help="Read answers, and show what they say.")
    ] = False,
    key: Annotated[
        Path | None, typer.Option("--key", help="The key of the sheet, with --read.")
    ] = None,
    references: Annotated[
        Path | None,
        typer.Option(
            "--references",
            help="References, with --read: also show how far metrics order captions as people do.",
        ),
    ] = None,
    graded: Annotated[
        Path | None,
        typer.Option(
            "--graded",
            help="With --read: also write the captions with their mean grades to this CSV file, "
            "for training (data.graded).",
        ),
    ] = None,
    as_json: options.Json = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Have people rate captions without knowing whose they are.

    `showtell rate a.json b.json photos/` writes rating.html, a page that works offline and saves
    answers as CSV or JSON, rating.csv for those who fill in a spreadsheet, and rating.key.json,
    which says who said what: keep it to yourself. `showtell rate --read ANSWERS.csv --key
    rating.key.json` shows the grades of each captioner with 95 % intervals, who is preferred, how
    far raters agree, and where they do not. With --graded FILE a captioner can learn from them:
    `showtell train DATA -o RUN --from MODEL -s data.graded=FILE`.
    """
    if read:
        if key is None:
            raise UsageError("--read needs the sheet's key: --key rating.key.json")
        if graded is not None:
            inputs = [*files, key, *([references] if references else [])]
            check_file(graded, inputs, option="--graded", is_kept=not overwrite)
        _read(files, key, references, graded, as_json)
        return
    if key is not None or references is not None or graded is not None or as_json:
        raise UsageError("--key, --references, --graded and --json belong to --read")
    if len(files) < 2:
        raise UsageError(
            f"give files of captions and the folder of their pictures; got {files[0]} alone"
        )
    _make(files, output, scale, sample, seed, link=link, overwrite=overwrite)


def _make(
    files: list[Path],
    output: Path,
    scale: ScaleChoice,
    sample: int | None,
    seed: int,
    *,
    link: bool,
    overwrite: bool,
) -> None:
    from showtell.cli.console import ConsoleReporter
    from showtell.rating.page import write_sheet
    from showtell.rating.scales import scale_named
    from showtell.rating.sheet import make_sheet

    *results, pictures = files
    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"-o {output}: the name of a sheet must end in .html")
    for path in (output, output.with_suffix(".csv"), output.with_suffix(".key.json")):
        check_file(path, results, is_kept=not overwrite)
    with ConsoleReporter() as report:
        sheet = make_sheet(results, pictures, scale_named(scale), sample=sample, seed=seed)
        for note in sheet.notes:
            report.note(note)
        table, key = write_sheet(sheet, output, pictures, report, embed=not link)
    typer.echo(
        f"{len(sheet.items)} questions about {len({item.picture for item in sheet.items})} "
        f"pictures: {output}, and as a table {table}; the key is {key}"
    )


def _read(
    files: list[Path], key: Path, references: Path | None, graded: Path | None, as_json: bool
) -> None:
    from showtell.data.graded import write_graded
    from showtell.metrics import meteor
    from showtell.rating.answers import graded_captions, read_answers
    from showtell.rating.results import summarise
    from showtell.rating.sheet import Sheet
    from showtell.rating.tables import to_dict, to_text

    sheet = Sheet.of_key(key)
    if references is not None:
        meteor.prepare_aloud(lambda text: typer.echo(text, err=True))
    answers = read_answers(files, sheet)
    ratings = summarise(sheet, answers, references=references)
    if graded is not None:
        num = write_graded(graded, graded_captions(sheet, answers))
        typer.echo(f"{counted(num, 'graded caption')}: {graded}", err=True)
    if as_json:
        typer.echo(json_text(to_dict(ratings)))
    else:
        typer.echo(to_text(ratings))
