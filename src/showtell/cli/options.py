"""Options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="Captioned pictures: a COCO, Karpathy, CSV, TSV or JSONL file, a Flickr8k folder, "
        "a folder of pictures with .txt sidecars, or `scenes` (built in).",
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
