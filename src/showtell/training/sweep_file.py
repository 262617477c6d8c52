"""A sweep on disk: ``sweep.json``, its definition from the start and its results as they come."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from showtell.config import Config
from showtell.config.grid import Grid, point_names
from showtell.config.toml import apply_override, read_toml, set_value
from showtell.errors import CheckpointError
from showtell.files import write_json

SWEEP_FILE = "sweep.json"


class SweepRun(BaseModel):
    """One run of a sweep.

    Attributes:
        name: of its folder in the sweep's.
        settings: those that differ from run to run.
        reason: why it failed.
        best_epoch, metrics: of its best checkpoint.
        seconds: of training and validation.
    """

    model_config = ConfigDict(frozen=True)

    name: str = Field(pattern=r"^[\w.+-]+=[\w.+=-]+$")
    settings: dict[str, Any]
    status: Literal["waiting", "running", "stopped", "failed", "finished"] = "waiting"
    reason: str | None = None
    best_epoch: int | None = None
    metrics: dict[str, float] = {}
    seconds: float | None = None


class Sweep(BaseModel):
    """All runs of a sweep, in order.

    Attributes:
        data: fingerprint of what they train on.
        settings: those that all runs have in common, by section; defaults are left out.
    """

    model_config = ConfigDict(frozen=True)

    data: str = ""
    settings: dict[str, Any]
    runs: tuple[SweepRun, ...]

    @classmethod
    def plan(cls, config_file: Path | None, overrides: Sequence[str]) -> "Sweep":
        """The runs that a file and the command line's ``-s`` ask for.

        Raises:
            ConfigError: they cannot be read; whether the values are valid is not checked.
        """
        grid = Grid.read(overrides)
        settings = read_toml(config_file) if config_file else {}
        for override in grid.common:
            apply_override(settings, override)
        points = grid.points()
        names = point_names(points)
        runs = [SweepRun(name=n, settings=p) for n, p in zip(names, points, strict=True)]
        return cls(settings=settings, runs=tuple(runs))

    @classmethod
    def read(cls, folder: Path) -> "Sweep":
        """The sweep in ``folder``.

        Raises:
            CheckpointError: there is none, or its file is damaged.
        """
        path = folder / SWEEP_FILE
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except ValidationError as error:
            place = ".".join(map(str, error.errors()[0]["loc"]))
            raise CheckpointError(f"{path} is no sweep: {place} is wrong") from None
        except (OSError, ValueError) as error:
            raise CheckpointError(f"cannot read {path}: {error}") from None

    def write(self, folder: Path) -> None:
        """Keep it in ``folder``, atomically."""
        write_json(folder / SWEEP_FILE, self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """As in the file: with ``best``, the name of the best run."""
        best = self.best
        return {"best": best.name if best else None, **self.model_dump(mode="json")}

    def config_of(self, run: SweepRun) -> Config:
        """All settings of a run.

        Raises:
            ConfigError: naming every setting that is wrong.
        """
        values = copy.deepcopy(self.settings)
        for key, value in run.settings.items():
            set_value(values, key, value)
        return Config.of(values)

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
