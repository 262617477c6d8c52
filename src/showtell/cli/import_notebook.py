"""``showtell import-notebook``: a model of the files that the course notebook writes."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from showtell.errors import MissingExtraError


def import_notebook(
    encoder: Annotated[Path, typer.Argument(metavar="ENCODER", help="encoder-i.pkl")],
    decoder: Annotated[Path, typer.Argument(metavar="DECODER", help="decoder-i.pkl")],
    vocabulary: Annotated[Path, typer.Argument(metavar="VOCAB", help="vocab.pkl")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the new model.")],
) -> None:
    """Make a model of the course notebook's encoder-i.pkl, decoder-i.pkl and vocab.pkl.

    Nothing in the files is run: weights are read as tensors alone, the vocabulary as plain
    containers. The model captions, serves, trains on and exports as any other.
    """
    try:
        from showtell.course.load import import_notebook as import_files
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError("timm", "showtell import-notebook") from None

    made = import_files(encoder, decoder, vocabulary, output)
    typer.echo(f"{made.folder}: {made.description}")
    typer.echo(
        f"caption with it: showtell caption PICTURES --model {shlex.quote(str(made.folder))}"
    )
