"""Options that several commands share, and checks of the files that they name.

Output files are checked before the work begins, so that nobody's files are overwritten. Values that
no command accepts are refused here, with exit code 2.
"""

import inspect
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum, StrEnum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showtell.core.files import is_special
from showtell.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from showtell.bulk.inputs import Inputs
    from showtell.inference.captioner import Captioner
    from showtell.inference.specs import BackendSettings


class RuntimeChoice(StrEnum):
    """What computes."""

    auto = "auto"
    torch = "torch"
    onnx = "onnx"


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", value):
        raise typer.BadParameter(
            f"unknown device {value!r}; expected auto, cpu, cuda, cuda:1 or mps"
        )
    return value


def _any_device(value: str) -> str:
    return value if value in ("coreml", "openvino", "directml") else _device(value)


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


def _existing_store(store: Path | None) -> Path | None:
    """Refuse a store that does not exist: a mistyped name would encode every picture again."""
    if store is not None and not (store / "store.json").is_file():
        command = f"showtell features DATA -o {shlex.quote(str(store))}"
        raise ConfigError(
            f"no feature store at {store}: make it with `{command}`, or leave --store out for one "
            "in the cache folder"
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
        help="Feature store to read, made by `showtell features`; default: one in the cache "
        "folder.",
        callback=_existing_store,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device", callback=_device, help="Device to compute on: auto, cpu, cuda, cuda:1 or mps."
    ),
]
AnyDevice = Annotated[
    str,
    typer.Option(
        "--device",
        callback=_any_device,
        help="Device to compute on: auto, cpu, cuda, cuda:1 or mps; of exports also coreml, "
        "openvino or directml.",
    ),
]
Runtime = Annotated[
    RuntimeChoice,
    typer.Option(
        "--runtime",
        help="What computes: torch for checkpoints, onnx for exports; auto: what the model is.",
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision", callback=_precision, help="Precision to compute in: auto, fp32 or bf16."
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
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="Folder of a run or a checkpoint, a name that `showtell models` lists, or a captioner "
        "of another kind: hf:ID, openai:MODEL, ollama:MODEL.",
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
        "--ensemble", help="Another model to average probabilities with; may be repeated."
    ),
]

Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace output files that already exist.")
]
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
Price = Annotated[
    str | None,
    typer.Option(
        "--price",
        metavar="IN,OUT",
        help="openai, ollama: price of a million tokens in and out, to tell what a run costs.",
    ),
]
Measure = Annotated[
    int,
    typer.Option(
        "--measure",
        min=0,
        max=20,
        help="openai, ollama: with --dry-run, number of pictures to send to measure time and "
        "tokens.",
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
Address = Annotated[
    str | None,
    typer.Option(
        "--address", help="ray: address of the cluster; default: start Ray on this machine."
    ),
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="ray: number of models to load at once.")
]


Bootstrap = Annotated[
    int | None,
    typer.Option(
        "--bootstrap",
        min=1,
        metavar="N",
        help="Also give 95 % intervals, from N resamples of the pictures (1000 is usual) that "
        "--seed determines.",
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


Settings = dict[str, Any]
"""What the command line says of a captioner of another kind: ``BackendSettings``, and ``yes``."""


def _of_others(type_: Any, name: str, help: str, **limits: Any) -> Any:
    wanted = type_ if type_ is bool else type_ | None  # a flag is False where it is not typed
    return Annotated[wanted, typer.Option(name, help=help, **limits)]


Revision: Any = _of_others(str, "--revision", "hf: branch, tag or commit of the weights.")
SETTINGS: dict[str, Any] = {
    "prompt": _of_others(
        str,
        "--prompt",
        "hf, openai, ollama: instruction for the model, or short, detailed or alt, which name one.",
    ),
    "revision": Revision,
    "trust_remote_code": _of_others(
        bool, "--trust-remote-code", "hf: run Python that comes with the weights."
    ),
    "base_url": _of_others(
        str,
        "--base-url",
        "openai, ollama: address of the server; default: OPENAI_BASE_URL or OLLAMA_HOST.",
    ),
    "max_side": _of_others(
        int,
        "--max-side",
        "hf, openai, ollama: longest side in pixels to which pictures are shrunk; default of "
        "servers: 768.",
        min=32,
        max=8192,
    ),
    "concurrency": _of_others(
        int,
        "--concurrency",
        "openai, ollama: number of requests at a time; default: 8.",
        min=1,
        max=256,
    ),
    "timeout": _of_others(
        float,
        "--timeout",
        "openai, ollama: seconds that an answer may take; default: 120.",
        min=0.1,
        max=3600,
    ),
    "retries": _of_others(
        int,
        "--retries",
        "openai, ollama: how often a request that failed is sent again; default: 4.",
        min=0,
        max=100,
    ),
    "yes": _of_others(bool, "--yes", "hf: download the model without asking."),
}
"""Options for captioners of other kinds, once for every command that takes models."""


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's parameter ``settings`` by the options; it gets those that were given."""
    return with_options(command, "settings", SETTINGS)


def _replacements(given: list[str] | None) -> list[str] | None:
    """The patterns, if they can be compiled: before a model is loaded."""
    if given:
        from showtell.text.clean import Cleaning

        try:
            Cleaning(replace=tuple(given))
        except ConfigError as error:
            raise UsageError(str(error)) from None
    return given


Cleaning = dict[str, Any]
"""What the command line says of ``Captioner.cleaning``."""

CLEANING: dict[str, Any] = {
    "tidy": _of_others(
        bool | None,  # neither of both is typed: as the model has it
        "--tidy/--no-tidy",
        "Remove preambles, markdown and quotes from captions; default: of models that take a "
        "--prompt.",
    ),
    "max_sentences": _of_others(
        int,
        "--max-sentences",
        "Sentences of a caption that are kept; default: 1 of models that take a --prompt.",
        min=1,
    ),
    "max_words": _of_others(
        int, "--max-words", "Words of a caption that are kept; cut at a sensible place.", min=1
    ),
    "replace": _of_others(
        list[str],
        "--replace",
        "Replace text in captions: a regular expression and what it becomes; may be repeated.",
        metavar="REGEX=TEXT",
        callback=_replacements,
    ),
    "prefix": _of_others(str, "--prefix", "Text to put before every caption."),
    "suffix": _of_others(str, "--suffix", "Text to put behind every caption."),
}
"""Options for what becomes of texts, once for every command that writes captions."""


def with_cleaning(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's parameter ``cleaning`` by the options; it gets those that were given."""
    return with_options(command, "cleaning", CLEANING)


def prepared(models: Iterable[str], settings: Settings) -> "BackendSettings":
    """The settings, once models of the hub are on this machine.

    What there is to download is said, and is downloaded if ``--yes`` was given or a person agrees.

    Raises:
        ConfigError: there is nobody to ask, or no was the answer, or ``--yes`` is for nothing.
    """
    from showtell.inference.specs import BackendSettings

    models = list(models)
    given = BackendSettings.of({n: v for n, v in settings.items() if n != "yes"})
    from_hub = [model for model in models if model.startswith("hf:")]
    if from_hub:
        from showtell.cli.hub import fetch_aloud

        for model in from_hub:
            fetch_aloud(model, given, yes="yes" in settings)
    elif "yes" in settings:
        raise ConfigError(f"--yes is for models of the hub (hf:ID), not for {', '.join(models)}")
    return given


def say_runtime(captioner: "Captioner") -> None:
    """Say on standard error what a captioner of another kind computes with."""
    if captioner.card.kind != "showtell":
        from showtell.inference.backends.pictures import PictureCaptioner

        assert isinstance(captioner, PictureCaptioner)
        typer.echo(captioner.describe_runtime(), err=True)


def with_options(
    command: Callable[..., None], parameter: str, table: dict[str, Any]
) -> Callable[..., None]:
    """Replace a parameter of a command by options; it gets a dict of those that were given.

    Args:
        table: the options' types, as typer has them, by their names in the dict.
    """
    signature = inspect.signature(command)
    own = [p for name, p in signature.parameters.items() if name != parameter]

    defaults = {
        name: False if option.__origin__ is bool else None for name, option in table.items()
    }

    @wraps(command)
    def run(**values: Any) -> None:
        given = {name: values.pop(name) for name in table}
        # A list option that was not given comes as an empty list.
        kept = {n: v for n, v in given.items() if v is not defaults[n] and v != []}
        kept |= {name: v.value for name, v in kept.items() if isinstance(v, Enum)}
        command(**values, **{parameter: kept})

    added = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=option
        )
        for name, option in table.items()
    ]
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    run.__signature__ = signature.replace(parameters=parameters + added)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters + added} | {"return": None}
    return run


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
            "another name, and the pictures after it"
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
