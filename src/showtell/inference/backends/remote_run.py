"""The results of a run at a model's server: in the pictures' order, however answers come.

A run ends where no picture gets through any more, so that a resumed run asks for those that failed
last again; and where the first pictures are all refused, though not by the server's fault. What is
asked, and how, is ``remote.py``'s.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

from showtell.data.duplicates import Look
from showtell.errors import ImageError, ServerError
from showtell.inference.caption import Caption
from showtell.inference.stream import Originals, PictureResult, failure_of


class NotAsked(Exception):
    """A picture whose turn came after the run was stopped; it has no result."""


MOST_FAILED_IN_A_ROW = 16
"""Pictures that fail by the server's fault, one after the other, before a run is stopped."""

MOST_REFUSED_AT_FIRST = 16
"""Pictures that the model refuses before it has captioned any, before a run is stopped."""


class PicturesRefused(ServerError):
    """A model refuses one picture after the other, for what they are or for how it is asked.

    Their results were given before: a run that goes on behind them makes progress.
    """


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture as it is sent: JPEG in base64."""

    jpeg: str
    look: Look | None
    notes: tuple[str, ...]


Told = tuple[Caption | None, str | None, tuple[str, ...], bool]
"""A caption, or the reason why there is none; notes; whether that is the server's fault."""

Begin = Callable[[str, int], Future[Told]]


class Run:
    """The pictures of a stream whose results were not given yet, in their order.

    Args:
        url: of the server, for messages.
        originals: as of ``Captioner.caption_stream``.
    """

    def __init__(self, url: str, originals: Originals | None) -> None:
        self._url, self._originals = url, originals
        self._waiting: deque[
            tuple[Path | str, Prepared | ImageError, Future[Told] | None, int | None]
        ] = deque()
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
        future = self._waiting[0][2]
        return future is None or future.done()

    def add(self, path: Path | str, found: Prepared | ImageError, begin: Begin) -> None:
        """Ask about a picture, unless it cannot be read or looks like another one.

        Args:
            path: the picture's; its bytes are not held.
            found: the picture as it is sent, or why it cannot be.
            begin: asks about a JPEG; its second argument is the picture's number among those that
                are asked about.

        Raises:
            PicturesRefused: the first ones were all refused; their results were taken by now.
        """
        number, future = None, None
        if isinstance(found, Prepared):
            is_new = True
            if self._originals is not None and found.look is not None:
                number = self._originals.find(found.look)
                is_new = number is None
                number = self._originals.expect(found.look) if number is None else number
            if is_new:
                if not self._has_succeeded and len(self._refused) >= MOST_REFUSED_AT_FIRST:
                    raise PicturesRefused(
                        f"{self._url}: the first {len(self._refused)} pictures have all failed, "
                        f"the last: {self._refused[-1]}; check the model and --prompt. They count "
                        "as failed: to go on behind them, run the same command again"
                    )
                future = begin(found.jpeg, self._num_asked)
                self._num_asked += 1
                found = replace(found, jpeg="")  # the request has it
        self._waiting.append((path, found, future, number))

    def take(self) -> Iterator[PictureResult]:
        """The next result, and those that had to wait for it.

        Raises:
            ServerError: so many pictures in a row failed that the server seems to be gone.
        """
        path, found, future, number = self._waiting.popleft()
        try:
            result, is_servers = self._result(path, found, future, number)
        except NotAsked:
            if future is not None and number is not None:
                self._unasked.add(number)
            return
        if future is not None and is_servers:
            self._num_failed += 1
            self._held.append(result)
            if self._num_failed >= MOST_FAILED_IN_A_ROW:
                raise ServerError(
                    f"{self._url}: {self._num_failed} pictures in a row have "
                    f"failed, the last: {result.error}; to resume, run the same command again"
                )
            return
        if self._held and future is None:  # it says nothing of the server
            self._held.append(result)
            return
        yield from self.rest()
        yield result
        if future is not None and not self._has_succeeded:
            self._has_succeeded = result.caption is not None
            self._refused.append(str(result.error))

    def rest(self) -> Iterator[PictureResult]:
        """Those that were held back, which failed while others did not."""
        yield from self._held
        self._held, self._num_failed = [], 0

    def _result(
        self,
        path: Path | str,
        found: Prepared | ImageError,
        future: "Future[Told] | None",
        number: int | None,
    ) -> tuple[PictureResult, bool]:
        if isinstance(found, ImageError):
            return failure_of(path, found), False
        if future is None:
            assert self._originals is not None and number is not None
            if number in self._unasked:
                raise NotAsked
            original = self._originals[number]
            reason = None if original.caption else f"{path}: as {original.path}, which failed"
            result = replace(
                original,
                path=path,
                error=reason,
                same_as=original.path,
                notes=found.notes,
                look=found.look,
            )
            return result, False
        caption, reason, notes, is_servers = future.result()
        result = PictureResult(
            path,
            caption,
            None if reason is None else f"{path}: {reason}",
            found.look,
            notes=(*found.notes, *notes),
            may_pass=is_servers,
        )
        if number is not None and self._originals is not None:
            self._originals[number] = result
        return result, is_servers
