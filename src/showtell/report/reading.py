"""What a run's folder holds: its log as arrays and curves, its settings, where its data was.

A run that is still being trained can be read too. The losses of a hundred thousand steps are noisy,
so they are averaged into a curve with as many points as a page can show. Nothing here needs torch.
"""

import math
import tomllib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from showtell.core.files import parse_json
from showtell.errors import CheckpointError
from showtell.inference.files import AVERAGE_START, BEST, CONFIG, LAST, LOG_FILE, METRICS, RUN_FILE

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Epoch:
    """One validation.

    Attributes:
        epoch, step: after which it was made, both from 1.
        values: what was measured.
        intervals: 95 % intervals (low, high) of the metrics; of an older version's runs none.
    """

    epoch: int
    step: int
    values: dict[str, float]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass
class Log:
    """``metrics.jsonl``.

    Attributes:
        steps: (S,) each for every name of a step's figures; NaN where a step has none.
        epochs: the validations, in order.
        num_unreadable: lines that are not JSON, or whose values are not numbers; a last line
            that is still being written does not count.
    """

    steps: dict[str, Values] = field(default_factory=dict)
    epochs: list[Epoch] = field(default_factory=list)
    num_unreadable: int = 0

    def series(self, name: str) -> tuple[Values, Values]:
        """The steps that have a finite value of this name, and the values."""
        if name not in self.steps:
            return np.empty(0), np.empty(0)
        known = np.isfinite(self.steps[name])
        return self.steps["step"][known], self.steps[name][known]

    def validation(self, name: str) -> tuple[list[Epoch], Values]:
        """The epochs whose validation has this figure, and its values."""
        epochs = [e for e in self.epochs if math.isfinite(e.values.get(name, math.nan))]
        return epochs, np.array([epoch.values[name] for epoch in epochs])

    def band(self, name: str) -> tuple[Values, Values] | None:
        """The ends of the intervals of ``validation(name)``; NaN where an epoch has none.

        None if no epoch has one.
        """
        epochs, _ = self.validation(name)
        none = (math.nan, math.nan)
        ends = np.array([epoch.intervals.get(name, none) for epoch in epochs]).reshape(-1, 2)
        return None if np.isnan(ends).all() else (ends[:, 0], ends[:, 1])

    @property
    def last_step(self) -> int:
        """The last step that was logged; 0 if there is none."""
        return int(self.steps["step"][-1]) if self.steps else 0


@dataclass(frozen=True)
class RunFolder:
    """What one run wrote into its folder.

    Attributes:
        name: the run's name on the page.
        settings: from ``config.toml``, by section; empty if it is missing.
        provenance: from ``run.json``; empty if it is missing.
        checkpoint: ``metrics.json`` of the best checkpoint, or of the last if there is no best.
        checkpoint_name: ``best`` or ``last``; empty where there is none.
        notes: a sentence for each thing that is missing or could not be read.
    """

    name: str
    folder: Path
    log: Log
    settings: dict[str, Any]
    provenance: dict[str, Any]
    checkpoint: dict[str, Any]
    checkpoint_name: str
    notes: tuple[str, ...]

    @property
    def best_epoch(self) -> Epoch | None:
        """The epoch of the checkpoint ``best/``; without one, that with the highest CIDEr-D."""
        kept = self.checkpoint.get("epoch") if self.checkpoint_name == BEST else None
        for epoch in self.log.epochs:
            if epoch.epoch == kept:
                return epoch
        return max(
            self.log.epochs,
            key=lambda e: (e.values.get("CIDEr-D", 0.0), -e.values.get("val_loss", math.inf)),
            default=None,
        )

    @property
    def averaged(self) -> str | None:
        """A sentence on what ``best/`` is where ``train --from`` has averaged it with its start."""
        note, found = self.checkpoint.get(AVERAGE_START), self.checkpoint.get("metrics")
        if not isinstance(note, dict) or not isinstance(found, dict):
            return None
        share, start = note.get("share"), note.get("model")
        value = found.get("CIDEr-D")
        if not isinstance(share, int | float) or not isinstance(value, int | float) or share == 1:
            return None
        if share == 0:
            what = f"holds the weights of {start}, as what training gained may be chance"
        else:
            what = f"holds an average: {share:.0%} of that epoch, the rest of {start}"
        return f"The best checkpoint of {self.name} {what}; its CIDEr-D is {value:.4f}."

    @property
    def kept(self) -> Epoch | None:
        """What was measured of ``best/``: of its epoch, or of what was averaged from that."""
        epoch = self.best_epoch
        if epoch is None or self.averaged is None:
            return epoch
        found = self.checkpoint["metrics"].items()
        values = {name: float(value) for name, value in found if isinstance(value, int | float)}
        return Epoch(epoch.epoch, epoch.step, values)

    @property
    def num_epochs(self) -> int | None:
        """How many epochs were asked for."""
        training = self.settings.get("training")
        asked = training.get("num_epochs") if isinstance(training, dict) else None
        return asked if isinstance(asked, int) else None


def read_runs(folders: list[Path]) -> list[RunFolder]:
    """Read several runs. Each is named after its folder, with parent folders if names are equal.

    Raises:
        CheckpointError: a folder does not hold a run.
    """
    return [
        read_run(folder, name)
        for folder, name in zip(folders, _distinct_names(folders), strict=True)
    ]


def read_run(folder: Path, name: str | None = None) -> RunFolder:
    """Read one run's folder, however far the run came.

    Raises:
        CheckpointError: there is no such folder, or it does not hold a run.
    """
    _check_is_run(folder)
    notes: list[str] = []
    log = _read_log(folder / LOG_FILE, notes)
    settings = _read_mapping(folder / CONFIG, notes)
    provenance = _read_mapping(folder / RUN_FILE, notes)
    found = next((n for n in (BEST, LAST) if (folder / n / METRICS).is_file()), "")
    checkpoint = _read_mapping(folder / found / METRICS, notes) if found else {}
    if not found and not log.steps and not log.epochs and not log.num_unreadable:
        raise CheckpointError(
            f"{folder} has nothing to report: no step in {LOG_FILE}, and neither {BEST}/ nor "
            f"{LAST}/; the run has made no step yet, or its files are elsewhere"
        )
    if not found:
        notes.append("there is no checkpoint yet: neither best/ nor last/ is there")
    return RunFolder(
        name or folder.resolve().name,
        folder,
        log,
        settings,
        provenance,
        checkpoint,
        found,
        tuple(notes),
    )


def _check_is_run(folder: Path) -> None:
    advice = "give the folder that `showtell train -o` made"
    if not folder.exists():
        raise CheckpointError(f"no run {str(folder)!r}: {advice}")
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder} is a file, not a run: {advice}, or files of captions with --references"
        )
    if (folder / LOG_FILE).is_file() or (folder / RUN_FILE).is_file():
        return
    if (folder / METRICS).is_file() and (folder.resolve().parent / LOG_FILE).is_file():
        raise CheckpointError(
            f"{folder} is one checkpoint of a run; give the run: {folder.resolve().parent}"
        )
    if (folder / "student" / RUN_FILE).is_file():
        raise CheckpointError(f"{folder} is a distillation; give its run: {folder / 'student'}")
    raise CheckpointError(f"{folder} holds no run (no {LOG_FILE}, no {RUN_FILE} in it): {advice}")


def _distinct_names(folders: list[Path]) -> list[str]:
    """The last part of each path, or as many as tell them apart."""
    paths = [folder.resolve() for folder in folders]
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise CheckpointError(f"the same run is given twice: {', '.join(map(str, folders))}")


def _read_mapping(path: Path, notes: list[str]) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        value = tomllib.loads(text) if path.suffix == ".toml" else parse_json(text)
        if not isinstance(value, dict):
            raise ValueError("it holds no names with values")
        return value
    except FileNotFoundError:
        notes.append(f"{path.name} is missing")
    except (OSError, ValueError) as error:
        notes.append(f"{path.name} cannot be read: {' '.join(str(error).split())}")
    return {}


def _read_log(path: Path, notes: list[str]) -> Log:
    columns, log = _Columns(), Log()
    try:
        for entry in _entries(path):
            if not _is_entry(entry):
                log.num_unreadable += 1
            elif isinstance(entry.get("validation"), dict):
                epoch = Epoch(
                    int(entry["epoch"]),
                    int(entry["step"]),
                    _numbers(entry["validation"]),
                    _intervals(entry.get("intervals")),
                )
                log.epochs = [e for e in log.epochs if e.epoch < epoch.epoch]
                log.epochs.append(epoch)
            else:
                # A step seen before was done again: what followed the first time does not count.
                if columns.cut_from(entry["step"]):
                    log.epochs = [e for e in log.epochs if e.step < entry["step"]]
                columns.append(_numbers(entry))
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "is missing" if missing else f"cannot be read: {error.strerror}"
        notes.append(f"{path.name} {reason}")
    if log.num_unreadable:
        notes.append(f"{log.num_unreadable:,} lines of {path.name} could not be read")
    log.steps = columns.arrays()
    return log


def _entries(path: Path) -> Iterator[Any]:
    """Each line's value, None for one that is not JSON; a last line still being written is not
    one."""
    with open(path, "rb") as file:
        for line in file:
            try:
                yield parse_json(line)
            except ValueError:
                if line.endswith(b"\n"):
                    yield None


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and all(
        isinstance(entry.get(name), int | float) and math.isfinite(entry[name])
        for name in ("epoch", "step")
    )


def _numbers(entry: dict[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in entry.items() if isinstance(value, int | float)}


def _intervals(found: Any) -> dict[str, tuple[float, float]]:
    """Those of a validation that are two finite numbers."""
    if not isinstance(found, dict):
        return {}
    return {
        name: (float(ends[0]), float(ends[1]))
        for name, ends in found.items()
        if isinstance(ends, list)
        and len(ends) == 2
        and all(isinstance(end, int | float) and math.isfinite(end) for end in ends)
    }


class _Columns:
    """Rows of numbers, stored by column with eight bytes each: millions of steps fit in memory."""

    def __init__(self) -> None:
        self._columns: dict[str, array[float]] = {"step": array("d")}

    def append(self, row: dict[str, float]) -> None:
        num_rows = len(self._columns["step"])
        for name in row.keys() - self._columns.keys():
            self._columns[name] = array("d", [math.nan]) * num_rows
        for name, column in self._columns.items():
            column.append(row.get(name, math.nan))

    def cut_from(self, step: float) -> bool:
        """Drop the rows from ``step`` on; return whether there were any."""
        steps = self._columns["step"]
        keep = len(steps)
        while keep and steps[keep - 1] >= step:
            keep -= 1
        if keep == len(steps):
            return False
        for column in self._columns.values():
            del column[keep:]
        return True

    def arrays(self) -> dict[str, Values]:
        if not self._columns["step"]:
            return {}
        return {name: np.array(column) for name, column in self._columns.items()}


MAX_POINTS = 250
STEPS_A_POINT = 8  # fewer leave a curve as noisy as it was


class Curve(NamedTuple):
    """A curve of means (P,), with the band (P,) that holds 80 % of the values."""

    x: Values
    y: Values
    low: Values
    high: Values


def smooth(x: Values, y: Values) -> Curve:
    """Means over up to ``MAX_POINTS`` pieces of the steps, with their 10th and 90th percentile.

    Args:
        x: (S,) steps, rising.
        y: (S,) figures.
    """
    pieces = _pieces(len(x))
    bands = [np.quantile(y[piece], (0.1, 0.9)) for piece in pieces]
    low, high = np.array(bands).reshape(-1, 2).T
    return Curve(_means(x, pieces), _means(y, pieces), low, high)


def speed(log: Log) -> tuple[Values, Values]:
    """Tokens a second over the steps, smoothed, without validation and saving between epochs.

    Returns:
        steps (P,) and tokens a second (P,); empty if the log has no times.
    """
    steps, tokens, seconds = _timed_steps(log)
    pieces = _pieces(len(steps))
    rates = [tokens[piece].sum() / seconds[piece].sum() for piece in pieces]
    return _means(steps, pieces), np.array(rates)


def mean_speed(log: Log) -> float | None:
    """Tokens a second over the whole run, as in ``speed``."""
    _, tokens, seconds = _timed_steps(log)
    return float(tokens.sum() / seconds.sum()) if len(tokens) else None


def _timed_steps(log: Log) -> tuple[Values, Values, Values]:
    """Steps, tokens and seconds of those steps whose time is known: all but an epoch's first."""
    if not {"epoch", "tokens", "seconds"} <= log.steps.keys():
        return np.empty(0), np.empty(0), np.empty(0)
    taken = np.diff(log.steps["seconds"])
    with np.errstate(invalid="ignore"):
        known = (np.diff(log.steps["epoch"]) == 0) & (taken > 0)
    known &= np.isfinite(log.steps["tokens"][1:])
    return log.steps["step"][1:][known], log.steps["tokens"][1:][known], taken[known]


def _pieces(length: int) -> list[slice]:
    """Neighbouring slices that cover ``length`` entries, none empty."""
    wanted = max(min(length, 20), length // STEPS_A_POINT)
    edges = np.linspace(0, length, min(wanted, MAX_POINTS) + 1).astype(int)
    return [slice(a, b) for a, b in pairwise(edges.tolist())]


def _means(values: Values, pieces: list[slice]) -> Values:
    return np.array([values[piece].mean() for piece in pieces])
