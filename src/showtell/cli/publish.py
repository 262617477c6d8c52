"""``showtell publish``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from showtell.cli import options
from showtell.errors import ConfigError

INTERRUPTED = 130


def publish(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="Stages and card, in TOML.")],
    data: options.Data,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the model.")],
    work: Annotated[
        Path, typer.Option("--work", help="Gets a folder for each stage; is gone on with.")
    ] = Path("runs/publish"),
    others: Annotated[
        list[str] | None,
        typer.Option("--data", help="NAME=PATH of other data in the recipe; may be repeated."),
    ] = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Make a model as RECIPE says: train, average, pack, measure, and write its card.

    A stage that is made stays; the same command goes on after Ctrl-C. configs/pretrained/ has the
    recipe of the model that comes with showtell.
    """
    from showtell.cli.console import ConsoleReporter
    from showtell.publish.build import publish as build
    from showtell.publish.stages import Places

    paths = {"": data}
    for other in others or []:
        name, equals, path = other.partition("=")
        if not equals or not name or not path:
            raise ConfigError(f"--data {other!r} is not NAME=PATH")
        paths[name] = path
    with ConsoleReporter() as report:
        made = build(recipe, Places(paths, work, device), output, report)
    if made is None:
        typer.echo("stopped; the same command goes on", err=True)
        raise typer.Exit(INTERRUPTED)
    if as_json:
        scores = {title: found.to_dict() for title, found in made.scores.items()}
        values = {"folder": str(made.folder), "num_bytes": made.num_bytes, "scores": scores}
        typer.echo(json.dumps(values, ensure_ascii=False, indent=2))
        return
    for title, found in made.scores.items():
        figures = ", ".join(f"{k} {found.metrics[k]:.3f}" for k in ("CIDEr-D", "BLEU-4"))
        typer.echo(f"{title}: {figures}")
    typer.echo(f"the model is {made.folder}, {made.num_bytes / 1e6:.1f} MB, with its card")
