"""A run at a model's server: requests under way, and their results in the pictures' order.

A run ends where no picture gets through any more, so that a resumed run asks for those that failed
last again; and where the first pictures are all refused, though not by the server's fault. What is
asked, and what an answer means, is ``remote.py``'s.
"""

from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, NamedTuple, Self

from showtell.errors import ServerError
from showtell.inference.backends.remote_client import Client, Worker
from showtell.inference.caption import Caption
from showtell.inference.stream import Pending, PictureResult, Prepared

MOST_FAILED_IN_A_ROW = 16
"""Pictures that fail by the server's fault, one after the other, before a run is stopped."""

MOST_REFUSED_AT_FIRST = 16
"""Pictures that the model refuses before it has captioned any, before a run is stopped."""

MOST_HELD = 1000
"""Results that wait for the next answer of the server, which tells whether it is gone."""


class NotAsked(Exception):
    """A picture whose turn came after the run was stopped; it has no result."""


class PicturesRefused(ServerError):
    """A model refuses one picture after the other, for what they are or for how it is asked.

    Their results were given before: a run that goes on behind them makes progress.
    """


class Outcome(NamedTuple):
    """What came of asking about a picture.

    Attributes:
        said: its caption, or the reason why it has none.
        is_servers_fault: whether it failed for no reason that lies in the picture or the question.
    """

    said: Caption | str
    is_servers_fault: bool = False


class Requests:
    """Requests for captions within a worker; as many at a time as the client has places.

    Args:
        threads: where they run.
        connect: makes the client, which is closed at the end of the block.
        caption: asks about a JPEG in base64; its last argument is the picture's number, on which
            samples depend.
        is_stopped: whether nothing more is to be asked; called in the worker's thread.
    """

    def __init__(
        self,
        threads: Worker,
        connect: Callable[[], Client],
        caption: Callable[[Client, str, int], Coroutine[Any, Any, Outcome]],
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._threads, self._connect = threads, connect
        self._caption, self._is_stopped = caption, is_stopped
        self._client: Client | None = None

    def __enter__(self) -> Self:
        async def connect() -> Client:  # in the event loop that uses it
            return self._connect()

        self._client = self._threads.start(connect()).result()
        return self

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            await self._threads.cancel()  # requests whose answers nobody waits for any more
            assert self._client is not None
            await self._client.close()

        self._threads.start(end()).result()

    def ask(self, jpeg: str, number: int) -> Future[Outcome]:
        """Ask about a picture; the future raises NotAsked if the run is stopped before its turn."""
        return self._threads.start(self._outcome(jpeg, number))

    async def _outcome(self, jpeg: str, number: int) -> Outcome:
        assert self._client is not None
        async with self._client.places:
            if self._is_stopped():
                raise NotAsked
            return await self._caption(self._client, jpeg, number)


class Waiting(NamedTuple):
    """A picture of a run whose result was not given yet.

    Attributes:
        picture: its view is left out, as the request has it.
        outcome: None if it is not asked about: it cannot be read, or looks like another.
    """

    picture: Pending[str]
    outcome: Future[Outcome] | None


class OrderedResults:
    """The pictures of a stream whose results were not given yet, in their order.

    Args:
        url: of the server, for messages.
        ask: asks about a JPEG; its second argument is the picture's number among those that are
            asked about.
    """

    def __init__(self, url: str, ask: Callable[[str, int], Future[Outcome]]) -> None:
        self._url, self._ask = url, ask
        self._waiting: deque[Waiting] = deque()
        self._num_asked = 0
        self._held: list[PictureResult] = []
        self._num_failed = 0  # in a row, by the server's fault
        self._refused: list[str] = []  # why, before any has succeeded, not by the server's fault
        self._has_succeeded = False
        self._unasked: set[int] = set()  # of the originals

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_first_done(self) -> bool:
        """Whether the next result is there."""
        if not self._waiting:
            return False
        outcome = self._waiting[0].outcome
        return outcome is None or outcome.done()

    def add(self, picture: Pending[str]) -> None:
        """Ask about a picture, unless it cannot be read or looks like another one.

        Args:
            picture: its view is the JPEG in base64.

        Raises:
            PicturesRefused: the first ones were all refused; their results were taken by now.
        """
        outcome = None
        if picture.is_new and isinstance(picture.found, Prepared):
            if not self._has_succeeded and len(self._refused) >= MOST_REFUSED_AT_FIRST:
                raise PicturesRefused(
                    f"{self._url}: the first {len(self._refused)} pictures have all failed, "
                    f"the last: {self._refused[-1]}; check the model and --prompt. They count "
                    "as failed: to go on with the next ones, run the same command again"
                )
            outcome = self._ask(picture.found.view, self._num_asked)
            self._num_asked += 1
            picture.found = replace(picture.found, view="")
        self._waiting.append(Waiting(picture, outcome))

    def take(self) -> Iterator[PictureResult]:
        """The next result, and those that had to wait for it.

        Raises:
            ServerError: so many pictures in a row failed that the server seems to be gone.
        """
        picture, future = self._waiting.popleft()
        if future is None:
            if picture.number not in self._unasked:
                yield from self._take_unasked(picture.result())
            return
        try:
            outcome = future.result()
        except NotAsked:
            if picture.number is not None:
                self._unasked.add(picture.number)
            return
        result = picture.result(outcome.said, may_pass=outcome.is_servers_fault)
        if outcome.is_servers_fault:
            self._num_failed += 1
            self._held.append(result)
            if self._num_failed >= MOST_FAILED_IN_A_ROW:
                raise ServerError(
                    f"{self._url}: {self._num_failed} pictures in a row have "
                    f"failed, the last: {result.error}; to resume, run the same command again"
                )
            return
        yield from self.rest()
        yield result
        if not self._has_succeeded:
            self._has_succeeded = result.caption is not None
            self._refused.append(str(result.error))

    def rest(self) -> Iterator[PictureResult]:
        """Those that were held back, which failed while others did not."""
        yield from self._held
        self._held, self._num_failed = [], 0

    def _take_unasked(self, result: PictureResult) -> Iterator[PictureResult]:
        """One that says nothing of the server: it waits for what failed before it."""
        if not self._held:
            yield result
            return
        self._held.append(result)
        if len(self._held) >= MOST_HELD:
            yield from self._held
            self._held = []
