"""Which model captions: how it is loaded, what it is asked, and what becomes of its texts.

Models of other kinds than showtell's (hf:ID, openai:MODEL, ollama:MODEL) have settings of their
own, and may have to be downloaded first.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showtell.cli import options
from showtell.cli.groups import given, group
from showtell.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from showtell.inference.captioner import Captioner
    from showtell.inference.loading import ModelRequest
    from showtell.inference.specs import BackendSettings


class RuntimeChoice(StrEnum):
    """What computes."""

    auto = "auto"
    torch = "torch"
    onnx = "onnx"


def _any_device(value: str) -> str:
    return value if value in ("coreml", "openvino", "directml") else options.known_device(value)


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
AnyDevice = Annotated[
    str,
    typer.Option(
        "--device",
        callback=_any_device,
        help="Device to compute on: auto, cpu, cuda, cuda:1 or mps; for exports also coreml, "
        "openvino or directml.",
    ),
]
Runtime = Annotated[
    RuntimeChoice,
    typer.Option(
        "--runtime",
        help="Runtime: torch for checkpoints, onnx for exports; auto: whichever fits the model.",
    ),
]


@group
class Loading:
    """How a model is loaded."""

    device: AnyDevice = "auto"
    precision: options.Precision = "auto"
    runtime: Runtime = RuntimeChoice.auto
    trust_model: options.TrustModel = False

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
        from showtell.inference.loading import ModelRequest

        return ModelRequest(
            model, ensemble, settings=settings, cleaning=cleaning or {}, **self.arguments()
        )

    def requests(
        self,
        models: Sequence[str],
        settings: "BackendSettings",
        *,
        cleaning: Mapping[str, Any] | None = None,
    ) -> "list[ModelRequest]":
        """Several models in the library's words.

        Settings for captioners of other kinds are for those among the models. Where there are none,
        every model gets them, so that they are refused.
        """
        from showtell.inference.specs import BackendSettings, spec_of

        others = [model for model in models if spec_of(model) is not None]
        none = BackendSettings() if others else settings
        return [
            self.request(model, settings if model in others else none, cleaning=cleaning)
            for model in models
        ]


Revision = Annotated[
    str | None, typer.Option("--revision", help="hf: branch, tag or commit of the weights.")
]


@group
class Settings:
    """What is asked of captioners of other kinds: ``BackendSettings``, and ``yes``."""

    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt",
            help="hf, openai, ollama: instruction for the model, or the name of one: short, "
            "detailed or alt.",
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

        return BackendSettings.of({n: v for n, v in given(self).items() if n != "yes"})


def _replacements(given: list[str] | None) -> list[str] | None:
    """The patterns, if they can be compiled: before a model is loaded."""
    if given:
        from showtell.text.clean import Cleaning

        try:
            Cleaning(replace=tuple(given))
        except ConfigError as error:
            raise UsageError(str(error)) from None
    return given


@group
class Cleaning:
    """What becomes of the texts that a model says: ``Captioner.cleaning``."""

    tidy: Annotated[
        bool | None,  # neither of both is typed: as the model has it
        typer.Option(
            "--tidy/--no-tidy",
            help="Remove preambles, markdown and quotes from captions; default: for models that "
            "take a --prompt.",
        ),
    ] = None
    max_sentences: Annotated[
        int | None,
        typer.Option(
            "--max-sentences",
            min=1,
            help="Sentences to keep of a caption; default: 1 for models that take a --prompt.",
        ),
    ] = None
    max_words: Annotated[
        int | None,
        typer.Option(
            "--max-words",
            min=1,
            help="Most words to keep of a caption; cut at a sensible place.",
        ),
    ] = None
    replace: Annotated[
        list[str] | None,
        typer.Option(
            "--replace",
            metavar="REGEX=TEXT",
            callback=_replacements,
            help="Replace text in captions: a regular expression and its replacement; may be "
            "repeated.",
        ),
    ] = None
    prefix: Annotated[
        str | None, typer.Option("--prefix", help="Text to put before every caption.")
    ] = None
    suffix: Annotated[
        str | None, typer.Option("--suffix", help="Text to put after every caption.")
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
    """Say on standard error what a captioner computes with, and later what it waits for."""
    captioner.tell = partial(typer.echo, err=True)
    if captioner.card.kind != "showtell":
        typer.echo(captioner.describe_runtime(), err=True)
