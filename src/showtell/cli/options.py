"""Options that several commands share or that have much to say, and checks of what they name.

What a command is to write to is checked before the work, so that nothing of a person's is written
over. Values that no command takes are refused here, with exit code 2.
"""

import os
import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from showtell.errors import ConfigError

if TYPE_CHECKING:
    from showtell.bulk.inputs import Inputs


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", value):
        raise typer.BadParameter(f"{value!r} is no device; known: auto, cpu, cuda, cuda:1, mps")
    return value


def _precision(value: str) -> str:
    if value not in ("auto", "fp32", "bf16"):
        raise typer.BadParameter(f"{value!r} is no precision; known: auto, fp32, bf16")
    return value


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


def _existing_store(store: Path | None) -> Path | None:
    """Refuse a store that is not there: a mistyped name would have every picture encoded anew."""
    if store is not None and not (store / "store.json").is_file():
        raise ConfigError(
            f"no feature store at {store}: make it with `showtell features DATA -o {store}`, or "
            "leave --store out for one in the cache folder"
        )
    return store


def check_store_folder(folder: Path) -> None:
    """Raise ConfigError where a feature store would be written among files of another kind."""
    if folder.is_file():
        raise ConfigError(f"{folder} is a file: give the name of a folder")
    if folder.is_dir() and not (folder / "store.json").is_file() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is there and holds no feature store: give another -o")


Store = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="Feature store to use, as `showtell features` makes one; default: one in the cache "
        "folder.",
        callback=_existing_store,
    ),
]
Device = Annotated[
    str, typer.Option("--device", callback=_device, help="auto, cpu, cuda, cuda:1, mps.")
]
Precision = Annotated[
    str, typer.Option("--precision", callback=_precision, help="auto, fp32, bf16.")
]
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
TrustModel = Annotated[
    bool,
    typer.Option(
        "--trust-model",
        help="Let the model's settings name weights outside of its folder, or an encoder to fetch.",
    ),
]
Ensemble = Annotated[
    list[str] | None,
    typer.Option(
        "--ensemble", help="A further model to average probabilities with; may be repeated."
    ),
]

Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the files that are written, if they are there.")
]
Pictures = Annotated[
    list[str],
    typer.Argument(
        metavar="PICTURE...",
        help="Files, folders, globs, lists (.txt, .jsonl, .parquet), .tar archives, URLs.",
    ),
]
Attention = Annotated[bool, typer.Option("--attention", help="JSON says where each word looked.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be captioned and kept, do nothing.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 1 if any picture fails.")]
Failures = Annotated[
    Path | None,
    typer.Option("--failures", help="Where failures are listed; default: failures.jsonl."),
]
Dedupe = Annotated[
    bool, typer.Option("--dedupe", help="Pictures that look the same share a caption.")
]
BatchSize = Annotated[int | None, typer.Option("--batch-size", min=1, help="Pictures at once.")]
Address = Annotated[
    str | None, typer.Option("--address", help="ray: of the cluster; default: a local one.")
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="ray: models in memory at once.")
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
    is_kept: bool = False,
) -> None:
    """Raise ConfigError where ``output`` cannot be a file that a command writes.

    Args:
        inputs: what the command reads; names of files among other things.
        is_picture: whether it writes a picture; else none that is named like one is taken.
        makes_folder: whether the command makes the output's folder where there is none.
        is_kept: whether a file that is there and holds something stays.

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
    if is_kept and output.is_file() and output.stat().st_size:
        raise ConfigError(f"{option} {output} is there: give another name, or add --overwrite")
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
    """Say on standard error what was left out: before the block, and after it what only came up
    in it."""
    told = inputs.describe_skipped()
    if told:
        typer.echo(told, err=True)
    yield
    if (now := inputs.describe_skipped()) != told:
        typer.echo(now, err=True)
