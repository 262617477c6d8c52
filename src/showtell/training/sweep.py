"""Sweeps: one run after the other for every combination of settings, each in its own folder.

They share the data set as it was read and its feature store. What is wrong with settings is said
before the first run begins; a run that fails later is noted, and the next one begins.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from showtell.checkpoint import CONFIG
from showtell.config import Config, PrefixLmConfig
from showtell.config.grid import Grid
from showtell.data.fingerprint import dataset_fingerprint
from showtell.data.records import Dataset
from showtell.errors import CheckpointError, ConfigError, ShowtellError
from showtell.progress import Reporter
from showtell.training.beginning import check_start
from showtell.training.loop import TrainingResult
from showtell.training.start import open_data, refuse_used, train_on
from showtell.training.sweep_file import SWEEP_FILE, Sweep, SweepRun

# What another combination of settings may not meet. Of a full disk, the sweep's own file tells.
FAILURES = (ShowtellError, MemoryError, torch.OutOfMemoryError)


@dataclass(frozen=True)
class SweepResult:
    """How a sweep ended.

    Attributes:
        sweep: what its file holds.
        stopped: whether a run was asked to stop before its end.
    """

    sweep: Sweep
    stopped: bool


def is_sweep(folder: Path, overrides: Sequence[str]) -> bool:
    """Whether ``overrides`` ask for one, or ``folder`` holds one."""
    return bool(Grid.read(overrides).axes) or (folder / SWEEP_FILE).exists()


def run_sweep(
    data: str,
    folder: Path,
    *,
    report: Reporter,
    config_file: Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    format: str | None = None,
    images: Path | None = None,
    store_folder: Path | None = None,
    device: str = "auto",
) -> SweepResult:
    """Train every combination of ``overrides`` on ``data``, each into a folder in ``folder``.

    Args:
        data: path, or ``scenes``.
        overrides: ``section.key=value``, or ``section.key=value,value`` for an axis of the grid.
        resume: go on with the sweep in ``folder``: finished runs stay, a stopped one goes on,
            failed ones are tried again.

    Raises:
        ShowtellError: settings are wrong (all of them are named), or data or device are, or
            there is a sweep already, or none to resume.
    """
    sweep = _open(folder, config_file, overrides, resume)
    configs = _checked(sweep, folder, device)
    dataset = open_data(data, format=format, images=images, report=report)
    sweep = _for_data(sweep, dataset, folder, resume)
    folder.mkdir(parents=True, exist_ok=True)
    sweep.write(folder)
    train = partial(
        train_on, dataset, report=report, images=images, store_folder=store_folder, device=device
    )
    for number, run in enumerate(sweep.runs, 1):
        title = f"run {number} of {len(sweep.runs)}, {run.name}"
        if _is_finished(run, folder):
            report.note(f"{title}: finished before")
            continue
        report.note(title)
        running = run.model_copy(update={"status": "running", "reason": None})
        sweep = _noted(sweep, folder, running)
        ended = _attempt(running, folder / run.name, configs[run.name], train)
        sweep = _noted(sweep, folder, ended)
        if ended.status == "failed":
            report.note(f"{run.name} failed: {ended.reason}")
        if ended.status == "stopped":
            return SweepResult(sweep, stopped=True)
    return SweepResult(sweep, stopped=False)


def _attempt(
    run: SweepRun, place: Path, config: Config, train: Callable[..., TrainingResult]
) -> SweepRun:
    """Start the run in ``place`` or go on with it; what is known of it then."""
    if config.training.compile:
        torch.compiler.reset()  # torch keeps few variants of a function, of all runs together
    try:
        started = (place / CONFIG).is_file()
        result = train(
            place, config=Config.load(place / CONFIG) if started else config, resume=started
        )
    except FAILURES as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return run.model_copy(update={"status": "failed", "reason": reason})
    return run.model_copy(
        update={
            "status": "stopped" if result.stopped else "finished",
            "best_epoch": result.best_epoch or None,
            "metrics": result.metrics,
            "seconds": round(result.seconds, 1),
        }
    )


def _open(folder: Path, config_file: Path | None, overrides: Sequence[str], resume: bool) -> Sweep:
    """The sweep that is to be run, or to go on."""
    if resume:
        if config_file or overrides:
            raise ConfigError(
                "a resumed sweep keeps its own settings: leave -c and -s out, or start a new one"
            )
        return Sweep.read(folder)
    if (folder / SWEEP_FILE).exists():
        raise CheckpointError(
            f"{folder} already holds a sweep: add --resume to go on with it, or give another -o"
        )
    refuse_used(folder)
    return Sweep.plan(config_file, overrides)


def _checked(sweep: Sweep, folder: Path, device: str) -> dict[str, Config]:
    """Each run's settings by its name.

    Raises:
        ConfigError: some are wrong; it names all that are, or a run is there twice.
    """
    configs: dict[str, Config] = {}
    wrong: dict[str, list[str]] = {}
    fine: list[object] = []
    for run in sweep.runs:
        try:
            config = sweep.config_of(run)
            if twin := next((name for name, other in configs.items() if other == config), None):
                raise ConfigError(f"the same settings as {twin}")
            lm = config.decoder if isinstance(config.decoder, PrefixLmConfig) else None
            files = (config.training.init_from, config.data.vocab_file, config.data.text)
            start = (config.encoder, config.training.precision, files, lm)
            if start not in fine and not (folder / run.name / CONFIG).is_file():
                check_start(config, device)
                fine.append(start)
            configs[run.name] = config
        except ShowtellError as error:
            wrong.setdefault(str(error), []).append(run.name)
    if wrong:
        everywhere = len(wrong) == 1 and not configs
        raise ConfigError(
            "; ".join(
                message if everywhere else f"{', '.join(names)}: {message}"
                for message, names in wrong.items()
            )
        )
    return configs


def _for_data(sweep: Sweep, dataset: Dataset, folder: Path, resume: bool) -> Sweep:
    """The sweep with the fingerprint of its data; one that is resumed has to have the same."""
    ours = dataset_fingerprint(dataset)
    if resume and sweep.data != ours:
        raise CheckpointError(
            f"the data is not what the runs in {folder} were trained on (fingerprint {ours[:12]}, "
            f"they have {sweep.data[:12]}): give the same data, or start a new sweep"
        )
    return sweep.model_copy(update={"data": ours})


def _is_finished(run: SweepRun, folder: Path) -> bool:
    """Whether it is done and still there: who deletes its folder wants it again."""
    return run.status == "finished" and (folder / run.name / CONFIG).is_file()


def _noted(sweep: Sweep, folder: Path, run: SweepRun) -> Sweep:
    changed = sweep.with_run(run)
    changed.write(folder)
    return changed
