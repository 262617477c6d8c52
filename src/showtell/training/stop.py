"""Ctrl-C and SIGTERM end a run between two steps, never within one."""

import signal
import threading
from types import FrameType
from typing import Any, Self


class StopRequest:
    """Within ``with``, a first SIGINT or SIGTERM sets ``requested``; a second Ctrl-C interrupts."""

    def __init__(self) -> None:
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

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True


class StopNow(Exception):
    """Ends a validation in which a stop was requested."""
