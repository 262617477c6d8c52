"""Between a client's socket and the routes: its connection, and who may ask.

A ``Connection`` is uvicorn's over h11, with bounds. Uvicorn closes a connection that says nothing
after an answer, but it would keep one for ever that never sends a whole request, sends on after a
refusal, or does not take in its answer. Here each of these has the same few seconds, whatever
bytes trickle in. The ``Crowd`` bounds the connections of all clients and of each one: where there
is no room for a new connection, one makes way that keeps the server waiting.

The ``Guard`` stands around the app: it refuses what ``Access`` does not allow, and every answer
gets its security headers there.
"""

import asyncio
import hmac
import json
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from showtell.server.limits import client_of, share
from showtell.server.problems import Problem, busy, too_many

Result = TypeVar("Result")

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

# Without a token all can be asked for; with one, these still can: the page has to load before it
# can ask for the token, and whoever watches over the server need not know it.
OPEN_PATHS = ("/page/",)
OPEN = frozenset({"/", "/healthz", "/readyz", "/openapi.json"})

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "media-src 'self' blob:; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

READ_BYTES = 16 * 1024
"""Read from a socket at a time. A body in chunks of one byte each takes the interpreter about
15 us a chunk, so the 256 KiB that asyncio reads would keep all others waiting for half a second."""

GRACE = 1.0  # seconds in which a request can arrive before its connection makes way


class Crowd:
    """The connections that are open.

    Args:
        most: How many there may be; one client may have ``share(most)``.
    """

    def __init__(self, most: int) -> None:
        self.most, self.each = most, share(most)
        self._open: dict[Connection, str] = {}
        self._by_client: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, connection: "Connection", client: str) -> None:
        """Count a new connection; another may have to make way for it.

        Raises:
            Problem: there is no room, 429 for this client, 503 for anyone.
        """
        if self._by_client[client] >= self.each:
            if not self._make_way([c for c, owner in self._open.items() if owner == client]):
                raise too_many("too many connections from your address; try again in a second")
        elif len(self._open) >= self.most and not self._make_way(list(self._open)):
            raise busy("too many connections; try again in a second")
        self._open[connection] = client
        self._by_client[client] += 1

    def leave(self, connection: "Connection") -> None:
        """It is closed; a second time is no matter."""
        client = self._open.pop(connection, None)
        if client is not None:
            self._by_client[client] -= 1
            if not self._by_client[client]:
                del self._by_client[client]

    def _make_way(self, among: "list[Connection]") -> bool:
        """Close one that keeps the server waiting, of the client that has the most connections.

        That is the one that has idled longest; where none has for ``GRACE``, the one whose body has
        been on its way longest; else one that has been opened just now. A request that has arrived
        is never given up.
        """

        def order(connection: Connection) -> tuple[int, bool, bool, float]:
            waited, is_receiving = connection.seconds_waited, connection.is_receiving
            has_idled = waited > GRACE and not is_receiving
            return self._by_client[self._open[connection]], has_idled, is_receiving, waited

        can = [c for c in among if c.seconds_waited > (GRACE if c.is_receiving else 0.0)]
        if not can:
            return False
        chosen = max(can, key=order)
        self.leave(chosen)
        chosen.transport.abort()
        return True


class Connection(H11Protocol):
    """One client's HTTP/1.1 connection.

    ``timeout_keep_alive`` of uvicorn's settings is the seconds for a request's head to arrive, and
    for some more of an answer to be taken in.
    """

    def __init__(self, crowd: Crowd, **settings: Any) -> None:
        super().__init__(**settings)
        self._crowd = crowd
        self._timer: asyncio.TimerHandle | None = None
        self._unsent = 0  # bytes, when the timer was set
        self._waits_since = self.loop.time()

    @property
    def is_receiving(self) -> bool:
        """Whether a request's head is here and its body is not."""
        return self._is_at_work and self.cycle.more_body

    @property
    def seconds_waited(self) -> float:
        """For the client to send or to take in something; 0 where the server has to act."""
        is_awaited = not self._is_at_work or self.cycle.more_body or self.flow.write_paused
        return self.loop.time() - self._waits_since if is_awaited else 0.0

    @property
    def _is_at_work(self) -> bool:
        """Whether a request's head is here and its answer is not complete."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if hasattr(transport, "max_size"):
            transport.max_size = READ_BYTES
        try:
            self._crowd.enter(self, client_of(self.client[0] if self.client else ""))
        except Problem as problem:
            self._refuse(problem)
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():  # what was read before is of no interest any more
            return
        was_at_work = self._is_at_work
        super().data_received(data)
        if self._is_at_work and not was_at_work:
            self._waits_since = self.loop.time()  # for the body
        self._watch()

    def on_response_complete(self) -> None:
        self._waits_since = self.loop.time()
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        self._waits_since = self.loop.time()
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.leave(self)
        self._stop_watching()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        self._refuse(Problem(400, msg))

    def _watch(self) -> None:
        """Run the timer where the client has to act; a body has a time of its own (``Intake``)."""
        is_ours = self._is_at_work and not self.flow.write_paused
        if is_ours or self.transport.is_closing():
            self._stop_watching()
        elif self._timer is None:
            self._unsent = self.transport.get_write_buffer_size()
            self._timer = self.loop.call_later(self.timeout_keep_alive, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        if 0 < self.transport.get_write_buffer_size() < self._unsent:
            self._watch()  # it takes in its answer, slowly
        else:
            self.transport.abort()

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

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


async def unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of ``work``, which is cancelled when the client goes away.

    To be used when the body has been read: then the next message can only be the farewell.

    Raises:
        ClientDisconnect: it did.
    """
    task = asyncio.ensure_future(work)
    farewell = asyncio.ensure_future(_farewell(request))
    try:
        await asyncio.wait({task, farewell}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        farewell.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


async def _farewell(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask.

    Attributes:
        token: What requests must carry as ``Authorization: Bearer``; None: nothing.
        hosts: Names that the server may be asked under; None: any. On a loopback address it goes
            by its own names and those allowed, so that no page elsewhere can reach it under a name
            that it had resolve to 127.0.0.1 (DNS rebinding).
        origins: Pages of other origins that may ask.
    """

    token: str | None = field(default=None, repr=False)
    hosts: frozenset[str] | None = None
    origins: tuple[str, ...] = ()


class Guard:
    """Refuses requests that ``access`` does not allow; adds headers to every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        secured = _with_headers(send, scope["path"])
        try:
            self._check(scope["method"], scope["path"], Headers(scope=scope))
        except Problem as problem:
            await problem.response(scope["path"])(scope, receive, secured)
        else:
            await self._app(scope, receive, secured)

    def _check(self, method: str, path: str, headers: Headers) -> None:
        access = self._access
        host = headers.get("host", "")
        if access.hosts is not None and _name(host) not in access.hosts:
            raise Problem(
                421,
                f"this server does not go by {host!r}; its owner can add that name with "
                "--allow-host",
            )
        origin = headers.get("origin")
        if (
            origin is not None
            and method not in ("GET", "HEAD", "OPTIONS")
            and origin not in access.origins
            and _place(origin) != host
        ):
            raise Problem(
                403,
                f"web pages from {origin} may not send requests; the server's owner can allow them "
                "with --cors",
            )
        is_open = path in OPEN or path.startswith(OPEN_PATHS)
        if access.token is not None and not is_open:
            kind, _, given = headers.get("authorization", "").partition(" ")
            # In constant time, so that how long it took tells nothing of how much was right.
            is_right = hmac.compare_digest(given.strip().encode(), access.token.encode())
            if kind.lower() != "bearer" or not is_right:
                raise Problem(
                    401, "a bearer token is needed", headers={"WWW-Authenticate": "Bearer"}
                )


def _name(host: str) -> str:
    """The host without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _place(origin: str) -> str | None:
    """The host and port of an origin; None where it is no address."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _with_headers(send: Send, path: str) -> Send:
    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            is_page = path == "/" or path.startswith("/page/")
            headers.setdefault("Cache-Control", "no-cache" if is_page else "no-store")
        await send(message)

    return secured
