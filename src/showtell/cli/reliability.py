"""``showtell reliability``: measure and calibrate a model's confidence."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from showtell.cli import captioners, options
from showtell.cli.decoding import Decoding
from showtell.cli.files import check_file
from showtell.cli.groups import given, with_options
from showtell.core.files import json_text

if TYPE_CHECKING:
    from showtell.evaluation.calibration import MeasuredConfidence


@with_options
def reliability(
    *,
    model: captioners.ModelArgument,
    split: Annotated[options.SplitChoice, typer.Option("--split", help="Split to caption.")] = (
        options.SplitChoice.val
    ),
    threshold: Annotated[
        float,
        typer.Option(
            "--acceptable", min=0, max=10, help="CIDEr-D from which a caption counts as acceptable."
        ),
    ] = 0.25,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Write into the model a curve that makes its confidence the share of acceptable "
            "captions.",
        ),
    ] = False,
    figure: Annotated[
        Path | None, typer.Option("--figure", help="PNG file for a figure (needs the extra train).")
    ] = None,
    data: options.DataSet,
    store: options.Store = None,
    loading: captioners.Loading,
    as_json: options.Json = False,
    overwrite: options.Overwrite = False,
    settings: captioners.Settings,
    decoding: Decoding,
) -> None:
    """Measure on DATA whether captions with a higher confidence are better.

    The captions are divided into ten groups by confidence, and a table shows how good each group
    is. With --calibrate, a logistic curve is fitted and stored in the model; a caption's confidence
    is then the share of similar captions that are acceptable. Use pictures that the model was not
    trained on.
    """
    from showtell.cli.console import ConsoleReporter
    from showtell.errors import UsageError
    from showtell.evaluation.calibration import measure_model

    if figure:
        if figure.suffix.lower() != ".png":
            raise UsageError(f"--figure {figure}: the name of a figure must end in .png")
        from showtell.report.charts import reliability_figure  # a missing extra shows now
    check_file(figure, [data.data], option="--figure", is_picture=True, is_kept=not overwrite)
    backend = captioners.prepared([model], settings)
    with ConsoleReporter() as report:
        measured = measure_model(
            loading.request(model, backend),
            data.request(store),
            split=split.value,
            report=report,
            threshold=threshold,
            calibrate=calibrate,
            decoding_changes=given(decoding),
        )
    if figure:
        from showtell.core.files import atomic_write

        with atomic_write(figure, "wb") as file:
            file.write(reliability_figure(measured.then or measured.now).light)
    _print(measured, as_json=as_json)


def _print(measured: "MeasuredConfidence", *, as_json: bool) -> None:
    if as_json:
        values = {
            "now": measured.now.to_dict(),
            "calibration": measured.fitted.to_dict() if measured.fitted else None,
            "calibrated": measured.then.to_dict() if measured.then else None,
        }
        typer.echo(json_text(values))
        return
    typer.echo(measured.now.table())
    if measured.then:
        typer.echo("\nafter calibration (cross-validated):\n")
        typer.echo(measured.then.table())
