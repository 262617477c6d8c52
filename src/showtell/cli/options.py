"""Options that several commands share, and groups of them.

Values that no command accepts are refused here, with exit code 2.
"""

import re
import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from showtell.cli.groups import group
from showtell.errors import ConfigError

if TYPE_CHECKING:
    from showtell.data.request import DataRequest


def known_device(value: str) -> str:
    """The device, if torch may have it."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", value):
        raise typer.BadParameter(
            f"unknown device {value!r}; expected auto, cpu, cuda, cuda:1 or mps"
        )
    return value


def _precision(value: str) -> str:
    if value not in ("auto", "fp32", "bf16"):
        raise typer.BadParameter(f"unknown precision {value!r}; expected auto, fp32 or bf16")
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
    str | None, typer.Option("--format", help="Format of DATA; needed only if it is ambiguous.")
]
Images = Annotated[
    Path | None,
    typer.Option("--images", help="Folder of the pictures of DATA, if they are not beside it."),
]
Encoding = Annotated[
    str | None,
    typer.Option(
        "--encoding", help="Encoding of DATA's texts if it is not UTF-8: cp1252, gb18030, ..."
    ),
]


@group
class DataSet:
    """Captioned pictures: DATA, and what cannot be seen from it."""

    data: Data
    format: Format = None
    images: Images = None
    encoding: Encoding = None

    def request(self, store: Path | None = None) -> "DataRequest":
        """The same in the library's words, with the feature store to use."""
        from showtell.data.request import DataRequest

        return DataRequest(self.data, self.format, self.images, store, self.encoding)


def _existing_store(store: Path | None) -> Path | None:
    """Refuse a store that does not exist: a mistyped name would encode every picture again."""
    from showtell.encoders.store import SPEC_FILE

    if store is not None and not (store / SPEC_FILE).is_file():
        command = f"showtell features DATA -o {shlex.quote(str(store))}"
        raise ConfigError(
            f"no feature store at {store}: make it with `{command}`, or leave --store out for one "
            "in the cache folder"
        )
    return store


Store = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="Feature store to read, made by `showtell features`; default: one in the cache "
        "folder.",
        callback=_existing_store,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        callback=known_device,
        help="Device to compute on: auto, cpu, cuda, cuda:1 or mps.",
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision", callback=_precision, help="Precision to compute in: auto, fp32 or bf16."
    ),
]
TrustModel = Annotated[
    bool,
    typer.Option(
        "--trust-model",
        help="Let the model's settings name weights outside of its folder, or an encoder to fetch.",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")
]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="File to write instead of standard output."),
]
OutputFile = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", dir_okay=False, help="File to write instead of standard output."
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace output files that already exist.")
]
PLAIN = {
    "--encoder": "encoder.name",
    "--decoder": "decoder.kind",
    "--epochs": "training.num_epochs",
    "--batch-size": "training.batch_size",
    "--lr": "optimizer.lr",
    "--beam-size": "decoding.beam_size",
}
"""Common settings by plain names, of train."""

Pictures = Annotated[
    list[str],
    typer.Argument(
        metavar="PICTURE...",
        help="Files, folders, globs, lists (.txt, .jsonl, .parquet), .tar archives, URLs, or - for "
        "a picture from standard input.",
    ),
]
Attention = Annotated[
    bool,
    typer.Option("--attention", help="Add to JSON where the model looked for each word."),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="List what would be captioned and what would be kept; write nothing."
    ),
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with code 1 if any picture fails.")]
Failures = Annotated[
    Path | None,
    typer.Option(
        "--failures",
        help="File that lists failed pictures; default: FILE.failures.jsonl beside -o FILE.jsonl, "
        "else failures.jsonl.",
    ),
]
Dedupe = Annotated[
    bool, typer.Option("--dedupe", help="Caption pictures that look the same only once.")
]
BatchSize = Annotated[
    int | None, typer.Option("--batch-size", min=1, help="Pictures in one batch.")
]
Bootstrap = Annotated[
    int | None,
    typer.Option(
        "--bootstrap",
        min=1,
        metavar="N",
        help="Also give 95 % intervals, from N resamples of the pictures (1000 is usual).",
    ),
]
BootstrapSeed = Annotated[
    int, typer.Option("--seed", min=0, help="Seed of the resamples of the pictures.")
]
Segmentation = Annotated[
    str,
    typer.Option(
        "--segmentation",
        metavar="KIND",
        help="How captions are cut into words: auto, ptb (COCO's tokeniser), spaces, characters, "
        "or words (dictionaries of the extra languages). auto: ptb, except in scripts without "
        "spaces.",
    ),
]
Language = Annotated[
    str,
    typer.Option(
        "--language",
        metavar="CODE",
        help="Language of the captions, as de or zh, for METEOR and the cutting. auto: guessed.",
    ),
]


class SplitChoice(StrEnum):
    """Which records to take."""

    train = "train"
    val = "val"
    test = "test"
    all = "all"
