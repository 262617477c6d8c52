"""The decoding options, once for every command that makes captions.

They have the names and ranges of ``DecodingConfig``'s settings. These are repeated here so that
``--help`` works without importing pydantic; a test checks that both agree.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from showtell.cli.options import with_options

Decoding = dict[str, Any]
"""What the command line changes in a model's own ``DecodingConfig``."""


class Method(StrEnum):
    """How captions are made."""

    greedy = "greedy"
    beam = "beam"
    diverse = "diverse"
    sample = "sample"


def _option(
    type_: Any, name: str, help: str, *, min: float | None = None, max: float | None = None
) -> Any:
    return Annotated[type_ | None, typer.Option(name, min=min, max=max, help=help)]


def _above_zero(value: float | None) -> float | None:
    if value is not None and not value > 0:
        raise typer.BadParameter(f"{value} is not above 0")
    return value


def _positive(name: str, help: str, *, max: float | None = None) -> Any:
    return Annotated[float | None, typer.Option(name, callback=_above_zero, max=max, help=help)]


OPTIONS: dict[str, Any] = {
    "method": _option(
        Method, "--decoding", "Decoding method; default: the one in the model's settings."
    ),
    "beam_size": _option(
        int, "--beam-size", "Number of hypotheses to keep; 1 is greedy search.", min=1, max=100
    ),
    "num_captions": _option(
        int, "--num-captions", "Number of captions for each picture, best first.", min=1, max=100
    ),
    "length_penalty": _option(
        float,
        "--length-penalty",
        "Exponent of the length in the score log p / length**penalty.",
        min=0,
        max=10,
    ),
    "rerank": _option(
        bool,
        "--rerank/--no-rerank",
        "Choose among the captions that the search finds by what the model's word detector sees, "
        "if it has one; default: rerank.",
    ),
    "min_length": _option(int, "--min-length", "Smallest number of words in a caption.", min=0),
    "max_length": _option(
        int, "--max-length", "Largest number of words in a caption.", min=1, max=200
    ),
    "no_repeat_ngram": _option(
        int,
        "--no-repeat-ngram",
        "Never repeat any n-gram of this length within a caption.",
        min=1,
    ),
    "forbidden_words": _option(
        list[str],
        "--forbidden-word",
        "Word or phrase that captions must not contain; may be repeated.",
    ),
    "required_words": _option(
        list[str],
        "--required-word",
        "Word or phrase that every caption must contain; may be repeated.",
    ),
    "no_bad_endings": _option(
        bool,
        "--no-bad-endings/--bad-endings",
        'Do not let a caption end in words such as "with" or "a".',
    ),
    "style": _option(
        str,
        "--style",
        "Style of the captions: short, detailed, neutral or another that the model has learnt; "
        "neutral works with any model.",
    ),
    "neutral": _option(
        bool,
        "--neutral/--no-neutral",
        'Write "person" and "they" in place of English words that say a gender.',
    ),
    "naming": _option(
        float,
        "--naming",
        "Bonus (in nats) for words the image classifier is sure of but training captions rarely "
        "use; 0: off.",
        min=0,
        max=20,
    ),
    "groups": _option(
        int, "--groups", "diverse: number of beam groups; default: one for each hypothesis.", min=1
    ),
    "diversity": _option(
        float,
        "--diversity",
        "diverse: penalty for words that another beam group already chose at this step.",
        min=0,
    ),
    "min_confidence": _option(
        float,
        "--min-confidence",
        "Leave captions with a lower confidence (0 to 1) empty, and mark them.",
        min=0,
        max=1,
    ),
    "temperature": _positive("--temperature", "sample: values below 1 favour likely words."),
    "top_k": _option(int, "--top-k", "sample: draw only from the k most likely words.", min=1),
    "top_p": _positive(
        "--top-p",
        "sample: draw only from the most likely words that together have this probability.",
        max=1,
    ),
    "seed": _option(
        int,
        "--seed",
        "sample: seed of the random numbers; the same seed gives the same captions.",
        min=0,
        max=2**32 - 1,
    ),
}


def with_decoding(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's parameter ``decoding`` by the options; it gets those that were given."""
    return with_options(command, "decoding", OPTIONS)
