"""``showtell train``: one run, or a sweep of runs with a table at its end."""

import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showtell.cli import options
from showtell.cli.console import FAILED, INTERRUPTED
from showtell.cli.groups import given, group, with_options
from showtell.core.files import json_text
from showtell.errors import CheckpointError, ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from showtell.core.distributed import Processes
    from showtell.training.from_start import BeforeAndAfter
    from showtell.training.loop import TrainingResult
    from showtell.training.request import TrainRequest
    from showtell.training.sweep import Sweep, SweepRun

OF_A_START = ("-c", "--config", "-s", "--set", "--from", "--preset", *options.PLAIN)
"""Options that a resumed run reads from its folder."""

FIGURES = ("CIDEr-D", "BLEU-4", "val_loss")
WIDTH = 10_000  # characters, more than any table has


def print_table(sweep: "Sweep", folder: Path) -> None:
    """Print the runs with the settings in which they differ and their results."""
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


def print_changes(found: "BeforeAndAfter") -> None:
    """Print what a run has changed of the model that it started from."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("pictures", "number", "metric", f"{found.model}, untouched", "this run", "change"):
        table.add_column(name, no_wrap=True, justify="right" if name == "number" else "left")
    for row in found.rows:
        table.add_row(
            f"{row.data}, {row.split}",
            f"{row.num_pictures:,}",
            row.metric,
            *(
                f"{value:.3f} [{low:.3f}, {high:.3f}]"
                for value, (low, high) in (
                    (row.before, row.before_interval),
                    (row.after, row.after_interval),
                )
            ),
            f"{row.change:+z.3f} [{row.change_interval[0]:+z.3f}, {row.change_interval[1]:+z.3f}]"
            f" {row.verdict}".rstrip(),
        )
    Console(highlight=False, markup=False, width=WIDTH).print(table, crop=False)
    chosen = "the epoch and the average were" if found.by_share else "the epoch was"
    typer.echo(
        f"in brackets: 95 % intervals, by resampling the pictures; {chosen} chosen on val, whose "
        "figures are therefore somewhat too good"
    )
    whose = {"start": f"that of {found.model}", "left out": f"none ({found.model} has one)"}
    typer.echo(
        f"reranker: {whose.get(found.reranker, found.reranker)}; calibration of the confidence: "
        f"{whose.get(found.calibration, found.calibration)}"
    )


def say_failures(sweep: "Sweep") -> bool:
    """Name the runs that failed, on standard error; whether there are any."""
    from showtell.cli.console import say

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


@group
class Start:
    """What a new run begins with; a resumed run has it in its folder."""

    config: Annotated[
        Path | None,
        typer.Option(
            "-c",
            "--config",
            metavar="FILE|PRESET",
            help="TOML file with settings, or the name of a preset (docs/training.md lists them).",
        ),
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "-s",
            "--set",
            help="A setting, such as -s decoder.dropout=0.3; may be repeated. Several values "
            "make a sweep.",
        ),
    ] = None
    model: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Model to start from: `default`, a run or a checkpoint folder. Its encoder, shape "
            "and words are taken over, the new words of DATA are added, and at the end a table "
            "compares before and after.",
        ),
    ] = None
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            help="Settings for a number of pictures: tiny, small, medium, coco or none; auto: by "
            "the number of training pictures, unless -c is given.",
        ),
    ] = "auto"
    old: Annotated[
        str | None,
        typer.Option(
            "--old",
            metavar="DATA",
            help="With --from: captioned pictures of the kind that MODEL knows. Some of its "
            "training pictures are rehearsed (-s training.rehearsal_pictures), so that MODEL "
            "forgets less, and its others measure what it forgets.",
        ),
    ] = None


@group
class PlainSettings:
    """The options of ``options.PLAIN``."""

    encoder: Annotated[str | None, typer.Option("--encoder", help="Encoder; -s encoder.name.")] = (
        None
    )
    decoder: Annotated[
        str | None, typer.Option("--decoder", help="Kind of decoder; -s decoder.kind.")
    ] = None
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            min=1,
            help="Number of epochs; -s training.num_epochs. With --resume, a finished run goes on "
            "until it has that many.",
        ),
    ] = None
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, help="Captions in a step; -s training.batch_size."),
    ] = None
    lr: Annotated[str | None, typer.Option("--lr", help="Learning rate; -s optimizer.lr.")] = None
    beam_size: Annotated[
        int | None,
        typer.Option("--beam-size", min=1, help="Beam size; -s decoding.beam_size."),
    ] = None

    def added_to(self, settings: "Sequence[str]", *, resume: bool) -> list[str]:
        """The options of ``-s``, and those that were given by plain names.

        Args:
            resume: whether ``--epochs`` says how far a run goes on, and is not a setting.

        Raises:
            UsageError: a setting is given both ways.
        """
        from showtell.config.toml import split_override

        found = list(settings)
        already = {split_override(setting)[0] for setting in settings}
        for name, value in given(self).items():
            if resume and name == "epochs":
                continue
            option = f"--{name.replace('_', '-')}"
            if options.PLAIN[option] in already:
                raise UsageError(
                    f"{option} and -s {options.PLAIN[option]} are the same setting: give one"
                )
            found.append(f"{options.PLAIN[option]}={value}")
        return found


@with_options
def train(
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")],
    start: Start,
    plain: PlainSettings,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the run or the sweep where it stopped.")
    ] = False,
    data: options.DataSet,
    store: options.Store = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Train a captioner on DATA.

    The run's folder gets training_log.txt, metrics.jsonl and the checkpoints best/, last/ and
    epoch-NNN/. Ctrl-C saves the state; --resume continues from it.

    A setting with several values, such as -s optimizer.lr=1e-3,5e-4, makes a sweep: showtell trains
    one run for each value, or for each combination if several settings have several values. The
    runs follow one another, each in a subfolder of the output folder. At the end, a table compares
    them.

    docs/settings.md lists all settings.
    """
    from showtell.data.request import DataRequest
    from showtell.training.request import TrainRequest
    from showtell.training.sweep import is_sweep

    settings = plain.added_to(start.settings or [], resume=resume)
    old = start.old
    if old is not None and start.model is None and not resume:
        raise UsageError(
            f"--old {old} is what a model is not to forget: give the model with --from"
        )
    request = TrainRequest(
        data.request(store),
        output,
        start.config,
        settings,
        start=start.model,
        preset=start.preset,
        old=DataRequest(old) if old is not None else None,
        resume=resume,
        num_epochs=plain.epochs if resume else None,
        device=device,
    )
    _check_resumes(request)
    run = _train_many if is_sweep(output, settings) else _train_one
    run(request, as_json=as_json)


def _check_resumes(request: "TrainRequest") -> None:
    """Refuse a start where a run or a sweep is, and a resumption with settings: name the command.

    Raises:
        CheckpointError: the folder holds a run or a sweep, or something else.
        ConfigError: a resumed one is given settings.
    """
    from showtell.core.distributed import Processes
    from showtell.training.run_folder import holds_run, refuse_used
    from showtell.training.sweep import SWEEP_FILE

    folder = request.folder
    command = _resume_command(Processes.from_environment())
    kind = "sweep" if (folder / SWEEP_FILE).exists() else "run"
    if request.resume:
        if request.config_file or request.overrides or request.start:
            longer = "; --epochs makes it longer" if kind == "run" else ""
            raise ConfigError(
                f"a resumed {kind} keeps its own settings; to continue it: {command}{longer}"
            )
        return
    try:
        refuse_used(folder)
    except CheckpointError:
        if kind == "run" and not holds_run(folder):
            raise
        raise CheckpointError(
            f"{folder} already holds a {kind}; to continue it: {command}; for a new one, give "
            "another folder with -o"
        ) from None


def _train_one(request: "TrainRequest", *, as_json: bool) -> None:
    from showtell.cli.console import ConsoleReporter
    from showtell.core.distributed import Processes
    from showtell.training.request import start_training

    processes = Processes.from_environment()
    with ConsoleReporter(quiet=not processes.is_first) as report:
        result = start_training(request, report=report)
    values = {"run": str(request.folder), **asdict(result)} if as_json else None
    _end(result.stopped, values, processes)
    if processes.is_first and not as_json:
        _print_best(result, request.folder)


def _train_many(request: "TrainRequest", *, as_json: bool) -> None:
    from showtell.cli.console import ConsoleReporter
    from showtell.core.distributed import Processes
    from showtell.training.sweep import run_sweep

    processes = Processes.from_environment()
    if processes.are_many:
        raise ConfigError(
            "a sweep trains run after run in one process: start it without torchrun, or give "
            "each setting one value"
        )
    with ConsoleReporter() as report:
        swept = run_sweep(request, report=report)
    _end(swept.stopped, swept.sweep.to_dict() if as_json else None, processes)
    if not as_json:
        print_table(swept.sweep, request.folder)
    if say_failures(swept.sweep):
        raise typer.Exit(FAILED)


def _print_best(result: "TrainingResult", output: Path) -> None:
    """The best epoch's figures, and what to do with the model."""
    figures = ", ".join(
        f"{name} {result.metrics[name]:.4f}"
        for name in ("BLEU-4", "METEOR", "ROUGE-L", "CIDEr-D")
        if name in result.metrics
    )
    typer.echo(f"{_what_is_kept(result)}: {figures}")
    if result.from_start is not None:
        print_changes(result.from_start)
    command = f"showtell caption PHOTO --model {shlex.quote(str(output))}"
    typer.echo(f"the model is {output / 'best'}; try: {command}")


def _what_is_kept(result: "TrainingResult") -> str:
    """Whose figures the result has: the best epoch's, or those of its average with the start."""
    found = result.from_start
    if found is None or not found.by_share:
        return f"best epoch {result.best_epoch}"
    if found.share == 0:
        return f"the weights of {found.model}, which are kept"
    return f"best epoch {result.best_epoch}, {found.share:.0%} of it in the average"


def _end(stopped: bool, values: dict[str, Any] | None, processes: "Processes") -> None:
    """Print ``values``, if any; of a stopped run say how to go on, and exit."""
    if values is not None and processes.is_first:
        typer.echo(json_text(values))
    if stopped:
        if processes.is_first:
            typer.echo(f"stopped; to resume: {_resume_command(processes)}", err=True)
        raise typer.Exit(INTERRUPTED)


def _resume_command(processes: "Processes") -> str:
    """The command as it was typed, without the options that a resumed run reads from its folder.

    Beside ``--resume``, ``--epochs`` says how far a run goes on.
    """
    kept, arguments = [], iter(sys.argv[1:])
    dropped = {*OF_A_START} - ({"--epochs"} if "--resume" in sys.argv else set())
    for argument in arguments:
        if argument in dropped:
            next(arguments, None)
        elif argument == "--resume" or argument.startswith(tuple(f"{n}=" for n in dropped)):
            continue
        elif argument.startswith("--") or not argument.startswith(("-c", "-s")):  # -sNAME=VALUE
            kept.append(argument)
    program = ["showtell"]
    if processes.are_many:
        program = ["torchrun", "--nproc-per-node", str(processes.local_size), "-m", "showtell"]
    return shlex.join([*program, *kept, "--resume"])
