"""``showtell data inspect``, its report for people, and ``showtell features``."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from showtell.cli import data_write, options
from showtell.cli.console import Command
from showtell.cli.data_download import download
from showtell.cli.files import check_file, check_store_folder
from showtell.cli.groups import with_options
from showtell.core.files import json_text
from showtell.core.messages import counted

if TYPE_CHECKING:
    from showtell.data.inspect import Inspection

BAR_WIDTH = 40
NUM_LENGTHS = 24  # rows of the histogram; longer captions share the last one


ABOUT = "Check captioned pictures; convert, split, merge and download them."
app = typer.Typer(no_args_is_help=True, help=ABOUT)


@app.callback()
def _data() -> None:
    """Check captioned pictures; convert, split, merge and download them."""


@app.command("inspect", cls=Command)
def inspect(
    data: options.Data,
    format: options.Format = None,
    images: options.Images = None,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Decode every picture to check it.")
    ] = True,
    near: Annotated[
        bool,
        typer.Option(
            "--near-duplicates/--no-near-duplicates",
            help="Also find pictures that look the same, such as a photo saved twice.",
        ),
    ] = True,
    page: Annotated[
        Path | None,
        typer.Option("--page", dir_okay=False, help="HTML file to draw the findings into."),
    ] = None,
    encoding: options.Encoding = None,
    output: options.OutputFile = None,
    as_json: options.Json = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Show counts, lengths and vocabulary of DATA, and every problem in it."""
    from showtell.cli.console import ConsoleReporter
    from showtell.core.files import write_text
    from showtell.data.inspect import Checks, inspect_dataset
    from showtell.data.sources import load_dataset

    check_file(output, [data], is_kept=not overwrite)
    if page:
        from showtell.report.page import is_page

        is_kept = not (overwrite or is_page(page))
        check_file(page, [data], option="--page", is_kept=is_kept)
    with ConsoleReporter() as report:
        unpacking = report.watch("unpacking", "pictures")
        dataset = load_dataset(
            data, format=format, images=images, encoding=encoding, progress=unpacking
        )
        inspection = inspect_dataset(
            dataset, checks=Checks(pictures, near), progress=report.watch("checking", "pictures")
        )
        if page:
            from showtell.report.data_page import write_data_page

            write_data_page(page, dataset, inspection, report.watch("drawing", "pictures"))
    text = json_text(inspection.to_dict()) if as_json else inspection_text(inspection)
    if output:
        write_text(output, text + "\n")
    else:
        typer.echo(text)
    if page and not as_json:
        typer.echo(f"page: {page}", err=True)


_COMMANDS = (data_write.split, data_write.merge, data_write.sample, data_write.convert, download)
for _command in _COMMANDS:
    app.command(_command.__name__, cls=Command)(_command)


@with_options
def features(
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the feature store.")],
    encoder: Annotated[
        str, typer.Option("--encoder", help="Encoder: lite0, lite2 or timm:NAME.")
    ] = "lite2",
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="Local file with the weights of a timm encoder."),
    ] = None,
    views: Annotated[
        int,
        typer.Option(
            "--views", min=0, help="Number of random views (crops, flips) of each training picture."
        ),
    ] = 4,
    flips: Annotated[
        bool, typer.Option("--flips/--no-flips", help="Mirror half of the random views.")
    ] = True,
    grid: Annotated[
        bool,
        typer.Option(
            "--grid/--no-grid", help="Also store grid features, which decoders with attention need."
        ),
    ] = False,
    squash: Annotated[
        bool,
        typer.Option(
            "--squash/--no-squash", help="Encode the whole picture, squeezed into a square."
        ),
    ] = False,
    data: options.DataSet,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
) -> None:
    """Encode the pictures of DATA into a feature store.

    If it is stopped, the same command continues where it stopped. Pictures that were copied or
    unpacked anew keep their features: what counts is their bytes, not their dates.
    """
    from showtell.cli.console import ConsoleReporter
    from showtell.core.device import choose_runtime
    from showtell.data.records import UNMIRRORED
    from showtell.data.request import open_data
    from showtell.encoders.encoder import build_encoder
    from showtell.encoders.extract import WantedFeatures, features_for

    check_store_folder(output)
    runtime = choose_runtime(device, precision)
    with ConsoleReporter() as report:
        dataset = open_data(data.request(), report=report)
        report.note(runtime.describe())
        if flips and views and not dataset.may_be_mirrored:
            report.note(UNMIRRORED)
        store = features_for(
            dataset,
            build_encoder(encoder, weights=weights, squash=squash),
            WantedFeatures(views, flips and dataset.may_be_mirrored, grid),
            runtime=runtime,
            folder=output,
            report=report,
        )
    typer.echo(f"{len(store):,} pictures in {output}")
    for image_id, reason in store.failures.items():
        typer.echo(f"skipped {image_id}: {reason}", err=True)


def inspection_text(found: "Inspection") -> str:
    """The findings as plain text, the most important first."""
    return "\n".join(_lines(found))


def _lines(found: "Inspection") -> Iterator[str]:
    yield f"{found.name} ({found.format})"
    yield from (f"note: {note}" for note in found.notes)
    yield ""
    for name, split in found.splits.items():
        pictures = counted(split.num_pictures, "picture", 9)
        captions = counted(split.num_captions, "caption", 11)
        yield f"{name:>6}: {pictures:<18} {captions}"
    per_picture = found.captions_per_picture
    yield (
        f"captions per picture: {per_picture['min']:.0f} to {per_picture['max']:.0f}, "
        f"{per_picture['mean']:.2f} on average"
    )
    for name, sizes in (("width", found.widths), ("height", found.heights)):
        if sizes:
            yield (
                f"{name}: {sizes['min']:.0f} to {sizes['max']:.0f} pixels, "
                f"median {sizes['median']:.0f}"
            )
    yield ""
    yield "words per caption"
    yield from _histogram(found.caption_lengths)
    yield ""
    yield f"{counted(found.num_running_words, 'word')} in all ({found.words_from} captions)"
    for size in found.vocabulary:
        yield (
            f"  vocab_threshold {size.threshold}: "
            f"{counted(size.num_words, 'word', 7)}, {size.coverage:.2%} of all words"
        )
    yield "  most frequent: " + ", ".join(f"{word} {n:,}" for word, n in found.frequent_words[:10])
    if found.language:
        yield f"  language: {found.language}"
    yield f"  captions that repeat another: {found.num_repeated_captions:,}"
    if found.num_shared_captions:
        most, num_pictures = found.shared_captions[0]
        yield (
            f"  captions that several pictures have: {found.num_shared_captions:,} "
            f"(most: {most!r}, {num_pictures:,} pictures)"
        )
    if found.num_single:
        yield f"  pictures of one caption: {found.num_single:,}"
    if found.num_leaks is not None:
        yield f"  pictures whose exact file is also in another split: {found.num_leaks:,}"
    if found.num_near_leaks is not None:
        yield f"  pictures that look like one of another split: {found.num_near_leaks:,}"
    yield ""
    if not found.problems:
        yield "no problems" if found.widths else "no problems (pictures were not decoded)"
    for group in found.problems:
        yield f"{group.count:,} x {group.kind}"
        for problem in group.examples:
            yield f"    {problem.where}" + (f": {problem.detail}" if problem.detail else "")
        if group.count > len(group.examples):
            yield f"    ... and {group.count - len(group.examples):,} more"


def _histogram(lengths: dict[int, int]) -> Iterator[str]:
    rows: dict[int, int] = {}
    for length, count in lengths.items():
        row = min(length, NUM_LENGTHS)
        rows[row] = rows.get(row, 0) + count
    most = max(rows.values(), default=1)
    for row, count in rows.items():
        label = f"{row}+" if row == NUM_LENGTHS else str(row)
        yield f"{label:>6} {count:>9,} {'#' * round(BAR_WIDTH * count / most)}"
