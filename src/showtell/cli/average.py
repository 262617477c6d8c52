"""``showtell average``."""

from pathlib import Path
from typing import Annotated

import typer


def average(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(help="Checkpoint folders of one run, as RUN/epoch-007 RUN/epoch-008."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the new checkpoint.")],
) -> None:
    """Average the weights of CHECKPOINTS into a new one.

    The mean of a run's last few epochs often captions better than any of them; showtell evaluate
    tells.
    """
    from showtell.training.averages import average_checkpoints

    average_checkpoints(checkpoints, output)
    typer.echo(f"the mean of {len(checkpoints)} checkpoints is {output}")
