"""``showtell models``."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from showtell.cli import options

if TYPE_CHECKING:
    from showtell.pretrained.listing import ShippedModel


def models(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show the card of this model.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List the models that come with showtell, or show the card of one.

    Each name can be given wherever a model's folder can: caption --model NAME, evaluate NAME DATA,
    train -s training.init_from=NAME.
    """
    from showtell.pretrained import read_card
    from showtell.pretrained.listing import describe_shipped, shipped_models

    if name is None and as_json:
        typer.echo(json.dumps({"models": [m.to_dict() for m in shipped_models()]}, indent=2))
    elif name is None:
        _print_table(shipped_models())
    elif as_json:
        values = describe_shipped(name).to_dict() | {"card": read_card(name)}
        typer.echo(json.dumps(values, ensure_ascii=False, indent=2))
    else:
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(read_card(name)))
        typer.echo(f"\nFolder: {describe_shipped(name).folder}")


def _print_table(found: "list[ShippedModel]") -> None:
    columns = ("name", "also", "CIDEr-D", "BLEU-4", "MB", "encoder", "trained on")
    rows = [
        (
            model.name,
            ", ".join(model.aliases),
            *(f"{model.metrics[m]:.3f}" if m in model.metrics else "-" for m in columns[2:4]),
            f"{model.num_bytes / 1e6:.1f}",
            model.encoder,
            model.data,
        )
        for model in found
    ]
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        typer.echo(line.rstrip())
    typer.echo("\nshowtell models NAME shows a model's card")
