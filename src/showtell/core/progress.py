"""What long work reports while it runs.

The command line draws it (``cli/console.py``); tests and programs may ignore it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

Progress = Callable[[int, int], None]
"""Called with how much is done and how much there is; 0 where nobody knows how much."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step.

    Attributes:
        epoch, step: from 1; ``step`` counts within the epoch.
        num_epochs, num_steps: of the run, and of the epoch.
        line: the notebook's log line.
        items_done, items_total: of the epoch.
        unit: what the items are, "captions" or "pictures".
        shown: whether ``print_every`` asks for the line.
    """

    epoch: int
    num_epochs: int
    step: int
    num_steps: int
    line: str
    items_done: int
    items_total: int
    unit: str
    shown: bool


class Reporter(Protocol):
    """Whoever watches."""

    def note(self, text: str) -> None:
        """A sentence for the user."""

    def progress(self, task: str, done: int, total: int, unit: str, *, num_failed: int = 0) -> None:
        """Something long is on its way; ``total`` is 0 where nobody knows it."""

    def step(self, report: StepReport) -> None:
        """A training step is done."""

    def epoch(self, epoch: int, values: dict[str, Any]) -> None:
        """An epoch was validated."""


class SilentReporter:
    """Says nothing."""

    def note(self, text: str) -> None:
        pass

    def progress(self, task: str, done: int, total: int, unit: str, *, num_failed: int = 0) -> None:
        pass

    def step(self, report: StepReport) -> None:
        pass

    def epoch(self, epoch: int, values: dict[str, Any]) -> None:
        pass
