"""``showtell compare``: which captioner is better, by how much, and is it chance?"""

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from showtell.cli import options


class TableFormat(StrEnum):
    """How the result is written."""

    text = "text"
    markdown = "markdown"
    latex = "latex"
    json = "json"


@options.with_settings
def compare(
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
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", help="Metric to compare by; may be repeated. Default: all."),
    ] = None,
    bootstrap: Annotated[
        int,
        typer.Option("--bootstrap", min=1, metavar="N", help="Number of resamples and of swaps."),
    ] = 1000,
    seed: options.BootstrapSeed = 0,
    show: Annotated[
        int,
        typer.Option(
            "--show", min=0, help="Number of pictures to show that gained, and that lost, most."
        ),
    ] = 5,
    subset: Annotated[
        bool, typer.Option("--subset", help="Compare on the images that all systems caption.")
    ] = False,
    format: Annotated[
        TableFormat, typer.Option("--format", help="text, markdown, latex or json.")
    ] = TableFormat.text,
    segmentation: options.Segmentation = "auto",
    language: options.Language = "auto",
    images: options.Images = None,
    encoding: options.Encoding = None,
    device: options.AnyDevice = "auto",
    runtime: options.Runtime = options.RuntimeChoice.auto,
    precision: options.Precision = "auto",
    trust_model: options.TrustModel = False,
    output: options.OutputFile = None,
    overwrite: options.Overwrite = False,
    *,
    settings: options.Settings,
) -> None:
    """Compare captioners on the same pictures, with intervals and two tests of the differences.

    A difference counts as shown (*) if the paired bootstrap and approximate randomisation both say
    p < 0.05. Models are compared by the captions that `showtell evaluate` wrote, if these are of
    the same weights, settings and pictures; otherwise they caption the pictures first.
    """
    from showtell.cli.console import ConsoleReporter
    from showtell.cli.options import check_file
    from showtell.core.files import write_text
    from showtell.errors import UsageError
    from showtell.evaluation.compare import compare_files, compare_models
    from showtell.evaluation.tables import FORMATS
    from showtell.metrics import meteor
    from showtell.metrics.bootstrap import Resampling

    check_file(output, [*systems, *([data] if data else [])], is_kept=not overwrite)
    if data is None and len(systems) < 3:
        raise UsageError(
            f"{len(systems)} files given: expected two or more files of captions and then the "
            "references, or models with --data DATA"
        )
    if data is None:
        _refuse_models(systems)
    elif len(systems) < 2:
        raise UsageError("1 model given: expected two or more to compare on --data")
    if not metrics or "METEOR" in metrics:
        meteor.prepare_aloud(lambda text: typer.echo(text, err=True))
    common: dict[str, Any] = {
        "metrics": metrics or None,
        "resampling": Resampling(bootstrap, seed),
        "subset": subset,
        "num_shown": show,
        "segmentation": segmentation,
        "language": language,
    }
    if data is None:
        if settings:
            raise UsageError("files of captions are compared as they are: leave out the options")
        *results, references = map(Path, systems)
        found = compare_files(results, references, **common)
    else:
        from showtell.data.request import DataRequest
        from showtell.inference.captioner import ModelRequest
        from showtell.inference.specs import BackendSettings, spec_of

        others = options.prepared(systems, settings)
        requests = [
            ModelRequest(
                name,
                (),
                device,
                precision,
                trust_model,
                runtime.value,
                # Settings for captioners of other kinds are for those among the models.
                settings=others if spec_of(name) else BackendSettings(),
            )
            for name in systems
        ]
        place = DataRequest(data, None, images, encoding=encoding)
        with ConsoleReporter() as report:
            found = compare_models(requests, place, split=split.value, report=report, **common)
    for warning in found.warnings:
        typer.echo(f"warning: {warning}", err=True)
    table = FORMATS[format.value](found)
    if output:
        write_text(output, table + "\n")
    else:
        typer.echo(table)


def _refuse_models(systems: list[str]) -> None:
    """Raise UsageError where models are given in the place of files, as ``evaluate`` has them."""
    from showtell.errors import UsageError
    from showtell.inference.specs import spec_of
    from showtell.pretrained import DEFAULT

    *names, data = systems
    for name in names:
        if name == DEFAULT or spec_of(name) or Path(name).is_dir():
            raise UsageError(
                f"{name} is a model, and files of captions were expected; to compare models: "
                f"showtell compare {shlex.join(names)} --data {shlex.quote(data)}"
            )
