"""``showtell export``: a model for a runtime without torch."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from showtell.cli import options
from showtell.cli.models import Storage


class Format(StrEnum):
    """What a model is exported to."""

    onnx = "onnx"


def export(
    model: Annotated[
        str,
        typer.Argument(
            help="Folder of a run or a checkpoint, or a name that `showtell models` lists."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the export.")],
    format: Annotated[Format, typer.Option("--format", help="Format of the export.")] = Format.onnx,
    weights: Annotated[
        Storage,
        typer.Option(
            "--weights", help="Format of the weights; int8 takes a quarter of the space of fp32."
        ),
    ] = Storage.fp32,
    trust_model: options.TrustModel = False,
) -> None:
    """Export MODEL, with its encoder, to a folder that captions without torch.

    The folder works wherever a model's folder does: caption --model FOLDER.
    """
    from showtell.cli.console import ConsoleReporter
    from showtell.export.onnx import export_onnx

    with ConsoleReporter() as report:
        size = export_onnx(
            model, output, storage=weights.value, trust_model=trust_model, notify=report.note
        )
    typer.echo(f"the export is {output}, {size / 1e6:.1f} MB")
