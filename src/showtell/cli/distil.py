"""``showtell distil``: a captioner of one's own from a larger one and pictures without captions."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showtell.cli import captioners, options
from showtell.cli.asking import Asking
from showtell.cli.console import stopped
from showtell.cli.decoding import Decoding
from showtell.cli.groups import given, group, with_options
from showtell.cli.models import Storage
from showtell.core.files import json_text
from showtell.errors import UsageError

if TYPE_CHECKING:
    from showtell.distil.run import Distilled


class StyleChoice(StrEnum):
    """Styles that a student can learn."""

    short = "short"
    detailed = "detailed"
    neutral = "neutral"


@group
class Lesson:
    """What the student learns."""

    start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="MODEL", help="Model that the student starts from; default: none."
        ),
    ] = None
    captions: Annotated[
        int,
        typer.Option(
            "--captions", min=1, max=100, help="Captions that the teacher gives of each picture."
        ),
    ] = 5
    human: Annotated[
        str | None,
        typer.Option(
            "--human",
            metavar="DATA",
            help="Pictures captioned by people; they count for more and form the test set.",
        ),
    ] = None
    human_weight: Annotated[
        int,
        typer.Option(
            "--human-weight",
            min=1,
            help="Weight of a caption by a person, where one by the teacher has 1.",
        ),
    ] = 4
    learn_style: Annotated[
        list[StyleChoice] | None,
        typer.Option(
            "--learn-style",
            help="Style that the student learns beside plain captions; may be repeated.",
        ),
    ] = None
    config: Annotated[
        Path | None,
        typer.Option(
            "-c",
            "--config",
            metavar="FILE|PRESET",
            help="The student's settings; default: the preset for the number of pictures.",
        ),
    ] = None
    overrides: Annotated[
        list[str] | None,
        typer.Option("-s", "--set", help="A setting of the student; may be repeated."),
    ] = None
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="NAME=VALUE",
            help="What to leave out of the teacher's captions, such as --filter "
            "min_confidence=0.3; may be repeated (docs/distil.md lists all).",
        ),
    ] = None
    again: Annotated[
        str | None,
        typer.Option("--again", metavar="STAGE", help="Make this stage and those after it anew."),
    ] = None
    weights: Annotated[
        Storage, typer.Option("--weights", help="Format of the student's weights.")
    ] = Storage.fp16
    store: Annotated[
        Path | None,
        typer.Option(
            "--store",
            help="Feature store of the pictures, to share among several students; default: one in "
            "the output folder.",
        ),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """For ``DistilRequest``."""
        from showtell.data.request import DataRequest
        from showtell.distil.request import FilterConfig

        return {
            "start": self.start,
            "captions": self.captions,
            "human": DataRequest(self.human) if self.human else None,
            "human_weight": self.human_weight,
            "styles": [one.value for one in self.learn_style or []],
            "config_file": self.config,
            "overrides": self.overrides or (),
            "filters": FilterConfig.of(self.filters or []),
            "again": self.again,
            "weights": self.weights.value,
            "store": self.store,
        }


@with_options
def distil(
    *,
    teacher: Annotated[
        str,
        typer.Argument(
            metavar="TEACHER",
            help="Captioner to learn from: whatever `showtell caption --model` takes.",
        ),
    ],
    pictures: options.Pictures,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder with a subfolder for each stage.")
    ],
    lesson: Lesson,
    device: options.Device = "auto",
    trust_model: options.TrustModel = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be asked and trained; do nothing.")
    ] = False,
    asking: Asking,
    as_json: options.Json = False,
    cleaning: captioners.Cleaning,
    settings: captioners.Settings,
    decoding: Decoding,
) -> None:
    """Train a small captioner on the captions that TEACHER gives to pictures.

    The stages are pictures, captions, filter, fit, data, student, model and report; each has a
    folder in the output folder and is made once, so the same command resumes after Ctrl-C. The
    model is in model/, with a card that names its teacher. The options from --tidy on are about the
    teacher and its captions.

    For teachers behind a server, the amount to send and about how many tokens it makes are printed
    before the first picture is sent; with --dry-run nothing is sent.

    Without --human, a part of the teacher's captions is held out, and the figures measure how far
    the student agrees with the teacher. report/rating.html is a sheet on which a person judges 50
    pictures.
    """
    from showtell.bulk.estimate import Price
    from showtell.cli.console import ConsoleReporter
    from showtell.distil.request import DistilRequest
    from showtell.distil.run import describe_plan
    from showtell.distil.run import distil as make

    if (number := decoding.num_captions) is not None:
        raise UsageError(
            f"--num-captions {number}: use --captions {number} for the captions that the teacher "
            "gives of each picture"
        )
    asking.check(teacher, dry_run=dry_run)
    request = DistilRequest(
        teacher=teacher,
        pictures=pictures,
        folder=output,
        decoding=given(decoding),
        device=device,
        trust_model=trust_model,
        # A plan downloads nothing.
        settings=settings.backend() if dry_run else captioners.prepared([teacher], settings),
        cleaning=given(cleaning),
        price=Price.given(asking.price),
        **lesson.arguments(),
    )
    with ConsoleReporter() as report:
        if dry_run:
            typer.echo(describe_plan(request, report, measure=asking.measure))
            return
        try:
            made = make(request, report)
        except KeyboardInterrupt:  # between two answers, or a second time
            made = None
    if made is None:
        raise stopped()
    if as_json:
        typer.echo(json_text({"model": str(made.model), **made.found}))
    else:
        _print(made, output, is_human=lesson.human is not None)


def _print(made: "Distilled", output: Path, *, is_human: bool) -> None:
    for who, found in made.figures.items():
        figures = ", ".join(
            f"{name} {found['metrics'][name]:.3f}"
            for name in ("CIDEr-D", "BLEU-4")
            if name in found["metrics"]
        )
        typer.echo(f"{who}, {found['num_pictures']:,} test pictures: {figures}")
    if not is_human:
        sheet = output / "report" / "rating.html"
        advice = f"; to judge it, fill in {sheet}" if sheet.is_file() else ""
        typer.echo(f"these figures measure agreement with the teacher, not quality{advice}")
    size = made.found["model"]["num_bytes"]
    typer.echo(f"the model is {made.model}, {size / 1e6:.1f} MB, with its card")
