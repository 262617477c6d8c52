"""Connections: uvicorn's over h11, bounded in number and in the time they idle.

Uvicorn closes a connection that says nothing after an answer; one that never sends a whole request,
or goes on with a body that was refused, it would keep for ever. Here every connection without a
request at work has the same few seconds, whatever bytes trickle in.
"""

import asyncio
import json

from uvicorn.protocols.http.h11_impl import H11Protocol

from showtell.server.problems import Problem, busy

MAX_CONNECTIONS = 500


class Connection(H11Protocol):
    """An HTTP/1.1 connection; ``timeout_keep_alive`` of uvicorn's settings is its patience."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self._refuse(busy("too many connections; try again in a second"))
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():  # what was read before is of no interest any more
            return
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        self._refuse(Problem(400, msg))

    def _watch(self) -> None:
        is_at_work = self.cycle is not None and not self.cycle.response_complete
        if is_at_work or self.transport.is_closing():
            self._stop_watching()
        elif self._patience is None:
            self._patience = self.loop.call_later(self.timeout_keep_alive, self.transport.abort)

    def _stop_watching(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _refuse(self, problem: Problem) -> None:
        """Answer what never became a request, and hang up."""
        body = json.dumps(problem.details).encode()
        headers = {
            "Content-Type": "application/problem+json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            **problem.headers,
        }
        lines = [f"HTTP/1.1 {problem.status:d} {problem.status.phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()
