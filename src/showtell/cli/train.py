"""``showtell train``."""

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showtell.cli import options
from showtell.cli.errors import FAILED
from showtell.cli.sweep import print_table, say_failures
from showtell.errors import ConfigError

if TYPE_CHECKING:
    from showtell.processes import Processes
    from showtell.training.loop import TrainingResult

INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended


def train(
    data: options.Data,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")],
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="Settings in TOML; configs/ has presets.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "-s",
            "--set",
            help="One setting, as in -s training.num_epochs=3; several values make a sweep.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the run or the sweep stopped.")
    ] = False,
    format: options.Format = None,
    images: options.Images = None,
    store: options.Store = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Train a captioner on DATA.

    The run's folder gets training_log.txt, metrics.jsonl, and the checkpoints best/, last/ and
    epoch-NNN/. Ctrl-C keeps the last state; --resume goes on from it.

    A setting with several values, as in -s optimizer.lr=1e-3,5e-4, makes a sweep: a run for each,
    and for each combination where several settings have several, one after the other, in folders
    of the output folder. A table ends it.

    docs/settings.md lists all settings.
    """
    from showtell.cli.console import ConsoleReporter
    from showtell.processes import Processes
    from showtell.training.start import start_training
    from showtell.training.sweep import is_sweep, run_sweep

    processes = Processes.from_environment()
    asked: dict[str, Any] = {
        "config_file": config,
        "overrides": settings or [],
        "resume": resume,
        "format": format,
        "images": images,
        "store_folder": store,
        "device": device,
    }
    if is_sweep(output, settings or []):
        if processes.are_many:
            raise ConfigError(
                "a sweep trains run after run in one process: start it without torchrun, or give "
                "each setting one value"
            )
        with ConsoleReporter() as report:
            swept = run_sweep(data, output, report=report, **asked)
        _end(swept.stopped, swept.sweep.to_dict() if as_json else None, processes)
        if not as_json:
            print_table(swept.sweep, output)
        if say_failures(swept.sweep):
            raise typer.Exit(FAILED)
        return
    with ConsoleReporter(quiet=not processes.is_first) as report:
        result = start_training(data, output, report=report, **asked)
    _end(result.stopped, {"run": str(output), **asdict(result)} if as_json else None, processes)
    if processes.is_first and not as_json:
        _print_best(result, output)


def _print_best(result: "TrainingResult", output: Path) -> None:
    """The best epoch's figures, and what to do with the model."""
    figures = ", ".join(
        f"{name} {result.metrics[name]:.4f}"
        for name in ("BLEU-4", "METEOR", "ROUGE-L", "CIDEr-D")
        if name in result.metrics
    )
    typer.echo(f"best epoch {result.best_epoch}: {figures}")
    typer.echo(f"the model is {output / 'best'}; try: showtell caption PHOTO --model {output}")


def _end(stopped: bool, values: dict[str, Any] | None, processes: "Processes") -> None:
    """Print ``values``, if any; of a stopped run say how to go on, and exit."""
    if values is not None and processes.is_first:
        typer.echo(json.dumps(values, ensure_ascii=False, indent=2))
    if stopped:
        if processes.is_first:
            typer.echo(f"stopped; to go on: {_resume_command(processes)}", err=True)
        raise typer.Exit(INTERRUPTED)


def _resume_command(processes: "Processes") -> str:
    """The command as it was typed, less what a resumed run has from its own configuration."""
    kept, arguments = [], iter(sys.argv[1:])
    for argument in arguments:
        if argument in ("-c", "--config", "-s", "--set"):
            next(arguments, None)
        elif not argument.startswith(("--config=", "--set=")) and argument != "--resume":
            kept.append(argument)
    program = ["showtell"]
    if processes.are_many:
        program = ["torchrun", "--nproc-per-node", str(processes.local_size), "-m", "showtell"]
    return shlex.join([*program, *kept, "--resume"])
