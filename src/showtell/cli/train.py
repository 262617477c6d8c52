"""``showtell train``."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from showtell.cli import options

if TYPE_CHECKING:
    from showtell.processes import Processes

INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended


def train(
    data: options.Data,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")],
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="Settings in TOML; configs/ has presets.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("-s", "--set", help="One setting, as in -s training.num_epochs=3."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")] = False,
    format: options.Format = None,
    images: options.Images = None,
    store: options.Store = None,
    device: options.Device = "auto",
) -> None:
    """Train a captioner on DATA.

    The run's folder gets training_log.txt, metrics.jsonl, and the checkpoints best/, last/ and
    epoch-NNN/. Ctrl-C keeps the last state; --resume goes on from it.
    """
    from showtell.cli.console import ConsoleReporter
    from showtell.processes import Processes
    from showtell.training.start import start_training

    processes = Processes.from_environment()
    with ConsoleReporter(quiet=not processes.is_first) as report:
        result = start_training(
            data,
            output,
            config_file=config,
            overrides=settings or [],
            resume=resume,
            format=format,
            images=images,
            store_folder=store,
            device=device,
            report=report,
        )
    if result.stopped:
        if processes.is_first:
            typer.echo(f"stopped; to go on: {_resume_command(processes)}", err=True)
        raise typer.Exit(INTERRUPTED)
    if not processes.is_first:
        return
    figures = ", ".join(
        f"{name} {result.metrics[name]:.4f}"
        for name in ("BLEU-4", "METEOR", "ROUGE-L", "CIDEr-D")
        if name in result.metrics
    )
    typer.echo(f"best epoch {result.best_epoch}: {figures}")
    typer.echo(f"the model is {output / 'best'}; try: showtell caption PHOTO --model {output}")


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
