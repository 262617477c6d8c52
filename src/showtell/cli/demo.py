"""``showtell demo``: train on built-in pictures and caption new ones."""

import shlex
from pathlib import Path
from typing import Annotated

import typer


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the results.")] = Path(
        "demo"
    ),
) -> None:
    """Train a captioner on built-in pictures, offline, and caption pictures that it never saw."""
    from showtell.cli.console import ConsoleReporter
    from showtell.training.demo import run_demo

    with ConsoleReporter() as report:
        result = run_demo(output, report=report)
    for path, caption in result.examples:
        typer.echo(f"{path.name:>18}: {caption}")
    typer.echo("")
    typer.echo(f"ordinary test pictures:   {result.ordinary}")
    typer.echo(f"held-out combinations:    {result.held_out}")
    typer.echo(f"contact sheet:            {result.contact_sheet}")
    typer.echo(f"the model:                {result.model}")
    typer.echo(
        f"caption your own:         showtell caption PHOTO --model {shlex.quote(str(result.model))}"
    )
