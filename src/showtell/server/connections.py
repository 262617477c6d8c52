"""Who may ask, and what browsers are told: around the app, so that every answer passes here.

MERGED: Connections: uvicorn's over h11, bounded in number and in the time they idle.

Uvicorn closes a connection that says nothing after an answer; one that never sends a whole request,
or goes on with a body that was refused, it would keep for ever. Here every connection without a
request at work has the same few seconds, whatever bytes trickle in.
"""

import asyncio
import hmac
import json
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from showtell.server.problems import Problem, busy

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


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask.

    Attributes:
        token: What requests must carry as ``Authorization: Bearer``; None: nothing.
        hosts: Names that the server may be asked under; None: any. On a loopback address it goes
            by its own names alone, so that no page elsewhere can reach it under a name of its own
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
            await problem.response()(scope, receive, secured)
        else:
            await self._app(scope, receive, secured)

    def _check(self, method: str, path: str, headers: Headers) -> None:
        access = self._access
        host = headers.get("host", "")
        if access.hosts is not None and _name(host) not in access.hosts:
            raise Problem(421, f"this server is not {host!r}; it can be told so by --allow-host")
        origin = headers.get("origin")
        if (
            origin is not None
            and method not in ("GET", "HEAD", "OPTIONS")
            and origin not in access.origins
            and urlsplit(origin).netloc != host
        ):
            raise Problem(403, f"pages of {origin} may not ask; the server can allow it by --cors")
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
