"""``showtell evaluate`` and ``showtell score``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showtell.cli import options
from showtell.cli.decoding import Decoding, with_decoding

if TYPE_CHECKING:
    from showtell.metrics import Scores

MODEL_HELP = "A run's folder or a checkpoint's, or a name of `showtell models`."


@with_decoding
def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    data: options.Data,
    split: Annotated[options.SplitChoice, typer.Option("--split", help="Which pictures.")] = (
        options.SplitChoice.test
    ),
    predictions: Annotated[
        Path | None,
        typer.Option("--predictions", help="Where the captions go, in COCO's results format."),
    ] = None,
    output: options.OutputFile = None,
    ensemble: options.Ensemble = None,
    format: options.Format = None,
    images: options.Images = None,
    store: options.Store = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    trust_model: options.TrustModel = False,
    as_json: options.Json = False,
    overwrite: options.Overwrite = False,
    *,
    decoding: Decoding,
) -> None:
    """Caption the pictures of DATA with MODEL and score the captions.

    The captions are written in COCO's results format, by default into evaluation/ in the model's
    folder, with the scores beside them; of a model that comes with showtell, into evaluation/ in
    the working directory.
    """
    from showtell.cli.console import ConsoleReporter
    from showtell.cli.options import check_file
    from showtell.data.request import DataRequest
    from showtell.evaluation.evaluate import evaluate_model
    from showtell.inference.captioner import ModelRequest

    check_file(output, [data], is_kept=not overwrite)
    check_file(
        predictions, [data], option="--predictions", makes_folder=True, is_kept=not overwrite
    )
    with ConsoleReporter() as report:
        result = evaluate_model(
            ModelRequest(model, ensemble or (), device, precision, trust_model),
            DataRequest(data, format, images, store),
            split=split.value,
            decoding_changes=decoding,
            predictions=predictions,
            report=report,
        )
        report.note(f"captions: {result.predictions}")
    _print(result.scores, result.scores.table(), result.to_dict(), output, as_json)


def score(
    results: Annotated[Path, typer.Argument(help="Captions: COCO results, JSON lines or a table.")],
    references: Annotated[
        Path, typer.Argument(help="COCO annotations, a Karpathy JSON, JSON lines or a table.")
    ],
    per_image: Annotated[bool, typer.Option("--per-image", help="Each picture's scores.")] = False,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            help="BLEU-4, METEOR, ROUGE-L, CIDEr-D, ...; may be repeated. Default: all that need "
            "no Java. SPICE runs its authors' program, which needs Java and its models.",
        ),
    ] = None,
    subset: Annotated[
        bool, typer.Option("--subset", help="Score the captioned images alone.")
    ] = False,
    output: options.OutputFile = None,
    as_json: options.Json = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Score captions that any program made, by COCO's metrics, without Java.

    The references' tokens are kept in the cache folder, so that a second scoring starts at once.
    """
    from showtell.cli.options import check_file
    from showtell.metrics import meteor
    from showtell.metrics.coco_io import score_files

    check_file(output, [results, references], is_kept=not overwrite)
    if not metrics or "METEOR" in metrics:
        meteor.prepare_aloud(lambda text: typer.echo(text, err=True))
    scores = score_files(results, references, metrics=metrics or None, subset=subset)
    table, values = scores.table(per_image=per_image), scores.to_dict(per_image=per_image)
    _print(scores, table, values, output, as_json)


def _print(
    scores: "Scores", table: str, values: dict[str, Any], output: Path | None, as_json: bool
) -> None:
    from showtell.core.files import write_text

    text = json.dumps(values, ensure_ascii=False, indent=2) if as_json else table
    if not as_json:
        for warning in scores.warnings:
            typer.echo(f"warning: {warning}", err=True)
    if output:
        write_text(output, text + "\n")
    else:
        typer.echo(text)
