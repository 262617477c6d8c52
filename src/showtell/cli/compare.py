"""``showtell compare``: which captioner is better, by how much, and is it chance?"""

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from showtell.cli import captioners, options
from showtell.cli.files import check_file
from showtell.cli.groups import given, group, with_options
from showtell.errors import UsageError


class TableFormat(StrEnum):
    """How the result is written."""

    text = "text"
    markdown = "markdown"
    latex = "latex"
    json = "json"


@group
class Comparison:
    """By what captioners are compared, and how that is shown."""

    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", help="Metric to compare by; may be repeated. Default: all."),
    ] = None
    bootstrap: Annotated[
        int,
        typer.Option("--bootstrap", min=1, metavar="N", help="Number of resamples and of swaps."),
    ] = 1000
    seed: options.BootstrapSeed = 0
    show: Annotated[
        int,
        typer.Option(
            "--show", min=0, help="Number of pictures to show that gained, and that lost, most."
        ),
    ] = 5
    subset: Annotated[
        bool, typer.Option("--subset", help="Compare on the images that all systems caption.")
    ] = False
    format: Annotated[
        TableFormat, typer.Option("--format", help="text, markdown, latex or json.")
    ] = TableFormat.text
    segmentation: options.Segmentation = "auto"
    language: options.Language = "auto"

    def arguments(self) -> dict[str, Any]:
        """For ``compare_files`` and ``compare_models``."""
        from showtell.metrics.bootstrap import Resampling

        return {
            "metrics": self.metrics or None,
            "resampling": Resampling(self.bootstrap, self.seed),
            "subset": self.subset,
            "num_shown": self.show,
            "segmentation": self.segmentation,
            "language": self.language,
        }


@with_options
def compare(
    *,
    systems: Annotated[
        list[str],
        typer.Argument(
            metavar="SYSTEM",
            help="Two or more files of captions and then the file of references, as for "
            "`showtell score`; or, with --data, two or more models. The first is what the others "
            "are compared with.",
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option("--data", help="Captioned pictures, on which models are compared."),
    ] = None,
    split: Annotated[
        options.SplitChoice, typer.Option("--split", help="Split of --data to caption.")
    ] = options.SplitChoice.val,
    how: Comparison,
    images: options.Images = None,
    encoding: options.Encoding = None,
    loading: captioners.Loading,
    output: options.OutputFile = None,
    overwrite: options.Overwrite = False,
    settings: captioners.Settings,
) -> None:
    """Compare captioners on the same pictures, with intervals and two tests of the differences.

    A difference counts as shown (*) if the paired bootstrap and approximate randomisation both say
    p < 0.05. Models are compared by the captions that `showtell evaluate` wrote, if these are of
    the same weights, settings and pictures; otherwise they caption the pictures first.
    """
    from showtell.cli.console import ConsoleReporter
    from showtell.core.files import write_text
    from showtell.data.request import DataRequest
    from showtell.evaluation.compare import compare_files, compare_models
    from showtell.evaluation.tables import FORMATS
    from showtell.metrics import meteor

    check_file(output, [*systems, *([data] if data else [])], is_kept=not overwrite)
    _check_systems(systems, data)
    if not how.metrics or "METEOR" in how.metrics:
        meteor.prepare_aloud(lambda text: typer.echo(text, err=True))
    if data is None:
        if given(settings):
            raise UsageError(
                "files of captions are compared as they are: leave out the options for models, "
                "such as --prompt"
            )
        *results, references = map(Path, systems)
        found = compare_files(results, references, **how.arguments())
    else:
        models = loading.requests(systems, captioners.prepared(systems, settings))
        place = DataRequest(data, None, images, encoding=encoding)
        with ConsoleReporter() as report:
            found = compare_models(
                models, place, split=split.value, report=report, **how.arguments()
            )
    for warning in found.warnings:
        typer.echo(f"warning: {warning}", err=True)
    table = FORMATS[how.format.value](found)
    if output:
        write_text(output, table + "\n")
    else:
        typer.echo(table)


def _check_systems(systems: list[str], data: str | None) -> None:
    """Raise UsageError where there are too few, or models without data to compare them on."""
    if data is None and len(systems) < 3:
        if all(map(_is_model, systems)):
            verb = "are models" if len(systems) > 1 else "is a model"
            more = "" if len(systems) > 1 else " MODEL"
            raise UsageError(
                f"{' and '.join(systems)} {verb}; to compare models: showtell compare "
                f"{shlex.join(systems)}{more} --data DATA"
            )
        raise UsageError(
            f"{len(systems)} files given: expected two or more files of captions and then the "
            "references, or models with --data DATA"
        )
    if data is None:
        _refuse_models(systems)
    elif len(systems) < 2:
        raise UsageError("1 model given: expected two or more to compare on --data")


def _refuse_models(systems: list[str]) -> None:
    """Raise UsageError where models are given in the place of files, as ``evaluate`` has them."""
    *names, data = systems
    for name in names:
        if _is_model(name) or Path(name).is_dir():
            raise UsageError(
                f"{name} is a model, and files of captions were expected; to compare models: "
                f"showtell compare {shlex.join(names)} --data {shlex.quote(data)}"
            )


def _is_model(name: str) -> bool:
    """Whether this names a model, or is the folder of a run, a checkpoint or an export."""
    from showtell.inference.files import CONFIG, MANIFEST
    from showtell.inference.specs import kinds
    from showtell.pretrained import shipped_folder

    if shipped_folder(name) or name.partition(":")[0] in kinds():
        return True
    return any((Path(name) / file).is_file() for file in (CONFIG, MANIFEST))
