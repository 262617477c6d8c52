"""Options that several commands share, and groups of them.

Values that no command accepts are refused here, with exit code 2.
"""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showtell.cli.groups import given
from showtell.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from showtell.data.request import DataRequest
    from showtell.inference.captioner import Captioner, ModelRequest
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


@dataclass(frozen=True, slots=True, kw_only=True)
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
    if store is not None and not (store / "store.json").is_file():
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
TrustModel = Annotated[
    bool,
    typer.Option(
        "--trust-model",
        help="Let the model's settings name weights outside of its folder, or an encoder to fetch.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """How a model is loaded."""

    device: AnyDevice = "auto"
    precision: Precision = "auto"
    runtime: Runtime = RuntimeChoice.auto
    trust_model: TrustModel = False

    def arguments(self) -> dict[str, Any]:
        """For ``Captioner.load``."""
        return {
            "device": self.device,
            "precision": self.precision,
            "runtime": self.runtime.value,
            "trust_model": self.trust_model,
        }

    def request(
        self,
        model: str,
        settings: "BackendSettings",
        *,
        ensemble: Sequence[str] = (),
        cleaning: Mapping[str, Any] | None = None,
    ) -> "ModelRequest":
        """A model in the library's words."""
        from showtell.inference.captioner import ModelRequest

        return ModelRequest(
            model, ensemble, settings=settings, cleaning=cleaning or {}, **self.arguments()
        )


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
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Folder of a run or a checkpoint, a name that `showtell models` lists, or a captioner "
        "of another kind: hf:ID, openai:MODEL, ollama:MODEL.",
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
        help="Files, folders, globs, lists (.txt, .jsonl, .parquet), .tar archives or URLs.",
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


Revision = Annotated[
    str | None, typer.Option("--revision", help="hf: branch, tag or commit of the weights.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is asked of captioners of other kinds: ``BackendSettings``, and ``yes``."""

    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt",
            help="hf, openai, ollama: instruction for the model, or short, detailed or alt, which "
            "name one.",
        ),
    ] = None
    revision: Revision = None
    trust_remote_code: Annotated[
        bool,
        typer.Option("--trust-remote-code", help="hf: run Python that comes with the weights."),
    ] = False
    base_url: Annotated[
        str | None,
        typer.Option(
            "--base-url",
            help="openai, ollama: address of the server; default: OPENAI_BASE_URL or OLLAMA_HOST.",
        ),
    ] = None
    max_side: Annotated[
        int | None,
        typer.Option(
            "--max-side",
            min=32,
            max=8192,
            help="hf, openai, ollama: longest side in pixels to which pictures are shrunk; default "
            "of servers: 768.",
        ),
    ] = None
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            min=1,
            max=256,
            help="openai, ollama: number of requests at a time; default: 8.",
        ),
    ] = None
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            min=0.1,
            max=3600,
            help="openai, ollama: seconds that an answer may take; default: 120.",
        ),
    ] = None
    retries: Annotated[
        int | None,
        typer.Option(
            "--retries",
            min=0,
            max=100,
            help="openai, ollama: how often a request that failed is sent again; default: 4.",
        ),
    ] = None
    yes: Annotated[bool, typer.Option("--yes", help="hf: download the model without asking.")] = (
        False
    )

    def backend(self) -> "BackendSettings":
        """The settings alone; ``prepared`` also downloads what they need."""
        from showtell.inference.specs import BackendSettings

        return BackendSettings.of(given(replace(self, yes=False)))


def _replacements(given: list[str] | None) -> list[str] | None:
    """The patterns, if they can be compiled: before a model is loaded."""
    if given:
        from showtell.text.clean import Cleaning

        try:
            Cleaning(replace=tuple(given))
        except ConfigError as error:
            raise UsageError(str(error)) from None
    return given


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaning:
    """What becomes of the texts that a model says: ``Captioner.cleaning``."""

    tidy: Annotated[
        bool | None,  # neither of both is typed: as the model has it
        typer.Option(
            "--tidy/--no-tidy",
            help="Remove preambles, markdown and quotes from captions; default: of models that "
            "take a --prompt.",
        ),
    ] = None
    max_sentences: Annotated[
        int | None,
        typer.Option(
            "--max-sentences",
            min=1,
            help="Sentences of a caption that are kept; default: 1 of models that take a --prompt.",
        ),
    ] = None
    max_words: Annotated[
        int | None,
        typer.Option(
            "--max-words",
            min=1,
            help="Words of a caption that are kept; cut at a sensible place.",
        ),
    ] = None
    replace: Annotated[
        list[str] | None,
        typer.Option(
            "--replace",
            metavar="REGEX=TEXT",
            callback=_replacements,
            help="Replace text in captions: a regular expression and what it becomes; may be "
            "repeated.",
        ),
    ] = None
    prefix: Annotated[
        str | None, typer.Option("--prefix", help="Text to put before every caption.")
    ] = None
    suffix: Annotated[
        str | None, typer.Option("--suffix", help="Text to put behind every caption.")
    ] = None


def prepared(models: Iterable[str], settings: Settings) -> "BackendSettings":
    """The settings, once models of the hub are on this machine.

    What there is to download is said, and is downloaded if ``--yes`` was given or a person agrees.

    Raises:
        ConfigError: there is nobody to ask, or no was the answer, or ``--yes`` is for nothing.
    """
    models = list(models)
    backend = settings.backend()
    from_hub = [model for model in models if model.startswith("hf:")]
    if from_hub:
        from showtell.cli.hub import fetch_aloud

        for model in from_hub:
            fetch_aloud(model, backend, yes=settings.yes)
    elif settings.yes:
        raise ConfigError(f"--yes is for models of the hub (hf:ID), not for {', '.join(models)}")
    return backend


def say_runtime(captioner: "Captioner") -> None:
    """Say on standard error what a captioner of another kind computes with."""
    if captioner.card.kind != "showtell":
        from showtell.inference.backends.pictures import PictureCaptioner

        assert isinstance(captioner, PictureCaptioner)
        typer.echo(captioner.describe_runtime(), err=True)


class SplitChoice(StrEnum):
    """Which records to take."""

    train = "train"
    val = "val"
    test = "test"
    all = "all"
