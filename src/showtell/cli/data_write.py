"""``showtell data convert``, ``split``, ``merge`` and ``sample``: data sets made of data sets."""

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from showtell.cli import options
from showtell.cli.groups import with_options
from showtell.core.files import json_text

if TYPE_CHECKING:
    from showtell.cli.console import ConsoleReporter
    from showtell.data.records import Dataset
    from showtell.data.writers import Output


class PicturesChoice(StrEnum):
    """What becomes of the pictures."""

    copy = "copy"
    link = "link"
    keep = "keep"


OutputData = Annotated[
    Path,
    typer.Option(
        "-o",
        "--output",
        help="Folder to write, or a .jsonl, .csv, .json or .parquet file.",
    ),
]
To = Annotated[
    str | None,
    typer.Option(
        "--to",
        help="Format to write: jsonl, csv, coco, karpathy, imagefolder, parquet or webdataset; "
        "default: what the ending of -o says, else jsonl.",
    ),
]
KeepPictures = Annotated[
    PicturesChoice | None,
    typer.Option(
        "--pictures",
        help="Copy the pictures, hard-link them, or keep them where they are; default: copy into "
        "a folder, keep beside a file.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the choice of pictures.")]
Near = Annotated[
    bool,
    typer.Option(
        "--near-duplicates/--no-near-duplicates",
        help="Look for pictures that look the same, such as a photo saved twice.",
    ),
]


@with_options
def convert(
    *,
    output: OutputData,
    to: To = None,
    pictures: KeepPictures = None,
    split: Annotated[
        options.SplitChoice, typer.Option("--split", help="Which records to write.")
    ] = options.SplitChoice.all,
    only_edited: Annotated[
        bool,
        typer.Option(
            "--only-edited",
            help="Leave out captions that a model wrote and nobody edited, as a table or JSON "
            "lines of `showtell caption` say in `edited`.",
        ),
    ] = False,
    data: options.DataSet,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Write DATA in another format, with its captions, splits and pictures."""
    from dataclasses import replace

    from showtell.cli.console import ConsoleReporter
    from showtell.data.divide import only_split

    target = _target([data.data], output, to, pictures, overwrite)
    with ConsoleReporter() as report:
        request = replace(data.request(), only_edited=only_edited)
        dataset = only_split(request.load(report.watch("unpacking", "pictures")), split)
        made_by = f"convert {shlex.quote(data.data)}{' --only-edited' * only_edited}"
        notes = _write(dataset, target, made_by, report)
    _tell(dataset, target, notes, as_json)


@with_options
def split(
    *,
    output: OutputData,
    val: Annotated[
        str, typer.Option("--val", help="Pictures to validate on: 500, 0.1 or 10%.")
    ] = "10%",
    test: Annotated[
        str, typer.Option("--test", help="Pictures to test on: 500, 0.1 or 10%.")
    ] = "10%",
    seed: Seed = 0,
    near: Near = True,
    to: To = None,
    pictures: KeepPictures = None,
    data: options.DataSet,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Split DATA anew into train, val and test.

    Copies of a picture, and pictures that look the same, go into one split.
    """
    from dataclasses import replace

    from showtell.cli.console import ConsoleReporter
    from showtell.data.check_pictures import check_pictures, same_groups
    from showtell.data.divide import parse_amount, split_dataset
    from showtell.data.duplicates import can_look
    from showtell.errors import install_line

    target = _target([data.data], output, to, pictures, overwrite)
    shares = parse_amount(val, "--val"), parse_amount(test, "--test")
    with ConsoleReporter() as report:
        dataset = _load(data, report)
        split_dataset(dataset, *shares, seed=seed)  # says now whether the shares are possible
        checks = check_pictures(
            dataset.records, looks=near, progress=report.watch("looking", "pictures")
        )
        groups = same_groups(checks, progress=report.watch("comparing", "pictures"))
        dataset = split_dataset(dataset, *shares, seed=seed, groups=groups)
        if near and not can_look():
            line = f"pictures that look the same were not looked for: {install_line('dedupe')}"
            dataset = replace(dataset, notes=(*dataset.notes, line))
        notes = _write(dataset, target, f"split {shlex.quote(data.data)} --seed {seed}", report)
    _tell(dataset, target, notes, as_json)


def merge(
    data: Annotated[
        list[str], typer.Argument(metavar="DATA...", help="Two or more sets, in any formats.")
    ],
    output: OutputData,
    near: Near = True,
    to: To = None,
    pictures: KeepPictures = None,
    encoding: options.Encoding = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Make one data set of several.

    A picture that is in more than one gets the captions of all. Its split is the one that is
    kept from training: test before val, val before train.
    """
    from showtell.cli.console import ConsoleReporter
    from showtell.data.merge import merge_datasets

    target = _target(data, output, to, pictures, overwrite)
    with ConsoleReporter() as report:
        datasets = [_load(options.DataSet(data=one, encoding=encoding), report) for one in data]
        dataset = merge_datasets(
            datasets, near=near, progress=report.watch("comparing", "pictures")
        )
        notes = _write(dataset, target, f"merge {shlex.join(data)}", report)
    _tell(dataset, target, notes, as_json)


@with_options
def sample(
    *,
    output: OutputData,
    num: Annotated[str, typer.Option("-n", "--num", help="Pictures to take: 500, 0.1 or 10%.")],
    seed: Seed = 0,
    split: Annotated[
        options.SplitChoice, typer.Option("--split", help="Which records to take them from.")
    ] = options.SplitChoice.all,
    to: To = None,
    pictures: KeepPictures = None,
    data: options.DataSet,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Take some pictures of DATA at random; each split keeps its share."""
    from showtell.cli.console import ConsoleReporter
    from showtell.data.divide import only_split, parse_amount, sample_dataset

    target = _target([data.data], output, to, pictures, overwrite)
    amount = parse_amount(num, "--num")
    with ConsoleReporter() as report:
        dataset = only_split(_load(data, report), split)
        dataset = sample_dataset(dataset, amount, seed=seed)
        notes = _write(dataset, target, f"sample {shlex.quote(data.data)} -n {num}", report)
    _tell(dataset, target, notes, as_json)


def _target(
    data: list[str],
    output: Path,
    to: str | None,
    pictures: PicturesChoice | None,
    overwrite: bool,
) -> "Output":
    from showtell.data.writers import Output

    target = Output(output, to, pictures.value if pictures else None, overwrite)
    target.check(data)
    return target


def _load(data: options.DataSet, report: "ConsoleReporter") -> "Dataset":
    return data.request().load(report.watch("unpacking", "pictures"))


def _write(
    dataset: "Dataset", target: "Output", made_by: str, report: "ConsoleReporter"
) -> list[str]:
    from showtell.data.writers import write_dataset

    watch = report.watch("writing", "pictures")
    notes = write_dataset(dataset, target, made_by=f"showtell data {made_by}", progress=watch)
    return [*dataset.remarks(), *notes]


def _tell(dataset: "Dataset", target: "Output", notes: list[str], as_json: bool) -> None:
    from showtell.data.writers import describe_written

    if as_json:
        value = {
            "output": str(target.path),
            "format": target.writer().name,
            "splits": {str(split): num for split, num in dataset.split_counts().items()},
            "num_pictures": len(dataset.records),
            "num_captions": sum(len(record.captions) for record in dataset.records),
            "notes": notes,
        }
        typer.echo(json_text(value))
        return
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(describe_written(dataset, target))
