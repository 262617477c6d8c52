"""What is to be told of the price of a model's server: the options, and their checks."""

from typing import TYPE_CHECKING, Annotated

import typer

from showtell.cli.groups import group
from showtell.errors import UsageError

if TYPE_CHECKING:
    from showtell.inference.captioner import Captioner


@group
class Asking:
    """What is to be said of the price of a model's server."""

    price: Annotated[
        str | None,
        typer.Option(
            "--price",
            metavar="IN,OUT",
            help="openai, ollama: prices of a million tokens sent and received, to estimate a "
            "run's cost.",
        ),
    ] = None
    measure: Annotated[
        int,
        typer.Option(
            "--measure",
            min=0,
            max=20,
            help="openai, ollama: with --dry-run, number of pictures to send to measure time and "
            "tokens.",
        ),
    ] = 0

    def check(self, model: str, *, dry_run: bool) -> None:
        """Raise UsageError where there is no server, no price, or nothing is to be measured."""
        for name, value in (("--price", self.price), ("--measure", self.measure)):
            if value and not _is_behind_server(model):
                raise UsageError(f"{name} is for models behind a server (openai:, ollama:)")
        if self.measure and not dry_run:
            raise UsageError("--measure is for --dry-run: add it")
        if self.price is not None:
            from showtell.bulk.estimate import Price

            Price.of(self.price)

    def cost(self, captioner: "Captioner") -> str | None:
        """What a run has asked a server for, and its price, in a line; None: it asked none."""
        if captioner.card.kind == "showtell":
            return None
        from showtell.bulk.estimate import Price, cost_of

        return cost_of(captioner, Price.given(self.price))


def _is_behind_server(model: str) -> bool:
    from showtell.bulk.estimate import remote_class  # imports what asks servers

    return remote_class(model) is not None
