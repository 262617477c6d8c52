"""Models of a hub, on the command line: what there is to download is said, and asked about."""

import shlex
import sys

import typer

from showtell.errors import ConfigError
from showtell.inference.specs import BackendSettings


def fetch_aloud(model: str, settings: BackendSettings, *, yes: bool) -> None:
    """See to it that the files of ``hf:ID`` are on this machine; nothing to do for folders.

    Licence and size are said before anything is downloaded.

    Raises:
        ConfigError: nobody agreed to the download.
        CheckpointError: the hub has no such model, or it cannot be reached.
    """
    from showtell.cli.console import ConsoleReporter
    from showtell.inference.backends.hf.hub import download, missing_files

    wanted = missing_files(model, settings)
    if wanted is None:
        return
    typer.echo(wanted.describe(), err=True)
    if not yes and not _agrees():
        line = shlex.join(sys.argv[1:])
        raise ConfigError(f"{model} is not on this machine; to download it: showtell {line} --yes")
    with ConsoleReporter() as report:
        download(wanted, report)


def _agrees() -> bool:
    """What a person at the terminal answers; without one nobody has agreed."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    return typer.confirm("Download it?", err=True)
