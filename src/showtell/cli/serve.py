"""``showtell serve``."""

from typing import Annotated

import typer

from showtell.cli import options
from showtell.errors import MissingExtraError


def serve(
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            help="A run's folder or a checkpoint's; may be repeated, the first is the default.",
        ),
    ],
    host: Annotated[str, typer.Option("--host", help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")
    ] = 8000,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
) -> None:
    """Caption pictures on request: a page for people at /, an API for programs at /v1/captions."""
    from showtell.runtime import tune_allocator

    tune_allocator()
    try:
        from showtell.server import run
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("fastapi", "uvicorn", "python_multipart"):
            raise MissingExtraError("serve", "showtell serve") from None
        raise
    run.serve(
        model,
        host=host,
        port=port,
        device=device,
        precision=precision,
        say=lambda text: typer.echo(text, err=True),
    )
