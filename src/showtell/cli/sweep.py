"""What the command line shows of a sweep."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from showtell.training.sweep_file import Sweep, SweepRun

FIGURES = ("CIDEr-D", "BLEU-4", "val_loss")
WIDTH = 10_000  # characters, more than any table has


def print_table(sweep: "Sweep", folder: Path) -> None:
    """The runs with what sets them apart and what came of it, and how to see more."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from showtell.config.grid import short_name

    keys = [*sweep.runs[0].settings]
    table = Table(box=box.SIMPLE_HEAD)
    for name in (*map(short_name, keys), "best epoch", *FIGURES, "time", ""):
        table.add_column(name, no_wrap=True, justify="left" if name == "" else "right")
    for run in sweep.runs:
        values = (_shown(run.settings[key]) for key in keys)
        epoch = str(run.best_epoch) if run.best_epoch else "-"
        remark = "best" if run is sweep.best else "" if run.status == "finished" else run.status
        style = "bold" if run is sweep.best else None
        table.add_row(*values, epoch, *_figures(run), _time(run.seconds), remark, style=style)
    # As wide as it needs to be, whatever the terminal: no figure is ever cut.
    Console(highlight=False, markup=False, width=WIDTH).print(table, crop=False)
    if sweep.best:
        typer.echo(f"the model is {folder / sweep.best.name / 'best'}")
        typer.echo(f"to compare all: showtell report {shlex.quote(str(folder))}/*/")


def say_failures(sweep: "Sweep") -> bool:
    """Name the runs that failed, on standard error; whether there are any."""
    from showtell.cli.errors import say

    failed = [run for run in sweep.runs if run.status == "failed"]
    for run in failed:
        say(f"{run.name} failed: {run.reason}")
    return bool(failed)


def _figures(run: "SweepRun") -> list[str]:
    return [f"{run.metrics[name]:.4f}" if name in run.metrics else "-" for name in FIGURES]


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
