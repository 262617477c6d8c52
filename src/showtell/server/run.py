"""Starting the server, and stopping it so that what was accepted is answered."""

import signal
import socket
from collections.abc import Callable, Sequence

import uvicorn

from showtell.errors import ConfigError
from showtell.server.app import create_app
from showtell.server.batching import Batcher
from showtell.server.limits import Limits
from showtell.server.loaded import load_models
from showtell.server.service import Service


def serve(
    models: Sequence[str],
    *,
    host: str,
    port: int,
    device: str = "auto",
    precision: str = "auto",
    limits: Limits | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Serve until a SIGINT or SIGTERM; then answer what was accepted, and return.

    Args:
        say: Told, in a line each, what is served and where.

    Raises:
        ConfigError: the address cannot be had.
        CheckpointError: a model cannot be loaded.
    """
    limits = limits or Limits()
    listener = _listener(host, port)  # before the models: an address in use shows at once
    loaded = load_models(models, device=device, precision=precision)
    service = Service(loaded, Batcher(max_waiting=limits.queue), limits)
    config = uvicorn.Config(
        create_app(service), http="h11", ws="none", log_level="warning", access_log=False
    )
    # Uvicorn raises the signal that stopped it once more when it is done; this is not to kill us.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    where = f"[{host}]" if ":" in host else host
    say(f"Serving {', '.join(loaded)} at http://{where}:{listener.getsockname()[1]}")
    uvicorn.Server(config).run(sockets=[listener])


def _listener(host: str, port: int) -> socket.socket:
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
        raise ConfigError(f"cannot serve at {host} port {port}: {reason.lower()}") from None
    return listener
