"""Taking request bodies in: each within its time and size, all of them within some memory."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import Request

from showtell.server.limits import Limits
from showtell.server.problems import Problem, busy
from showtell.server.upload import Form, read_form

T = TypeVar("T")


class ClientGoneError(Exception):
    """Nobody is there to be answered."""


class Intake:
    """Reads forms, and knows how many bytes of them are in memory.

    Args:
        limits: What is too much.
        files: The field whose parts are pictures.
        fields: The other fields that there are.
    """

    def __init__(self, limits: Limits, *, files: str, fields: frozenset[str]) -> None:
        self._limits, self._files, self._fields = limits, files, fields
        self.held = 0

    @asynccontextmanager
    async def form(self, request: Request) -> AsyncIterator[Form]:
        """A request's form; within, its bytes count as held.

        Raises:
            Problem: 408 too slow, 503 too many uploads at a time, and those of ``read_form``.
            ClientDisconnect: the client is gone.
        """
        held = 0

        def count(size: int) -> None:
            nonlocal held
            if self.held + size > self._limits.held_bytes:
                raise busy("too many uploads at this moment; try again in a second")
            self.held += size
            held += size

        try:
            self._check_length(request.headers.get("content-length", ""))
            async with _deadline(self._limits.upload_seconds):
                form = await read_form(
                    request.headers.get("content-type"),
                    request.stream(),
                    self._limits,
                    files=self._files,
                    fields=self._fields,
                    count=count,
                )
            yield form
        finally:
            self.held -= held

    def _check_length(self, length: str) -> None:
        """Refuse at once what says itself that it is too large; what does not say it is counted."""
        if length.isdecimal() and int(length) > self._limits.request_bytes:
            raise Problem(413, f"the request has more than {self._limits.request_bytes:,} bytes")


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Problem(408, f"the request did not arrive within {seconds:g} seconds") from None


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is cancelled when the client goes away.

    To be used when the body has been read: then the next message can only be the farewell.

    Raises:
        ClientGoneError: it did.
    """
    task = asyncio.ensure_future(work)
    farewell = asyncio.ensure_future(_farewell(request))
    try:
        await asyncio.wait({task, farewell}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        return task.result()
    finally:
        farewell.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


async def _farewell(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
