"""What an output may not be, found out before the work: nothing of a person's is written over."""

import os
from collections.abc import Iterable
from pathlib import Path

from showtell.errors import ConfigError


def check_file(
    output: Path | None,
    inputs: Iterable[str | Path] = (),
    *,
    option: str = "-o",
    is_picture: bool = False,
    makes_folder: bool = False,
) -> None:
    """Raise ConfigError where ``output`` cannot be a file that a command writes.

    Args:
        inputs: what the command reads; names of files among other things.
        is_picture: whether it writes a picture; else none that is named like one is taken.
        makes_folder: whether the command makes the output's folder where there is none.

    Raises:
        FileNotFoundError: its folder is not there.
    """
    from showtell.data.pictures import is_picture_name

    if output is None:
        return
    if output.is_dir():
        raise ConfigError(f"{option} {output} is a folder; give the name of a file")
    if _is_among(output, inputs):
        raise ConfigError(f"{option} {output} is one of the inputs: give another name")
    if not is_picture and is_picture_name(output.name):
        raise ConfigError(
            f"{option} {output} is named like a picture, and none is written there: give another "
            "name, and the pictures after it"
        )
    if not makes_folder and not output.parent.is_dir():
        raise FileNotFoundError(2, "no such folder", str(output.parent))


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
