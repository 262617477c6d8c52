"""``showtell pack``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Storage(StrEnum):
    """How a packed model's matrices are stored."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


def pack(
    model: Annotated[
        str,
        typer.Argument(help="A run's folder or a checkpoint's, or a name of `showtell models`."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the packed model.")],
    weights: Annotated[
        Storage,
        typer.Option("--weights", help="How they are stored; int8 takes a quarter of fp32."),
    ] = Storage.fp16,
) -> None:
    """Make a model fit to be handed on: small, without training state, without paths.

    The folder is a checkpoint like any other. The same model gives the same files to the byte.
    """
    from showtell.pack import pack_checkpoint

    size = pack_checkpoint(model, output, storage=weights.value)
    typer.echo(f"the packed model is {output}, {size / 1e6:.1f} MB")
