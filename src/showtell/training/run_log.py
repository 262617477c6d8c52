"""The logs of a run.

``training_log.txt`` has the course notebook's line for each step, ``metrics.jsonl`` the same as
data with the validation figures. Both are append-only. A checkpoint remembers how long they were,
and resuming cuts them back to that, so no step is logged twice. ``training.tensorboard`` asks for
TensorBoard's event files besides (in ``tensorboard/``); TensorBoard is told to hide what is done
again.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

from showtell.config import TrainingConfig
from showtell.errors import ConfigError, MissingExtraError
from showtell.inference.files import LOG_FILE

EVENTS_FOLDER = "tensorboard"
NO_SCALARS = {"epoch", "step", "tokens", "seconds"}


class RunLog:
    """Writes ``training_log.txt`` (or what ``training.log_file`` names) and ``metrics.jsonl``.

    Args:
        folder: the run's.
        log_file: name of the text log in it.
        offsets: bytes of each to keep, as ``offsets()`` gave them; None starts afresh.
        event_files: whether TensorBoard's event files are written, too.
        next_step: the first step that will be logged; for TensorBoard.

    Raises:
        ConfigError: the text log would not be in the folder, where a resumed run would cut it.
    """

    def __init__(
        self,
        folder: Path,
        log_file: str,
        offsets: dict[str, int] | None = None,
        *,
        event_files: bool = False,
        next_step: int = 1,
    ) -> None:
        if not (folder / log_file).resolve().is_relative_to(folder.resolve()):
            raise ConfigError(
                f"training.log_file = {log_file!r} is not in the run's folder; give a file's name"
            )
        self._events = EventFiles(folder, next_step=next_step) if event_files else None
        self._text = _open_at(folder / log_file, (offsets or {}).get("text", 0))
        self._data = _open_at(folder / LOG_FILE, (offsets or {}).get("data", 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._text.close()
        self._data.close()
        if self._events:
            self._events.close()

    def step(self, line: str, values: dict[str, Any]) -> None:
        """One training step."""
        self._write(self._text, line)
        self._write(self._data, json.dumps(values))
        if self._events:
            self._events.write("train", values["step"], values)

    def epoch(self, values: dict[str, Any]) -> None:
        """The validation after an epoch; the text log has none, as the notebook had none."""
        self._write(self._data, json.dumps(values))
        if self._events:
            figures = {k.removeprefix("val_"): v for k, v in values["validation"].items()}
            self._events.write("val", values["step"], figures)

    def offsets(self) -> dict[str, int]:
        """Bytes written so far, after making sure that they are on the disk."""
        for file in (self._text, self._data):
            os.fsync(file.fileno())
        return {"text": self._text.tell(), "data": self._data.tell()}

    @staticmethod
    def _write(file: IO[bytes], line: str) -> None:
        file.write(line.encode() + b"\n")
        file.flush()


class NoLog:
    """In place of a ``RunLog`` where another process writes it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def step(self, line: str, values: dict[str, Any]) -> None:
        """Nothing."""

    def epoch(self, values: dict[str, Any]) -> None:
        """Nothing."""

    def offsets(self) -> dict[str, int]:
        """Of no file."""
        return {}


class EventFiles:
    """Writes scalars.

    Args:
        folder: the run's.
        next_step: what an earlier part of the run wrote from this step on is hidden, because
            it is done again.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    def __init__(self, folder: Path, *, next_step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingExtraError("train", "training.tensorboard = true") from None
        self._writer = SummaryWriter(str(folder / EVENTS_FOLDER), purge_step=next_step)

    def write(self, group: str, step: int, values: Mapping[str, Any]) -> None:
        """Each number of ``values`` as the scalar ``group/name``."""
        for name, value in values.items():
            if name not in NO_SCALARS and isinstance(value, int | float):
                self._writer.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Write out what is left."""
        self._writer.close()


def open_log(
    folder: Path,
    config: TrainingConfig,
    offsets: dict[str, int] | None,
    *,
    next_step: int,
    writes: bool,
) -> RunLog | NoLog:
    """The log that the settings ask for.

    Args:
        offsets, next_step: as ``RunLog`` has them.
        writes: whether it is this process that writes it.
    """
    if not writes:
        return NoLog()
    return RunLog(
        folder, config.log_file, offsets, event_files=config.tensorboard, next_step=next_step
    )


def step_line(
    epoch: int,
    num_epochs: int,
    step: int,
    num_steps: int,
    figures: Mapping[str, float],
    shown: Sequence[str],
) -> str:
    """The notebook's line; epochs and steps count from 1.

    Args:
        figures: of the step; a loss is in nats a token.
        shown: those that the line has, by name.
    """
    values = "".join(f", {name.capitalize()}: {figures[name]:.4f}" for name in shown)
    return f"Epoch [{epoch}/{num_epochs}], Step [{step}/{num_steps}]{values}"


def _open_at(path: Path, length: int) -> IO[bytes]:
    file = open(path, "ab")  # noqa: SIM115 - closed by RunLog
    file.truncate(min(length, file.tell()))
    file.seek(0, os.SEEK_END)
    return file
