"""``showtell data ...`` and ``showtell features``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from showtell.cli import options

app = typer.Typer(no_args_is_help=True, help="Look at captioned pictures before training on them.")


@app.callback()
def _data() -> None:
    """Look at captioned pictures before training on them."""


@app.command("inspect")
def inspect(
    data: options.Data,
    format: options.Format = None,
    images: options.Images = None,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Decode every picture to check it.")
    ] = True,
    output: options.OutputFile = None,
    as_json: options.Json = False,
) -> None:
    """Counts, lengths, vocabulary, and everything that is wrong with DATA."""
    from showtell.cli.console import ConsoleReporter
    from showtell.cli.inspection import inspection_text
    from showtell.cli.outputs import check_file
    from showtell.data.sources import load_dataset
    from showtell.files import write_text
    from showtell.inspect_data import inspect_dataset

    check_file(output, [data])
    dataset = load_dataset(data, format=format, images=images)
    with ConsoleReporter() as report:
        inspection = inspect_dataset(
            dataset, check_pictures=pictures, progress=report.watch("checking", "pictures")
        )
    if as_json:
        text = json.dumps(inspection.to_dict(), ensure_ascii=False, indent=2)
    else:
        text = inspection_text(inspection)
    if output:
        write_text(output, text + "\n")
    else:
        typer.echo(text)


def features(
    data: options.Data,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the feature store.")],
    encoder: Annotated[
        str, typer.Option("--encoder", help="lite0, lite2, or timm:NAME.")
    ] = "lite2",
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Weights file of a timm encoder.")
    ] = None,
    views: Annotated[
        int,
        typer.Option("--views", min=0, help="Random crops and flips of each training picture."),
    ] = 4,
    flips: Annotated[
        bool, typer.Option("--flips/--no-flips", help="Mirror half of the random views.")
    ] = True,
    grid: Annotated[
        bool, typer.Option("--grid/--no-grid", help="Keep grid features, for attention decoders.")
    ] = False,
    format: options.Format = None,
    images: options.Images = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
) -> None:
    """Encode each picture of DATA once. Stopped at any point, it goes on where it stopped."""
    from showtell.cli.console import ConsoleReporter
    from showtell.data.sources import load_dataset
    from showtell.data.splits import usable_splits
    from showtell.feature_cache import features_for
    from showtell.models.encoders import build_encoder
    from showtell.runtime import choose_runtime

    dataset = usable_splits(load_dataset(data, format=format, images=images))
    runtime = choose_runtime(device, precision)
    with ConsoleReporter() as report:
        report.note(runtime.describe())
        store = features_for(
            dataset,
            build_encoder(encoder, weights=weights),
            runtime=runtime,
            folder=output,
            views=views,
            flips=flips,
            grid=grid,
            report=report,
        )
    typer.echo(f"{len(store):,} pictures in {output}")
    for image_id, reason in store.failures.items():
        typer.echo(f"skipped {image_id}: {reason}", err=True)
