"""Ctrl-C and SIGTERM end a run between two steps, in all of its processes after the same step."""

import signal
import threading
from types import FrameType
from typing import Any, Self

from showtell.core.distributed import ALONE, Processes


class StopRequest:
    """Within ``with``, a first SIGINT or SIGTERM is a request; a second Ctrl-C interrupts.

    Of many processes none can be interrupted alone, and whoever started them may signal twice.
    """

    def __init__(self, processes: Processes = ALONE) -> None:
        self.processes = processes
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def is_due(self) -> bool:
        """Whether any of all processes was asked to stop."""
        self.requested = self.processes.any(self.requested)
        return self.requested

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT and not self.processes.are_many:
            raise KeyboardInterrupt
        self.requested = True


class StopNow(Exception):
    """Ends a validation in which a stop was requested."""
