"""Starting the server, and stopping it after the accepted requests are answered."""

import errno
import logging
import signal
import socket
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import ip_address

import uvicorn

from showtell.errors import ConfigError
from showtell.inference.loading import ModelRequest
from showtell.server.app import create_app
from showtell.server.batching import Batcher
from showtell.server.chat import Clients
from showtell.server.connections import LOOPBACK, Access, Connection, Crowd
from showtell.server.limits import Limits
from showtell.server.metrics import Metrics
from showtell.server.models import LoadedModel, load_models
from showtell.server.service import Service

BACKLOG = 1024
MOST_PORT = 65_535
OPEN_TO_ALL = (
    "warning: no token is set, so everyone on the network can use this server; --token-file FILE "
    "or the variable SHOWTELL_TOKEN sets one"
)


def serve(
    models: Sequence[ModelRequest],
    *,
    host: str,
    port: int,
    access: Access,
    clients: Clients,
    limits: Limits,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Serve until a SIGINT or SIGTERM; then answer what was accepted, and return.

    Args:
        models: The first is the default.
        host: The address to listen at.
        port: 0: any that is free.
        access: Who may ask. Its ``hosts`` are names besides the server's own; where it has none,
            the server goes by any name, unless it listens at a loopback address.
        clients: What is granted to clients of other servers.
        say: Told, in a line each, what is served and where, what its owner may not expect, and why
            a server behind a model fails.

    Raises:
        ConfigError: the address cannot be had.
        CheckpointError: a model cannot be loaded.
    """
    with listen(host, port) as listener:  # before the models: an address in use shows at once
        address = listener.getsockname()[0]
        access = replace(access, hosts=own_names(host, address, access.hosts or ()))
        loaded = load_models(models)
        clients.check(loaded)
        for model in loaded.values():
            if model.captioner.card.kind != "showtell":
                say(model.captioner.describe_runtime())
        server = build_server(loaded, limits, access, clients, say)
        # Before uvicorn's own handlers are there, and after: it raises the signal that stopped it
        # once more when it is done, and that is not to kill us.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: setattr(server, "should_exit", True))
        listener.listen(BACKLOG)  # whoever reads that it serves can connect
        if access.token is None and not _is_loopback(address):
            say(OPEN_TO_ALL)
        place = place_of(host, address, listener.getsockname()[1], any_name=access.hosts is None)
        say(f"Serving {', '.join(loaded)} at {place}")
        server.run(sockets=[listener])


def own_names(host: str, address: str, allowed: Collection[str]) -> frozenset[str] | None:
    """What ``Access.hosts`` is for a server at an address.

    Args:
        host: How its owner calls the address.
        allowed: Further names, in lower case.
    """
    if not allowed and not _is_loopback(address):
        return None
    return LOOPBACK | {host.lower(), address} | set(allowed)


def place_of(host: str, address: str, port: int, *, any_name: bool) -> str:
    """Where a browser finds the server; 0.0.0.0 and :: are not addresses to go to.

    Args:
        any_name: whether it answers to any name.
    """
    more = ""
    if ip_address(address.partition("%")[0]).is_unspecified:
        host = "::1" if ":" in address else "127.0.0.1"
        more = ", and at this machine's other addresses" if any_name else ""
    where = f"[{host}]" if ":" in host else host
    return f"http://{where}:{port}{more}"


def _is_loopback(address: str) -> bool:
    return ip_address(address.partition("%")[0]).is_loopback


class Failures:
    """Tells the server's owner why models fail, not for each picture.

    Args:
        say: Told a line.
        clock: Seconds.
    """

    OTHER, SAME = 10.0, 600.0
    """Seconds between two lines of one model, with another reason or with the same."""

    def __init__(
        self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._clock = say, clock
        self._last: dict[str, tuple[str, float]] = {}  # by model

    def note(self, model: str, reason: str) -> None:
        """A picture failed."""
        last, when = self._last.get(model, ("", -self.SAME))
        if self._clock() - when >= (self.SAME if reason == last else self.OTHER):
            self._last[model] = reason, self._clock()
            self._say(f"warning: the server behind {model} fails: {reason}")


def build_server(
    loaded: dict[str, LoadedModel],
    limits: Limits,
    access: Access,
    clients: Clients | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> uvicorn.Server:
    """All parts of a server put together; its ``run`` takes what ``listen`` gives."""
    metrics, failures = Metrics(), Failures(say)

    def note_failure(model: str, reason: str) -> None:
        metrics.model_failure(model)
        failures.note(model, reason)

    batcher = Batcher(max_waiting=limits.queue, on_batch=metrics.batch)
    service = Service(
        loaded,
        batcher,
        limits,
        on_picture=lambda outcome: metrics.pictures.labels(outcome).inc(),
        on_failure=note_failure,
    )
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # clients' faults are no news
    config = uvicorn.Config(
        create_app(service, metrics, access, clients),
        http=partial(Connection, Crowd(limits.connections)),  # type: ignore[arg-type]
        h11_max_incomplete_event_size=limits.header_bytes,
        backlog=BACKLOG,
        ws="none",
        timeout_keep_alive=limits.idle_seconds,  # type: ignore[arg-type]
        # Long enough for whatever the limits allow to be answered.
        timeout_graceful_shutdown=round(limits.upload_seconds + limits.answer_seconds) + 5,
        server_header=False,
        log_level="error",
        access_log=False,
    )
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """A socket at an address; connections are taken when the server runs.

    Raises:
        ConfigError: the address cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        advice = ""
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            advice = f"; another: --port {port + 1 if port < MOST_PORT else port - 1}"
        raise ConfigError(f"cannot serve at {host} port {port}: {reason.lower()}{advice}") from None
    return listener
