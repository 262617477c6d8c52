"""Sweeps: one run after the other for every combination of settings, each in its own folder.

The runs share the data set, which is read once, and its feature store. Wrong settings of any run
are reported before the first run begins. If a run fails later, that is noted and the next one
begins. ``sweep.json`` in the sweep's folder holds the settings of all runs from the start and
their results as they come, so a stopped sweep can go on.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from showtell.config import Config, PrefixLmConfig
from showtell.config.grid import Grid, point_names
from showtell.config.toml import set_value
from showtell.core.files import parse_json, write_json
from showtell.core.progress import Reporter
from showtell.data.records import Dataset, dataset_fingerprint
from showtell.data.request import open_data
from showtell.errors import CheckpointError, ConfigError, ShowtellError, one_line
from showtell.inference.files import CONFIG
from showtell.training.loop import TrainingResult
from showtell.training.old_pictures import OLD_AT, check_old, old_place, old_to_resume
from showtell.training.openings import check_files, check_start
from showtell.training.request import TrainRequest, train_on
from showtell.training.run_folder import locked, refuse_used
from showtell.training.settings import Layers, inherited

SWEEP_FILE = "sweep.json"


class SweepRun(BaseModel):
    """One run of a sweep.

    Attributes:
        name: of its folder in the sweep's.
        settings: those that differ from run to run.
        values: those of all layers, by section, as for a run that is started alone; defaults, and
            what the model that it starts from has, are left out.
        reason: why it failed.
        best_epoch, metrics: of its best checkpoint.
        seconds: of training and validation.
    """

    model_config = ConfigDict(frozen=True)

    name: str = Field(pattern=r"^[\w.+-]+=[\w.+=-]+$")
    settings: dict[str, Any]
    values: dict[str, Any]
    status: Literal["waiting", "running", "stopped", "failed", "finished"] = "waiting"
    reason: str | None = None
    best_epoch: int | None = None
    metrics: dict[str, float] = {}
    seconds: float | None = None

    def config(self) -> Config:
        """All settings.

        Raises:
            ShowtellError: some are wrong, and it names them all; or there is no such model.
        """
        return Config.of(inherited(self.values))


class Sweep(BaseModel):
    """All runs of a sweep, in order.

    Attributes:
        data: fingerprint of what they train on.
        old: where the old data lies that they rehearse, as in ``run.json``.
    """

    model_config = ConfigDict(frozen=True)

    data: str = ""
    old: dict[str, Any] | None = None
    runs: tuple[SweepRun, ...]

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, given: Any) -> Any:
        """In files of earlier versions, what the runs have in common stands apart."""
        if not isinstance(given, dict) or not isinstance(common := given.get("settings"), dict):
            return given
        runs = []
        for run in given["runs"]:
            values = deepcopy(common)
            for key, value in run["settings"].items():
                set_value(values, key, value)
            runs.append({"values": values, **run})
        return {**given, "runs": runs}

    @classmethod
    def plan(cls, layers: Layers) -> "Sweep":
        """The runs that a file and the command line's ``-s`` ask for.

        Raises:
            ShowtellError: they cannot be read; whether the values are valid is not checked.
        """
        grid = Grid.read(layers.overrides)
        common = replace(layers, overrides=grid.common)
        points = grid.points()
        runs = [
            SweepRun(name=name, settings=point, values=common.own(point))
            for name, point in zip(point_names(points), points, strict=True)
        ]
        return cls(runs=tuple(runs))

    @classmethod
    def read(cls, folder: Path) -> "Sweep":
        """The sweep in ``folder``.

        Raises:
            CheckpointError: there is none, or its file is damaged.
        """
        path = folder / SWEEP_FILE
        try:
            return cls.model_validate(parse_json(path.read_text(encoding="utf-8")))
        except ValidationError as error:
            place = ".".join(map(str, error.errors()[0]["loc"]))
            raise CheckpointError(f"{path} is not a sweep: {place} is wrong") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
            raise CheckpointError(f"cannot read {path}: {error}") from None

    def write(self, folder: Path) -> None:
        """Keep it in ``folder``, atomically."""
        write_json(folder / SWEEP_FILE, self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """As in the file: with ``best``, the name of the best run."""
        best = self.best
        return {"best": best.name if best else None, **self.model_dump(mode="json")}

    def with_run(self, run: SweepRun) -> "Sweep":
        """The same with what is now known of one run."""
        runs = tuple(run if other.name == run.name else other for other in self.runs)
        return self.model_copy(update={"runs": runs})

    @property
    def best(self) -> SweepRun | None:
        """The finished run with the highest CIDEr-D, then the lowest validation loss."""
        return max(
            (run for run in self.runs if run.status == "finished"),
            key=lambda run: (run.metrics["CIDEr-D"], -run.metrics["val_loss"]),
            default=None,
        )


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


def run_sweep(request: TrainRequest, *, report: Reporter) -> SweepResult:
    """Train every combination of settings, each into a folder in ``request.folder``.

    With ``request.resume``, finished runs stay, a stopped one goes on, failed ones are tried again.

    Raises:
        ShowtellError: settings are wrong (all of them are named), or data or device are, or
            there is a sweep already, or none to resume.
    """
    folder = request.folder
    sweep = _open(request)
    # Files of earlier versions do not say whether there is old data: what is given counts.
    if request.resume and "old" in sweep.model_fields_set:
        old = old_to_resume(request.old, {OLD_AT: sweep.old}, folder)
        request = replace(request, old=old)
    configs = _checked(sweep, request)
    dataset = open_data(request.data, report=report)
    if not request.resume and request.layers.is_by_size:
        layers, line = request.layers.chosen(len(dataset.split("train")))
        report.note(line)
        sweep = Sweep.plan(layers)
        configs = _checked(sweep, request)
    if request.old:
        sweep = sweep.model_copy(update={"old": old_place(request.old)})
    sweep = _for_data(sweep, dataset, folder, request.resume)

    def train(place: Path, config: Config, resume: bool) -> TrainingResult:
        own = replace(request, folder=place, resume=resume)
        return train_on(dataset, own, config, report=report)

    with locked(folder):
        sweep.write(folder)
        return _run_all(sweep, configs, folder, train, report)


Train = Callable[[Path, Config, bool], TrainingResult]  # a folder, settings, whether to resume


def _run_all(
    sweep: Sweep, configs: dict[str, Config], folder: Path, train: Train, report: Reporter
) -> SweepResult:
    """Make one run after the other, noting in the sweep's file what becomes of each."""
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


def _attempt(run: SweepRun, place: Path, config: Config, train: Train) -> SweepRun:
    """Start the run in ``place`` or go on with it; what is known of it then."""
    if config.training.compile:
        torch.compiler.reset()  # torch keeps few variants of a function, of all runs together
    try:
        started = (place / CONFIG).is_file()
        result = train(place, Config.load(place / CONFIG) if started else config, started)
    except FAILURES as error:
        return run.model_copy(update={"status": "failed", "reason": one_line(error)})
    return run.model_copy(
        update={
            "status": "stopped" if result.stopped else "finished",
            "best_epoch": result.best_epoch or None,
            "metrics": result.metrics,
            "seconds": round(result.seconds, 1),
        }
    )


def _open(request: TrainRequest) -> Sweep:
    """The sweep that is to be run, or to go on."""
    folder = request.folder
    if request.resume:
        if request.config_file or request.overrides or request.start:
            raise ConfigError(
                "a resumed sweep keeps its own settings: leave -c, -s and --from out, or start a "
                "new one"
            )
        if request.num_epochs is not None:
            raise ConfigError(
                f"--epochs makes one run longer: give one of this sweep, as -o {folder}/RUN"
            )
        return Sweep.read(folder)
    if (folder / SWEEP_FILE).exists():
        raise CheckpointError(
            f"{folder} already holds a sweep: add --resume to continue it, or give another folder "
            "with -o"
        )
    refuse_used(folder)
    return Sweep.plan(request.layers)


def _checked(sweep: Sweep, request: TrainRequest) -> dict[str, Config]:
    """Each run's settings by its name.

    Raises:
        ConfigError: some are wrong; it names all that are, or a run is there twice.
    """
    configs: dict[str, Config] = {}
    wrong: dict[str, list[str]] = {}
    fine: list[object] = []
    for run in sweep.runs:
        try:
            config = run.config()
            if twin := next((name for name, other in configs.items() if other == config), None):
                raise ConfigError(f"the same settings as {twin}")
            if not (request.folder / run.name / CONFIG).is_file():
                check_files(config)
                check_old(request.old, config)
                lm = config.decoder if isinstance(config.decoder, PrefixLmConfig) else None
                is_new = config.training.init_from is None
                start = (config.encoder, config.training.precision, lm if is_new else None)
                if start not in fine:
                    check_start(config, request.device)
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
