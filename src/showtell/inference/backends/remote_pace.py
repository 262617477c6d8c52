"""How fast a model's server is asked, and how long it is waited for.

That a server is full (429, or another status with ``Retry-After``) says nothing of a picture: its
request waits and is sent again, however often. Nothing is sent until the time that the server asks
for has passed. Then one request goes alone, and each answer lets one more go beside the others, as
TCP does after a loss (Jacobson 1988, "Congestion Avoidance and Control"). What is sent is
``remote_client.py``'s.
"""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from showtell.inference.specs import RETRIES, TIMEOUT, BackendSettings

LONGEST_WAIT = 600.0
"""Seconds; a server that is full for longer ends the run, which can be resumed."""

MOST_BACKOFF = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait and how often to try.

    Attributes:
        timeout: seconds that an answer may take, from the request's first byte to its own last.
        retries: attempts after the first.
        backoff: seconds before the second attempt, about; each later one waits twice as long.
        longest_wait: seconds for which a server may be full, as it says or as it shows.
    """

    timeout: float
    retries: int
    backoff: float = 1.0
    longest_wait: float = LONGEST_WAIT

    @classmethod
    def of(cls, settings: BackendSettings) -> "Patience":
        """As a user asks for it.

        Raises:
            ConfigError: a setting is impossible.
        """
        return cls(TIMEOUT.chosen(settings.timeout), RETRIES.chosen(settings.retries))

    def pause(self, num_failed: int) -> float:
        """Seconds to wait after so many failures in a row, at random up to a limit that doubles."""
        return random.uniform(0.0, min(self.backoff * 2.0 ** (num_failed - 1), MOST_BACKOFF))


class Passing(Exception):
    """An attempt failed, and another may not.

    Attributes:
        status: the HTTP status; None where none came.
    """

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class Full(Passing):
    """The server takes no request at present.

    Attributes:
        wait: seconds that it asks to wait; None where it does not say.
    """

    def __init__(self, reason: str, status: int, wait: float | None) -> None:
        super().__init__(reason, status)
        self.wait = wait


class Pace:
    """Which requests may be sent now; used within one event loop.

    Args:
        most: requests at a time while the server keeps up.
    """

    def __init__(self, patience: Patience, most: int) -> None:
        self._patience, self._most = patience, most
        self._width = most  # requests at a time at present
        self._num_sent = 0  # whose answers are still to come
        self._num_full = 0  # times in a row that the server was full
        self._quiet_until = -math.inf  # of the loop's clock, like the next
        self._answered_at = -math.inf
        self._change = asyncio.Event()

    @staticmethod
    def now() -> float:
        """Seconds of the event loop's clock."""
        return asyncio.get_running_loop().time()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until a request may be sent; it has its answer at the end of the block."""
        while True:
            if (left := self._quiet_until - self.now()) > 0:
                await asyncio.sleep(left)
            elif self._num_sent >= self._width:
                await self._change.wait()
            else:
                break
        self._num_sent += 1
        try:
            yield
        finally:
            self._num_sent -= 1
            self._tell()

    def answered(self) -> None:
        """The server has room: one request more may be sent beside the others."""
        self._answered_at, self._num_full = self.now(), 0
        self._width = min(self._width + 1, self._most)

    def slow_down(self, asked: float | None) -> None:
        """The server is full: nothing is sent for a while, then one request at a time.

        Args:
            asked: seconds that it asks to wait; None where it does not say.
        """
        now, wait = self.now(), asked or 0.0
        if now >= self._quiet_until:  # else this is the answer to a request of the same moment
            self._num_full += 1
            wait = max(wait, self._patience.pause(self._num_full))
        self._quiet_until = max(self._quiet_until, now + wait)
        self._width = 1

    def seconds_full(self, since: float) -> float:
        """For how long the server has answered nobody, from ``since`` on."""
        return self.now() - max(since, self._answered_at)

    def _tell(self) -> None:
        """Wake whoever waits for a place."""
        self._change.set()
        self._change = asyncio.Event()


def retry_after(headers: Any) -> float | None:
    """Seconds that a server asks to wait (RFC 9110, section 10.2.3)."""
    try:
        seconds = float(headers["retry-after-ms"]) / 1000  # OpenAI's
    except (KeyError, ValueError):
        text = headers.get("retry-after")
        if text is None:
            return None
        try:
            seconds = float(text)
        except ValueError:
            try:
                seconds = parsedate_to_datetime(text).timestamp() - time.time()
            except (ValueError, TypeError, OverflowError):
                return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
