"""Options that several commands share.

MERGED: What an output may not be, found out before the work: nothing of a person's is written over.
"""

import os
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from showtell.errors import ConfigError

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="Captioned pictures: a COCO, Karpathy, CSV, TSV, JSON, Parquet or tar file, a "
        "Flickr8k folder, a folder of pictures with .txt sidecars, or `scenes` (built in).",
    ),
]
Format = Annotated[
    str | None, typer.Option("--format", help="The format of DATA, where it is ambiguous.")
]
Images = Annotated[
    Path | None, typer.Option("--images", help="Where the pictures of DATA lie, if not beside it.")
]
Store = Annotated[
    Path | None,
    typer.Option("--store", help="Feature store to use; default: one in the cache folder."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
Precision = Annotated[str, typer.Option("--precision", help="auto, fp32, bf16.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="Write there instead of standard output.")
]
OutputFile = Annotated[
    Path | None,
    typer.Option("-o", "--output", dir_okay=False, help="Write there instead of standard output."),
]
Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="A run's folder or a checkpoint's, or a name of `showtell models`."
    ),
]
Ensemble = Annotated[
    list[str] | None,
    typer.Option(
        "--ensemble", help="A further model to average probabilities with; may be repeated."
    ),
]


class SplitChoice(StrEnum):
    """Which records to take."""

    train = "train"
    val = "val"
    test = "test"
    all = "all"


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
