"""Checks of the files that a command is to read or write.

Outputs are checked before the work begins, so that nobody's files are overwritten.
"""

import os
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from showtell.core.files import is_special
from showtell.errors import ConfigError

if TYPE_CHECKING:
    from showtell.bulk.inputs import Inputs


def check_file(
    output: Path | None,
    inputs: Iterable[str | Path] = (),
    *,
    option: str = "-o",
    is_picture: bool = False,
    makes_folder: bool = False,
    is_kept: bool = False,
) -> None:
    """Raise ConfigError where ``output`` cannot be a file that a command writes.

    Args:
        inputs: what the command reads; names of files among other things.
        is_picture: whether it writes a picture; if not, names of pictures are refused.
        makes_folder: whether the command makes the output's folder if it does not exist.
        is_kept: whether a file that exists and is not empty is kept.

    """
    from showtell.data.pictures import is_picture_name

    if output is None:
        return
    if output.is_dir():
        raise ConfigError(f"{option} {output} is a folder; give the name of a file")
    if is_special(output):
        raise ConfigError(f"{option} {output} is a device or a pipe; give the name of a file")
    if _is_among(output, inputs):
        raise ConfigError(f"{option} {output} is one of the inputs: give another name")
    if not is_picture and is_picture_name(output.name):
        raise ConfigError(
            f"{option} {output} has the name of a picture, but the output is not a picture: give "
            f"the output's name after {option}, then the pictures"
        )
    if is_kept and output.is_file() and output.stat().st_size:
        raise ConfigError(
            f"{option} {output} already exists: give another name, or add --overwrite"
        )
    if not makes_folder and not output.parent.is_dir():
        folder = shlex.quote(str(output.parent))
        raise ConfigError(f"no such folder: {output.parent}; make it: mkdir -p {folder}")


def _is_among(output: Path, inputs: Iterable[str | Path]) -> bool:
    if not output.exists():
        return False
    ours = output.stat()
    for name in inputs:
        try:
            if os.path.samestat(ours, os.stat(name)):
                return True
        except (OSError, ValueError):  # a URL, a name, nothing at all
            continue
    return False


@contextmanager
def told_skipped(inputs: "Inputs") -> Iterator[None]:
    """Say on standard error which inputs were left out: before the block, and again after it if
    more were left out in it."""
    told = inputs.describe_skipped()
    if told:
        typer.echo(told, err=True)
    yield
    if (now := inputs.describe_skipped()) != told:
        typer.echo(now, err=True)


def check_store_folder(folder: Path) -> None:
    """Raise ConfigError where a feature store would be written among files of another kind."""
    from showtell.encoders.store import SPEC_FILE

    if folder.is_file():
        raise ConfigError(f"{folder} is a file: give the name of a folder")
    if folder.is_dir() and not (folder / SPEC_FILE).is_file() and any(folder.iterdir()):
        raise ConfigError(
            f"{folder} already exists and is not a feature store: give another folder with -o"
        )
