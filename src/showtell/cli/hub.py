"""Models of a hub, on the command line: what there is to download is said, and asked about."""

import shlex
import sys
from dataclasses import asdict
from typing import Any

import typer

from showtell.core.files import json_text
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


def describe(model: str, revision: str | None, *, as_json: bool) -> None:
    """Print the licence and the size of ``hf:ID``; nothing is downloaded.

    Raises:
        CheckpointError, ConfigError: as ``missing_files``.
    """
    from showtell.inference.backends.hf import hub

    place = hub.place_of(model, BackendSettings(revision=revision))
    folder = place.folder or hub.cached_folder(place)
    if folder is not None:
        hub.check_folder(folder, place)
        commit, licence = hub.commit_of(folder), hub.licence_of(folder)
        files = [path for path in folder.iterdir() if path.is_file()]
        num_bytes = sum(path.stat().st_size for path in files)
    else:
        wanted = hub.look_up(place)
        commit, licence, num_bytes = wanted.commit, wanted.licence, wanted.num_bytes
    values = {
        "name": model,
        "revision": commit,
        "licence": licence,
        "num_bytes": num_bytes,
        "folder": None if folder is None else str(folder),
    }
    if as_json:
        typer.echo(json_text(values))
        return
    typer.echo(f"{model}\nlicence: {licence or 'not given'}\nsize: {num_bytes / 1e6:,.1f} MB")
    if commit is not None:
        typer.echo(f"commit: {commit}")
    typer.echo(f"folder: {folder or 'none yet: it is not on this machine'}")


def cached() -> list[dict[str, Any]]:
    """The captioners in the Hugging Face cache; empty where the extra is not installed."""
    from showtell.inference.backends.hf.hub import cached_models

    return [asdict(model) for model in cached_models()]
