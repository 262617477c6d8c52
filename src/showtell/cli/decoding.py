"""The decoding options, once for every command that makes captions.

They have the names and ranges of ``DecodingConfig``'s settings. These are repeated here so that
``--help`` works without importing pydantic; a test checks that both agree.
"""

from enum import StrEnum
from typing import Annotated

import typer

from showtell.cli.groups import group


class Method(StrEnum):
    """How captions are made."""

    greedy = "greedy"
    beam = "beam"
    diverse = "diverse"
    sample = "sample"


def _above_zero(value: float | None) -> float | None:
    if value is not None and not value > 0:
        raise typer.BadParameter(f"{value} is not above 0")
    return value


@group
class Decoding:
    """What the command line changes in a model's own ``DecodingConfig``; None: nothing."""

    method: Annotated[
        Method | None,
        typer.Option(
            "--decoding", help="Decoding method; default: the one in the model's settings."
        ),
    ] = None
    beam_size: Annotated[
        int | None,
        typer.Option(
            "--beam-size",
            min=1,
            max=100,
            help="Number of hypotheses to keep; 1 is greedy search.",
        ),
    ] = None
    num_captions: Annotated[
        int | None,
        typer.Option(
            "--num-captions",
            min=1,
            max=100,
            help="Number of captions for each picture, best first.",
        ),
    ] = None
    length_penalty: Annotated[
        float | None,
        typer.Option(
            "--length-penalty",
            min=0,
            max=10,
            help="Exponent of the length in the score log p / length**penalty.",
        ),
    ] = None
    rerank: Annotated[
        bool | None,
        typer.Option(
            "--rerank/--no-rerank",
            help="Let the model's word detector, if it has one, choose among the captions that "
            "the search finds; default: rerank.",
        ),
    ] = None
    min_length: Annotated[
        int | None,
        typer.Option("--min-length", min=0, help="Smallest number of words in a caption."),
    ] = None
    max_length: Annotated[
        int | None,
        typer.Option("--max-length", min=1, max=200, help="Largest number of words in a caption."),
    ] = None
    no_repeat_ngram: Annotated[
        int | None,
        typer.Option(
            "--no-repeat-ngram",
            min=1,
            help="Never repeat any n-gram of this length within a caption.",
        ),
    ] = None
    no_repeat_around: Annotated[
        list[str] | None,
        typer.Option(
            "--no-repeat-around",
            help='Word that may not stand between a word and the same word, as "and" in "a sink '
            'and sink"; may be repeated.',
        ),
    ] = None
    forbidden_words: Annotated[
        list[str] | None,
        typer.Option(
            "--forbidden-word",
            help="Word or phrase that captions must not contain; may be repeated.",
        ),
    ] = None
    required_words: Annotated[
        list[str] | None,
        typer.Option(
            "--required-word",
            help="Word or phrase that every caption must contain; may be repeated.",
        ),
    ] = None
    no_bad_endings: Annotated[
        bool | None,
        typer.Option(
            "--no-bad-endings/--bad-endings",
            help='Do not let a caption end in words such as "with" or "a".',
        ),
    ] = None
    style: Annotated[
        str | None,
        typer.Option(
            "--style",
            help="Style of the captions: short, detailed, neutral or another that the model has "
            "learnt; neutral works with any model.",
        ),
    ] = None
    neutral: Annotated[
        bool | None,
        typer.Option(
            "--neutral/--no-neutral",
            help='Write "person" and "they" in place of English words that say a gender.',
        ),
    ] = None
    doubt: Annotated[
        float | None,
        typer.Option(
            "--doubt",
            min=0,
            max=10,
            help="Leave out colours, clothes, postures, animals and genders that the model's word "
            "detector, if it has one, finds less than so many times as probable as without a "
            "picture; 1: those that the picture speaks against; 0: none.",
        ),
    ] = None
    naming: Annotated[
        float | None,
        typer.Option(
            "--naming",
            min=0,
            max=20,
            help="Bonus (in nats) for words the image classifier is sure of but training captions "
            "rarely use; 0: off.",
        ),
    ] = None
    groups: Annotated[
        int | None,
        typer.Option(
            "--groups",
            min=1,
            help="diverse: number of beam groups; default: one for each hypothesis.",
        ),
    ] = None
    diversity: Annotated[
        float | None,
        typer.Option(
            "--diversity",
            min=0,
            help="diverse: penalty for words that another beam group already chose at this step.",
        ),
    ] = None
    min_confidence: Annotated[
        float | None,
        typer.Option(
            "--min-confidence",
            min=0,
            max=1,
            help="Leave captions with a lower confidence (0 to 1) empty, and mark them.",
        ),
    ] = None
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature",
            callback=_above_zero,
            help="sample: values below 1 favour likely words.",
        ),
    ] = None
    top_k: Annotated[
        int | None,
        typer.Option("--top-k", min=1, help="sample: draw only from the k most likely words."),
    ] = None
    top_p: Annotated[
        float | None,
        typer.Option(
            "--top-p",
            max=1,
            callback=_above_zero,
            help="sample: draw only from the most likely words that together have this "
            "probability.",
        ),
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            min=0,
            max=2**32 - 1,
            help="sample: seed of the random numbers; the same seed gives the same captions.",
        ),
    ] = None
