"""Commands whose usage errors read as written, without the library's name for their kind."""

from typing import Any

import typer
from typer.core import TyperCommand

PREFIX = "Value error, "  # pydantic's, by which typer checks a choice


class Command(TyperCommand):
    """A command of ``showtell``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the arguments apart; what is wrong with one of them is said without ``PREFIX``."""
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix(PREFIX)
            raise
