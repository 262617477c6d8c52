"""``showtell serve``."""

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from showtell.cli import options
from showtell.errors import ConfigError, MissingExtraError
from showtell.pretrained import DEFAULT

TOKEN_VARIABLE = "SHOWTELL_TOKEN"
EXTRA = ("fastapi", "starlette", "uvicorn", "python_multipart", "prometheus_client")
SHORTEST_TOKEN = 16


def _origins(given: list[str] | None) -> list[str] | None:
    """Origins as browsers send them; any other would never match one."""
    for origin in given or ():
        if not re.fullmatch(r"https?://[^/\s?#@]+", origin):
            raise typer.BadParameter(f"{origin!r}: expected an origin such as https://example.org")
    return given


def serve(
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            help="A run's folder or a checkpoint's, or a name of `showtell models`; may be "
            "repeated, the first is the default.",
        ),
    ] = [DEFAULT],  # noqa: B006
    host: Annotated[str, typer.Option("--host", help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")
    ] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            help="A file with the bearer token that requests must carry; or set SHOWTELL_TOKEN.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="A name that a proxy asks a local server under."),
    ] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(
            "--cors",
            help="An origin whose pages may ask, https://example.org.",
            callback=_origins,
        ),
    ] = None,
    max_pictures: Annotated[
        int, typer.Option("--max-pictures", min=1, help="Pictures a request.")
    ] = 32,
    max_megabytes: Annotated[
        int, typer.Option("--max-megabytes", min=1, help="A picture's file.")
    ] = 20,
    max_megapixels: Annotated[
        int, typer.Option("--max-megapixels", min=1, max=150, help="Of a picture.")
    ] = 50,
    max_queue: Annotated[
        int, typer.Option("--max-queue", min=1, help="Pictures at work or waiting.")
    ] = 256,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    trust_model: options.TrustModel = False,
) -> None:
    """Caption pictures on request: a page for people at /, an API for programs at /v1/captions.

    It stops at Ctrl-C or SIGTERM, when what it has accepted is answered.
    """
    try:
        from showtell.server.limits import MIB, Limits
        from showtell.server.run import serve as run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in EXTRA:
            raise MissingExtraError("serve", "showtell serve") from None
        raise
    limits = Limits(
        pictures=max_pictures,
        picture_bytes=max_megabytes * MIB,
        request_bytes=max(max_megabytes, Limits().request_bytes // MIB) * MIB + MIB,
        pixels=max_megapixels * 1_000_000,
        queue=max(max_queue, max_pictures),
    )
    run(
        model,
        host=host,
        port=port,
        device=device,
        precision=precision,
        trust_model=trust_model,
        token=_token(token_file),
        allow_hosts=allow_host or (),
        origins=cors or (),
        limits=limits,
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
