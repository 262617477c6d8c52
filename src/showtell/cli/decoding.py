"""The decoding options, once for every command that makes captions.

They carry the names of ``DecodingConfig``'s settings, which this cannot read: ``--help`` is to
answer without pydantic. A test holds the two together.
"""

import inspect
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from typing import Annotated, Any

import typer

Decoding = dict[str, Any]
"""What the command line changes in a model's own ``DecodingConfig``."""


class Method(StrEnum):
    """How captions are made."""

    greedy = "greedy"
    beam = "beam"
    diverse = "diverse"
    sample = "sample"


def _option(type_: Any, name: str, help: str) -> Any:
    return Annotated[type_ | None, typer.Option(name, help=help)]


OPTIONS: dict[str, Any] = {
    "method": _option(Method, "--decoding", "How to search; default: as the model's settings say."),
    "beam_size": _option(int, "--beam-size", "Hypotheses kept; 1 is greedy search."),
    "num_captions": _option(int, "--num-captions", "Captions a picture, the best first."),
    "length_penalty": _option(float, "--length-penalty", "Scores are log p / length**penalty."),
    "min_length": _option(int, "--min-length", "Words a caption at least."),
    "max_length": _option(int, "--max-length", "Words a caption at most."),
    "no_repeat_ngram": _option(
        int, "--no-repeat-ngram", "No so many words in a row come twice in a caption."
    ),
    "forbidden_words": _option(
        list[str], "--forbidden-word", "A word that never comes out; may be repeated."
    ),
    "required_words": _option(
        list[str], "--required-word", "A word that every caption has; may be repeated."
    ),
    "no_bad_endings": _option(
        bool, "--no-bad-endings/--bad-endings", 'No caption ends in "with a" and the like.'
    ),
    "naming": _option(
        float, "--naming", "What captions hardly had, the classifier names by so many nats; 0: off."
    ),
    "groups": _option(int, "--groups", "diverse: groups of the beam; default: of one each."),
    "diversity": _option(float, "--diversity", "diverse: how much groups shun each other's words."),
    "min_confidence": _option(
        float, "--min-confidence", "Captions that are less sure, 0 to 1, are left empty and marked."
    ),
    "temperature": _option(float, "--temperature", "sample: below 1 prefers likely words."),
    "top_k": _option(int, "--top-k", "sample: only the k likeliest words."),
    "top_p": _option(float, "--top-p", "sample: only the likeliest words with this probability."),
    "seed": _option(int, "--seed", "sample: the same seed, the same captions."),
}


def with_decoding(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's parameter ``decoding`` by the options; it gets those that were given."""
    signature = inspect.signature(command)
    own = [p for name, p in signature.parameters.items() if name != "decoding"]

    @wraps(command)
    def run(**values: Any) -> None:
        given = {name: values.pop(name) for name in OPTIONS}
        # A list option that was not given comes as an empty list.
        decoding = {name: value for name, value in given.items() if value not in (None, [])}
        if "method" in decoding:
            decoding["method"] = decoding["method"].value
        command(**values, decoding=decoding)

    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
        for name, option in OPTIONS.items()
    ]
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    run.__signature__ = signature.replace(parameters=parameters + added)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters + added} | {"return": None}
    return run
