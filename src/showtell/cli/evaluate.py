"""``showtell evaluate`` and ``showtell score``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showtell.cli import options
from showtell.cli.decoding import Decoding, with_decoding

if TYPE_CHECKING:
    from showtell.metrics import Scores


@with_decoding
def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run's folder.")],
    data: options.Data,
    split: Annotated[options.SplitChoice, typer.Option("--split", help="Which pictures.")] = (
        options.SplitChoice.test
    ),
    predictions: Annotated[
        Path | None,
        typer.Option("--predictions", help="Where the captions go, in COCO's results format."),
    ] = None,
    output: options.Output = None,
    ensemble: options.Ensemble = None,
    format: options.Format = None,
    images: options.Images = None,
    store: options.Store = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    as_json: options.Json = False,
    *,
    decoding: Decoding,
) -> None:
    """Caption the pictures of DATA with MODEL and score the captions.

    The captions are written in COCO's results format, by default into evaluation/ in the model's
    folder, with the scores beside them.
    """
    from showtell.cli.console import ConsoleReporter
    from showtell.evaluate_model import evaluate_model

    with ConsoleReporter() as report:
        result = evaluate_model(
            model,
            data,
            split=split.value,
            decoding_changes=decoding,
            ensemble=ensemble or (),
            predictions=predictions,
            format=format,
            images=images,
            store_folder=store,
            device=device,
            precision=precision,
            report=report,
        )
        report.note(f"captions: {result.predictions}")
    _print_scores(result.scores, result.to_dict(), output, as_json)


def score(
    results: Annotated[Path, typer.Argument(help="Captions in COCO's results format.")],
    references: Annotated[Path, typer.Argument(help="COCO annotations or a Karpathy JSON.")],
    per_image: Annotated[bool, typer.Option("--per-image", help="Each picture's scores.")] = False,
    output: options.Output = None,
    as_json: options.Json = False,
) -> None:
    """Score captions that any program made, by COCO's metrics, without Java."""
    from showtell.metrics.coco_io import score_files

    scores = score_files(results, references)
    _print_scores(scores, scores.to_dict(per_image=per_image), output, as_json)


def _print_scores(
    scores: "Scores", values: dict[str, Any], output: Path | None, as_json: bool
) -> None:
    from showtell.files import write_text

    text = json.dumps(values, ensure_ascii=False, indent=2) if as_json else scores.table()
    if not as_json:
        for warning in scores.warnings:
            typer.echo(f"warning: {warning}", err=True)
    if output:
        write_text(output, text + "\n")
    else:
        typer.echo(text)
