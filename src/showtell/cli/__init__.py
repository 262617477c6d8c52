"""The command line. Each command parses its arguments, calls the library and prints.

No module here imports torch before a command runs, so ``--help`` answers at once. ``main`` tunes
the process for showtell (``core/memory.py``), which the library itself never does.
"""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from showtell.cli.caption import caption
from showtell.cli.compare import compare
from showtell.cli.console import Command, Commands, exit_code_for
from showtell.cli.data import app as data_app
from showtell.cli.data import features
from showtell.cli.demo import demo
from showtell.cli.distil import distil
from showtell.cli.evaluate import evaluate, score
from showtell.cli.export import export
from showtell.cli.import_notebook import import_notebook
from showtell.cli.models import average, models, pack, publish
from showtell.cli.rate import rate
from showtell.cli.reliability import reliability
from showtell.cli.report import report
from showtell.cli.rerank import rerank
from showtell.cli.serve import serve
from showtell.cli.sheet import sheet
from showtell.cli.train import train
from showtell.core.memory import freeze_garbage_collector, tune_process
from showtell.version import __version__

app = typer.Typer(
    name="showtell",
    cls=Commands,
    help="Show it pictures, it tells what it sees.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"showtell {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Show it pictures, it tells what it sees."""


app.command(cls=Command)(demo)
app.add_typer(data_app, name="data")
COMMANDS: tuple[Callable[..., None], ...] = (
    *(features, train, distil, average, rerank, pack, export, import_notebook, publish, report),
    *(evaluate, reliability, score, rate, compare, caption, sheet, serve, models),
)
for command in COMMANDS:
    app.command(cls=Command)(command)


def main() -> None:
    """Run the command line; every error becomes one line and an exit code."""
    debug = "--debug" in sys.argv
    if debug:  # wherever it stands, it is meant for all
        sys.argv.remove("--debug")
    tune_process()
    try:
        app()
    except Exception as error:
        if debug:
            raise
        sys.exit(exit_code_for(error))
    finally:
        freeze_garbage_collector()
