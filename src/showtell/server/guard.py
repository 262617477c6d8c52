"""Who may ask, and what browsers are told: around the app, so that every answer passes here."""

import hmac
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from showtell.server.problems import Problem

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
