"""``showtell serve``: a page and an HTTP API for captions."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from showtell.cli import captioners
from showtell.cli.groups import given, group, with_options
from showtell.errors import ConfigError, MissingExtraError
from showtell.pretrained import DEFAULT

if TYPE_CHECKING:
    from showtell.server.chat import Clients
    from showtell.server.connections import Access
    from showtell.server.limits import Limits

TOKEN_VARIABLE = "SHOWTELL_TOKEN"
EXTRA = ("fastapi", "starlette", "uvicorn", "python_multipart", "prometheus_client")
SHORTEST_TOKEN = 16


def _origins(given: list[str] | None) -> list[str] | None:
    """The origins, if they have the form in which browsers send them; others would never match."""
    for origin in given or ():
        if not re.fullmatch(r"https?://[^/\s?#@]+", origin):
            raise typer.BadParameter(f"{origin!r}: expected an origin such as https://example.org")
    return given


def _hosts(given: list[str] | None) -> list[str] | None:
    """Hosts in lower case, with or without a port."""
    for host in given or ():
        if not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^/\s?#@:\[\]]+)(:\d+)?", host):
            raise typer.BadParameter(f"{host!r}: expected a host such as photos.example.org:8080")
    return [host.lower() for host in given] if given else given


def _names(given: list[str] | None) -> list[str] | None:
    """Hosts without their ports: requests may name any."""
    return [re.sub(r":\d+$", "", host).strip("[]") for host in _hosts(given) or ()] or given


@group
class AccessOptions:
    """Where the server listens, whom it answers, and by what names."""

    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1"
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0: any free port.")
    ] = 8000
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            help="File with the bearer token that requests must send; or set SHOWTELL_TOKEN.",
        ),
    ] = None
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            help="Host name that the server goes by, such as one that a proxy passes on; requests "
            "for others are refused. May be repeated. Default: its own at 127.0.0.1, elsewhere "
            "any.",
            callback=_names,
        ),
    ] = None
    cors: Annotated[
        list[str] | None,
        typer.Option(
            "--cors",
            help="Origin of web pages that may send requests, such as https://example.org; may be "
            "repeated.",
            callback=_origins,
        ),
    ] = None
    alias: Annotated[
        list[str] | None,
        typer.Option(
            "--alias",
            metavar="NAME[=MODEL]",
            help="Another name of a loaded model (default: the first), for clients whose model's "
            "name cannot be changed; may be repeated.",
        ),
    ] = None
    fetch_from: Annotated[
        list[str] | None,
        typer.Option(
            "--fetch-from",
            metavar="HOST",
            help="Host from which the server may fetch pictures that a chat request names by their "
            "address; may be repeated. Default: none.",
            callback=_hosts,
        ),
    ] = None

    def access(self) -> "Access":
        """Who may ask, and by what names besides the server's own."""
        from showtell.server.connections import Access

        names, origins = frozenset(self.allow_host or ()), tuple(self.cors or ())
        return Access(_token(self.token_file), names, origins)

    def clients(self) -> "Clients":
        """What clients may name."""
        from showtell.server.chat import Clients

        aliases = dict(pair.partition("=")[::2] for pair in self.alias or ())
        return Clients(aliases, frozenset(self.fetch_from or ()))


@group
class Most:
    """What the server takes at most."""

    max_pictures: Annotated[
        int, typer.Option("--max-pictures", min=1, help="Largest number of pictures in a request.")
    ] = 32
    max_megabytes: Annotated[
        int, typer.Option("--max-megabytes", min=1, help="Largest file of a picture, in MiB.")
    ] = 20
    max_megapixels: Annotated[
        int,
        typer.Option(
            "--max-megapixels", min=1, max=150, help="Largest picture, in millions of pixels."
        ),
    ] = 50
    max_queue: Annotated[
        int,
        typer.Option(
            "--max-queue", min=1, help="Largest number of pictures waiting or being captioned."
        ),
    ] = 256

    def limits(self) -> "Limits":
        """The same in the library's words and units."""
        from showtell.server.limits import MIB, Limits

        return Limits(
            pictures=self.max_pictures,
            picture_bytes=self.max_megabytes * MIB,
            request_bytes=max(self.max_megabytes, Limits().request_bytes // MIB) * MIB + MIB,
            pixels=self.max_megapixels * 1_000_000,
            queue=max(self.max_queue, self.max_pictures),
        )


@with_options
def serve(
    *,
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            help="Folder of a run or a checkpoint, a name that `showtell models` lists, or a "
            "captioner of another kind (hf:ID, openai:MODEL, ollama:MODEL); may be repeated: the "
            "first is the default model.",
        ),
    ] = [DEFAULT],  # noqa: B006
    access: AccessOptions,
    most: Most,
    loading: captioners.Loading,
    cleaning: captioners.Cleaning,
    settings: captioners.Settings,
) -> None:
    """Serve captions: a page for people at /, an API for programs at /v1/captions.

    Programs that speak to OpenAI (/v1/chat/completions) or to Ollama (/api/generate, /api/chat) get
    captions too, whatever their prompt says.

    On Ctrl-C or SIGTERM the server first answers the requests that it has accepted, then it stops.
    """
    try:
        from showtell.server.run import serve as run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in EXTRA:
            raise MissingExtraError("serve", "showtell serve") from None
        raise
    backend = captioners.prepared(model, settings)
    run(
        loading.requests(model, backend, cleaning=given(cleaning)),
        host=access.host,
        port=access.port,
        access=access.access(),
        clients=access.clients(),
        limits=most.limits(),
        say=lambda text: typer.echo(text, err=True),
    )


def _token(path: Path | None) -> str | None:
    """The bearer token: from a file or the environment, since anyone sees a command's arguments."""
    if path is not None:
        try:
            token, where = path.read_text(encoding="utf-8").strip(), str(path)
        except UnicodeDecodeError:
            raise ConfigError(f"{path}: a token is one line of ASCII letters and digits") from None
    elif (value := os.environ.get(TOKEN_VARIABLE)) is not None:
        token, where = value.strip(), TOKEN_VARIABLE
    else:
        return None
    if (
        len(token) < SHORTEST_TOKEN
        or not token.isascii()
        or not token.isprintable()
        or " " in token
    ):
        raise ConfigError(
            f"{where}: expected a token of {SHORTEST_TOKEN} or more ASCII characters without "
            "spaces; `openssl rand -hex 32` makes one"
        )
    return token
