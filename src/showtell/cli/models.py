"""``showtell models``, ``pack``, ``average`` and ``publish``: models on disk."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from showtell.cli import captioners, options
from showtell.cli.console import stopped
from showtell.core.files import json_text
from showtell.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from showtell.inference.described import DescribedModel


def models(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="Show the card of this model, or what is in a folder without a card; for hf:ID, "
            "its licence, its size and whether it is on this machine; for other prefixes what the "
            "captioner says of itself.",
        ),
    ] = None,
    revision: captioners.Revision = None,
    as_json: options.Json = False,
) -> None:
    """List the models that come with showtell and those in the Hugging Face cache, or show one.

    A name works wherever a model's folder does: caption --model NAME, evaluate NAME DATA,
    train --from NAME. Those of the cache (hf:ID) caption, but are not trained.
    """
    from showtell.inference.described import describe_model
    from showtell.inference.specs import spec_of
    from showtell.pretrained import model_names

    if name is not None and name.startswith("hf:"):
        from showtell.cli.hub import describe

        describe(name, revision, as_json=as_json)
    elif revision is not None:
        raise UsageError("--revision is for models of the hub: showtell models hf:ID")
    elif name is None:
        from showtell.cli.hub import cached

        found, shipped = cached(), [describe_model(name) for name in model_names()]
        if as_json:
            models = [model.to_dict() for model in shipped]
            typer.echo(json_text({"models": models, "cached": found}))
            return
        _print_table(shipped)
        for model in found:
            size = f"{model['num_bytes'] / 1e6:,.1f} MB"
            licence = model["licence"] or "licence not given"
            typer.echo(
                f"{model['name']}@{model['revision'][:12]}  {model['kind']}, {size}, {licence}"
            )
    elif spec_of(name) is not None:
        _show_other(name, as_json=as_json)
    else:
        _show(describe_model(name), as_json=as_json)


def _show(model: "DescribedModel", *, as_json: bool) -> None:
    """One model: its card, or what its folder says where there is no card."""
    card = model.card
    if as_json:
        typer.echo(json_text(model.to_dict() | {"card": card}))
        return
    if card is not None:
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(card))
    else:
        typer.echo("\n".join(model.lines()))
    typer.echo(f"\nFolder: {model.folder}")


def _show_other(name: str, *, as_json: bool) -> None:
    """A captioner of another kind, which is loaded for it: what its card says."""
    from showtell.inference.loading import ModelRequest, load_request
    from showtell.inference.specs import find_backend, named

    model = ModelRequest(name)
    card = load_request(model).card
    takes = sorted(find_backend(name.partition(":")[0]).takes)
    values = {
        "name": name,
        "revision": card.revision,
        "licence": card.licence,
        "num_parameters": card.num_parameters,
        "options": takes,
        "decoding": None if card.decoding is None else sorted(card.decoding),
    }
    if as_json:
        typer.echo(json_text(values))
        return
    size = card.num_parameters
    typer.echo(f"{named(name)}\nlicence: {card.licence or 'not given'}")
    typer.echo(f"size: {f'{size / 1e6:,.1f} million parameters' if size else 'not given'}")
    if card.revision is not None:
        typer.echo(f"revision: {card.revision}")
    options_of = ", ".join(f"--{one.replace('_', '-')}" for one in takes)
    typer.echo(f"options: {options_of or 'none'}")
    decoding = "all" if card.decoding is None else ", ".join(sorted(card.decoding)) or "none"
    typer.echo(f"decoding settings: {decoding}")


def _print_table(found: "list[DescribedModel]") -> None:
    columns = ("name", "also", "CIDEr-D", "BLEU-4", "MB", "encoder", "trained on")
    rows = [
        (
            model.name,
            ", ".join(model.aliases),
            *(f"{model.metrics[m]:.3f}" if m in model.metrics else "-" for m in columns[2:4]),
            f"{model.num_bytes / 1e6:.1f}",
            model.encoder,
            model.data or "-",
        )
        for model in found
    ]
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        typer.echo(line.rstrip())
    typer.echo()
    for model in found:
        typer.echo(f"figures of {model.name}: on {model.measured_on}")
    typer.echo("showtell models NAME shows a model's card")


class Storage(StrEnum):
    """How a packed model's matrices are stored."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


def pack(
    model: Annotated[
        str,
        typer.Argument(
            help="Folder of a run or a checkpoint, or a name that `showtell models` lists."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the packed model.")],
    weights: Annotated[
        Storage,
        typer.Option(
            "--weights", help="Format of the weights; int8 takes a quarter of the space of fp32."
        ),
    ] = Storage.fp16,
    trust_model: options.TrustModel = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier packed model.")
    ] = False,
) -> None:
    """Pack a model for others: small, without training state and without paths.

    The result is a checkpoint folder like any other. The same model always gives the same bytes.
    """
    from showtell.publish.pack import pack_checkpoint

    size = pack_checkpoint(
        model, output, storage=weights.value, trust_model=trust_model, overwrite=overwrite
    )
    typer.echo(f"the packed model is {output}, {size / 1e6:.1f} MB")


def average(
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            help="Checkpoint folders, such as RUN/epoch-007 RUN/epoch-008; the model that a run "
            "started from may be one of them, by its name too."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the new checkpoint.")],
) -> None:
    """Average the weights of CHECKPOINTS into a new one.

    The mean of a run's last few epochs can caption better than any single one of them, and
    so can the mean of a run and of the model that it started from: `showtell compare`
    measures it. The last one gives the settings.
    """
    from showtell.training.averages import average_checkpoints

    average_checkpoints(checkpoints, output)
    typer.echo(f"the mean of {len(checkpoints)} checkpoints is {output}")


def publish(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="TOML file with the stages and the card.")
    ],
    data: options.Data,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the model.")],
    work: Annotated[
        Path,
        typer.Option(
            "--work", help="Folder with a subfolder for each stage; it is reused to resume."
        ),
    ] = Path("runs/publish"),
    others: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            help="Path of other data that the recipe names, as NAME=PATH; may be repeated.",
        ),
    ] = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Make a model from RECIPE: train, average, pack, measure, and write its card.

    Finished stages are kept, so the same command resumes after Ctrl-C. configs/pretrained/ has the
    recipe of the model that comes with showtell.
    """
    from showtell.cli.console import ConsoleReporter
    from showtell.publish.build import publish as build
    from showtell.publish.stages import Places

    paths = {"": data}
    for other in others or []:
        name, equals, path = other.partition("=")
        if not equals or not name or not path:
            raise ConfigError(f"--data {other!r}: expected NAME=PATH")
        paths[name] = path
    with ConsoleReporter() as report:
        made = build(recipe, Places(paths, work, device), output, report)
    if made is None:
        raise stopped()
    if as_json:
        scores = {title: found.to_dict() for title, found in made.scores.items()}
        values = {"folder": str(made.folder), "num_bytes": made.num_bytes, "scores": scores}
        typer.echo(json_text(values))
        return
    for title, found in made.scores.items():
        figures = ", ".join(f"{k} {found.metrics[k]:.3f}" for k in ("CIDEr-D", "BLEU-4"))
        typer.echo(f"{title}: {figures}")
    typer.echo(f"the model is {made.folder}, {made.num_bytes / 1e6:.1f} MB, with its card")
