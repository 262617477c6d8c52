"""Asking a model's server over HTTP: addresses, keys, attempts, time limits, size limits.

``Client`` sends JSON and gives back JSON. What may pass (a cut connection, a time limit) is tried
again, after a while that grows; a full server is waited for (``remote_pace.py``). Two kinds of
failure are told apart:

- ``RequestFailed``: this request failed, and another picture may succeed;
- ``ServerError``: no request can succeed (no server there, the key is refused, no such model), or
  none before long (``ServerFull``).

The key goes to the address that the user named, and nowhere else: redirects are not followed. It is
cut out of every text that the server says, before anything else reads it. What pictures or captions
are is not known here.
"""

import asyncio
import base64
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from ipaddress import ip_address
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import getproxies

from showtell.core.files import parse_json
from showtell.errors import ConfigError, MissingExtraError, ServerError
from showtell.inference.backends.remote_pace import Full, Pace, Passing, Patience, retry_after
from showtell.inference.backends.remote_refusal import Refusal

Result = TypeVar("Result")

MOST_ANSWER_BYTES = 1 << 20
"""Of an answer: a caption with log-probabilities for 500 tokens has 100,000 or so."""

CONNECT_SECONDS = 10.0
RESUME = "; to resume, run the same command again"

PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
"""Statuses after which the same request may succeed."""

SHORTEST_SECRET = 8
"""Characters. What local servers take for a key ("EMPTY", "none") may be a word of a caption."""

PROXIES = ("http", "https", "socks5", "socks5h")
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""What the environment may name in place of the usual certificates; the first counts."""

MOST_SHOWN = 200  # characters of what a server says
TOLD_AFTER = 10.0  # seconds without any answer, after which whoever waits is told why


class RequestFailed(Exception):
    """A request failed for good.

    Attributes:
        is_servers: whether the server is at fault, not what was asked.
        status: the HTTP status; None where none came.
        refusal: what the server said; not for showing.
    """

    def __init__(
        self,
        reason: str,
        *,
        is_servers: bool,
        status: int | None = None,
        refusal: Refusal | None = None,
    ) -> None:
        super().__init__(reason)
        self.is_servers, self.status, self.refusal = is_servers, status, refusal


class ServerFull(ServerError):
    """The server is full for longer than this client waits.

    Attributes:
        wait: for how many seconds nothing should be sent.
    """

    def __init__(self, reason: str, wait: float) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Endpoint:
    """Where a server is and how one shows that one may ask.

    Attributes:
        url: without credentials and without a slash at its end.
        headers: sent with every request; they may hold a key.
        secrets: texts that may not be shown.
        key_name: the variable that a key is read from, for messages.
    """

    url: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    key_name: str = ""

    @classmethod
    def of(
        cls, address: str, key: str | None = None, *, key_name: str, default_path: str = ""
    ) -> "Endpoint":
        """The endpoint of an address as a user gives it.

        Args:
            address: ``http://host:8000/v1``; it may have a name and a password, which are sent as
                Basic authentication where there is no key.
            key: sent as a bearer token.
            key_name: where it is from.
            default_path: taken where the address has no path.

        Raises:
            ConfigError: it is not an address of the web, or the key cannot be sent.
        """
        try:
            parts = urlsplit(address.strip())
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            shown = address if "@" not in address else "the address"
            raise ConfigError(f"--base-url {shown}: expected one such as http://127.0.0.1:8000/v1")
        if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
            raise ConfigError(f"{key_name} has characters that no header can hold")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        place = host if port is None else f"{host}:{port}"
        path = parts.path.rstrip("/") or default_path
        url = urlunsplit((parts.scheme, place, path, "", ""))
        headers: dict[str, str] = {}
        secrets: list[str] = []
        if parts.password is not None:
            pair = f"{unquote(parts.username or '')}:{unquote(parts.password)}"
            coded = base64.b64encode(pair.encode()).decode()
            headers["Authorization"] = f"Basic {coded}"
            secrets += [coded, unquote(parts.password), parts.password]
        if key:
            headers["Authorization"] = f"Bearer {key}"
            secrets += [key, quote(key, safe=""), base64.b64encode(key.encode()).decode()]
        hidden = {secret for secret in secrets if len(secret) >= SHORTEST_SECRET}
        return cls(url, headers, tuple(sorted(hidden, key=len, reverse=True)), key_name)

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine, where no proxy leads."""
        host = urlsplit(self.url).hostname or ""
        try:
            return host == "localhost" or ip_address(host).is_loopback
        except ValueError:
            return False

    def scrubbed(self, value: Any) -> Any:
        """What the server says, a text or the value of JSON, without the key."""
        if isinstance(value, str):
            for secret in self.secrets:
                value = value.replace(secret, "***")
        elif isinstance(value, list):
            return [self.scrubbed(each) for each in value]
        elif isinstance(value, dict):
            return {self.scrubbed(name): self.scrubbed(each) for name, each in value.items()}
        return value

    def shown(self, text: str) -> str:
        """What the server says, on one line, short and without the key."""
        text = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
        text = self.scrubbed(text)
        return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]} ..."


class Client:
    """Asks one server; made, used and closed within one event loop.

    Args:
        concurrency: requests at a time.
        tell: told once, in the event loop, that the server is full and is waited for.

    Attributes:
        places: held by whoever asks, so that there are no more at a time.

    Raises:
        ConfigError: the environment names a proxy or certificates that cannot be used.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        patience: Patience,
        concurrency: int = 1,
        *,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.endpoint, self.patience = endpoint, patience
        self._tell, self._has_told = tell, False
        self._httpx = _httpx()
        self.places = asyncio.Semaphore(concurrency)
        self._pace = Pace(patience, concurrency)
        if not endpoint.is_here:
            check_proxies()
        try:
            self._http = self._httpx.AsyncClient(
                headers={
                    # Else a small body could become a large one.
                    "Accept-Encoding": "identity",
                    **endpoint.headers,
                },
                timeout=self._httpx.Timeout(
                    patience.timeout, connect=min(CONNECT_SECONDS, patience.timeout), pool=None
                ),
                limits=self._httpx.Limits(max_connections=concurrency, keepalive_expiry=30),
                follow_redirects=False,
                trust_env=not endpoint.is_here,
            )
        except OSError as error:
            name = next((name for name in CERTIFICATES if os.environ.get(name)), None)
            if name is None:
                raise
            raise ConfigError(
                f"{name}={os.environ[name]}: {error.strerror or error}; set it to a file of "
                f"certificates in PEM, or leave it out: unset {name}"
            ) from None
        except (ValueError, self._httpx.InvalidURL):  # of a kind that ``check_proxies`` let pass
            names = [name for name in os.environ if name.lower().endswith("_proxy")]
            raise ConfigError(
                f"a proxy cannot be used as it is given: see {', '.join(sorted(names))}"
            ) from None

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def get(self, path: str) -> Any:
        """The JSON at a path, in one attempt; raises as ``post``."""
        try:
            return await self._attempt("GET", path, None)
        except Passing as error:
            raise RequestFailed(str(error), is_servers=True, status=error.status) from None

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """The JSON that the server answers.

        Raises:
            RequestFailed: it did not, in all the attempts that make sense.
            ServerError: it never will, or it was full for too long.
        """
        since, num_failed = self._pace.now(), 0
        while True:
            try:
                async with self._pace.turn():
                    return await self._attempt("POST", path, body)
            except Full as error:
                self._wait_longer(error, since)
            except Passing as error:
                num_failed += 1
                if num_failed > self.patience.retries:
                    times = "" if num_failed == 1 else f" (tried {num_failed} times)"
                    raise RequestFailed(
                        f"{error}{times}", is_servers=True, status=error.status
                    ) from None
                await asyncio.sleep(self.patience.pause(num_failed))

    def _wait_longer(self, full: Full, since: float) -> None:
        """Raise ServerFull where a full server is waited for no longer; tell of a long wait.

        Args:
            since: when its request was made.
        """
        most, asked = self.patience.longest_wait, full.wait or 0.0
        seconds = self._pace.seconds_full(since)
        if asked > most:
            raise ServerFull(
                f"{self.endpoint.url}: {full}, and asks to wait for {asked:,.0f} s{RESUME} then",
                asked,
            )
        if seconds + asked > most:
            raise ServerFull(
                f"{self.endpoint.url}: {full}, and nothing else for {seconds:,.0f} s{RESUME} later",
                max(asked, 1.0),
            )
        if seconds + asked > TOLD_AFTER and not self._has_told:
            self._has_told = True
            self._tell(f"{self.endpoint.url}: {full}; waiting, at most {most / 60:g} minutes")

    async def _attempt(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        try:
            async with asyncio.timeout(self.patience.timeout):
                status, headers, content = await self._exchange(method, path, body)
        except (TimeoutError, self._httpx.TimeoutException):
            raise Passing(f"no answer within {self.patience.timeout:g} s") from None
        except self._httpx.TransportError as error:
            raise Passing(self.endpoint.shown(_reason(error))) from None
        except self._httpx.InvalidURL as error:
            raise ServerError(f"{self.endpoint.url}: {self.endpoint.shown(str(error))}") from None
        if status not in PASSING:
            self._pace.answered()
        if status == 200:
            return self._parsed(content)
        failure = self._refusal(status, headers, content)
        if isinstance(failure, Full):
            self._pace.slow_down(failure.wait)
        raise failure

    async def _exchange(
        self, method: str, path: str, body: dict[str, Any] | None
    ) -> tuple[int, Any, bytes]:
        url = f"{self.endpoint.url}/{path}"
        async with self._http.stream(method, url, json=body) as answer:
            coding = answer.headers.get("content-encoding", "identity").lower()
            if coding != "identity":
                raise RequestFailed(
                    f"the server's answer is compressed as {self.endpoint.shown(coding)}, without "
                    "being asked",
                    is_servers=True,
                    status=answer.status_code,
                )
            content = bytearray()
            async for chunk in answer.aiter_raw():
                content += chunk
                if len(content) > MOST_ANSWER_BYTES:
                    raise RequestFailed(
                        f"the server's answer has more than {MOST_ANSWER_BYTES:,} bytes",
                        is_servers=True,
                        status=answer.status_code,
                    )
            return answer.status_code, answer.headers, bytes(content)

    def _parsed(self, content: bytes) -> Any:
        try:
            return self._read(content)
        except ValueError:
            shown = self.endpoint.shown(content.decode("utf-8", "replace"))
            raise RequestFailed(
                f"the server's answer is not JSON: {shown!r}", is_servers=True, status=200
            ) from None

    def _read(self, content: bytes) -> Any:
        """The JSON of an answer without the key; raises ValueError where it is none."""
        value = parse_json(content)
        try:
            return self.endpoint.scrubbed(value)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None

    def _refusal(self, status: int, headers: Any, content: bytes) -> Exception:
        """What an answer that is no 200 means."""
        try:
            refusal = Refusal.of(self._read(content))
        except ValueError:
            refusal = Refusal.of(self.endpoint.scrubbed(content.decode("utf-8", "replace")))
        said = f": {self.endpoint.shown(refusal.text)}" if refusal.text else ""
        reason = f"the server answers {status}{said}"
        where = self.endpoint.url
        if 300 <= status < 400:
            place = urlsplit(headers.get("location", ""))
            to = f" to {self.endpoint.shown(place.netloc)}" if place.netloc else ""
            return ServerError(
                f"{where} redirects{to}, where nothing is sent, since the key is for {where} "
                "alone; give the right address with --base-url"
            )
        if status in (401, 403):
            name = self.endpoint.key_name
            what = (
                f"refuses the key in {name}"
                if self.endpoint.headers
                else f"needs a key: set {name}"
            )
            return ServerError(f"{where} {what}: {reason}")
        if refusal.code in ("insufficient_quota", "billing_hard_limit_reached"):
            return ServerError(f"{where}: {reason}{RESUME}")
        if status in PASSING:
            wait = retry_after(headers)
            is_full = status == 429 or wait is not None
            return Full(reason, status, wait) if is_full else Passing(reason, status)
        return RequestFailed(reason, is_servers=status >= 500, status=status, refusal=refusal)


def _reason(error: Exception) -> str:
    """Why no answer came, without the words of the libraries between."""
    cause: BaseException = error
    while (below := cause.__cause__ or cause.__context__) is not None and below is not cause:
        cause = below
    if isinstance(cause, ConnectionRefusedError):
        return "the connection is refused: no server listens there"
    if isinstance(cause, ConnectionError | EOFError) or "disconnected" in str(error):
        return "the server cut the connection"
    text = (cause.strerror if isinstance(cause, OSError) else None) or str(error) or str(cause)
    return f"the connection failed: {text or type(error).__name__}"


def variable(name: str) -> str | None:
    """An environment variable; None where it is not set, or empty."""
    return os.environ.get(name, "").strip() or None


def check_proxies() -> None:
    """Refuse what the environment (else the system) names as a proxy and is none.

    Addresses are not shown: they may hold a password.

    Raises:
        ConfigError: naming the variable.
    """
    proxies = getproxies()
    if "*" in (host.strip() for host in proxies.get("no", "").split(",")):
        return  # none is used
    for kind in ("http", "https", "all"):
        address = proxies.get(kind)
        if not address:
            continue
        names = (f"{kind}_proxy", f"{kind.upper()}_PROXY")
        name = next((name for name in names if os.environ.get(name) == address), None)
        name = name or f"the system's proxy for {kind}"
        try:
            parts = urlsplit(address if "://" in address else f"http://{address}")
            is_address = bool(parts.hostname) and parts.port != 0  # ``port`` looks at its range
        except ValueError:  # a port that is none, or half of an IPv6 address
            is_address = False
        if not is_address or parts.scheme not in PROXIES:
            raise ConfigError(
                f"{name} is not an address of a proxy: expected one such as "
                f"http://proxy.example:3128 ({', '.join(PROXIES)}); to do without: unset {name}"
            )
        if parts.scheme.startswith("socks") and find_spec("socksio") is None:
            raise ConfigError(
                f"{name} names a SOCKS proxy, which needs a package: pip install 'httpx2[socks]'; "
                f"to do without the proxy: unset {name}"
            )


def _httpx() -> Any:
    try:
        import httpx2
    except ModuleNotFoundError:
        raise MissingExtraError("remote-models", "asking a model's server") from None
    return httpx2


class Worker:
    """An event loop in a thread of its own, whose tasks end when the block does."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Result]) -> "Future[Result]":
        """Begin to work; the result comes later."""
        return asyncio.run_coroutine_threadsafe(self._kept(work), self.loop)

    async def _kept(self, work: Coroutine[Any, Any, Result]) -> Result:
        task = asyncio.current_task()
        assert task is not None  # within a coroutine that runs
        self._tasks.add(task)
        try:
            return await work
        finally:
            self._tasks.discard(task)

    async def cancel(self) -> None:
        """Cancel everything else that was started, and wait until it has ended."""
        # Not all tasks of the loop: those that a library started within ours are its own to cancel.
        # One that has not begun to run would leave its coroutine behind, never awaited.
        tasks = self._tasks - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def worker() -> Iterator[Worker]:
    """An event loop that works while this thread waits, or does something else.

    However the block ends, so do all its tasks, at once: a request that stalls keeps nobody from
    stopping a run.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="requests", daemon=True)
    thread.start()
    running = Worker(loop)
    try:
        yield running
    finally:
        running.start(running.cancel()).result()
        asyncio.run_coroutine_threadsafe(loop.shutdown_asyncgens(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
