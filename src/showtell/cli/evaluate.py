"""``showtell evaluate`` and ``showtell score``: measure captions with COCO's metrics."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from showtell.cli import captioners, options
from showtell.cli.decoding import Decoding
from showtell.cli.files import check_file
from showtell.cli.groups import given, group, with_options
from showtell.core.files import json_text

if TYPE_CHECKING:
    from showtell.metrics import Scores
    from showtell.metrics.extra_files import Extras


@with_options
def evaluate(
    *,
    model: captioners.ModelArgument,
    split: Annotated[options.SplitChoice, typer.Option("--split", help="Split to caption.")] = (
        options.SplitChoice.test
    ),
    predictions: Annotated[
        Path | None,
        typer.Option("--predictions", help="File for the captions, in COCO's results format."),
    ] = None,
    output: options.OutputFile = None,
    ensemble: captioners.Ensemble = None,
    data: options.DataSet,
    store: options.Store = None,
    loading: captioners.Loading,
    bootstrap: options.Bootstrap = None,
    as_json: options.Json = False,
    overwrite: options.Overwrite = False,
    cleaning: captioners.Cleaning,
    settings: captioners.Settings,
    decoding: Decoding,
) -> None:
    """Caption the pictures of DATA with MODEL and score the captions.

    The captions are written in COCO's results format, with the scores beside them. By default they
    go into evaluation/ in the model's folder; for a model that comes with showtell, into
    evaluation/ in the working directory. Each name ends in digits of a fingerprint (weights,
    settings, pictures), so that other captions do not replace them.
    """
    from showtell.cli.console import ConsoleReporter
    from showtell.evaluation.kept import SCORES, evaluate_model
    from showtell.metrics.bootstrap import Resampling

    is_kept, inputs = not overwrite, [data.data]
    check_file(output, inputs, is_kept=is_kept)
    for path in (predictions, predictions and predictions.with_suffix(SCORES)):
        check_file(path, inputs, option="--predictions", makes_folder=True, is_kept=is_kept)
    backend = captioners.prepared([model], settings)
    with ConsoleReporter() as report:
        result = evaluate_model(
            loading.request(model, backend, ensemble=ensemble or (), cleaning=given(cleaning)),
            data.request(store),
            split=split.value,
            decoding_changes=given(decoding),
            predictions=predictions,
            resampling=Resampling(bootstrap, decoding.seed or 0) if bootstrap else None,
            report=report,
        )
        report.note(f"captions: {result.predictions}")
    _print(result.scores, result.scores.table(), result.to_dict(), output, as_json)


@group
class ExtraMetrics:
    """What to compute besides COCO's metrics."""

    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Also compute what CIDEr does not see: invented objects (CHAIR), gender, "
            "diversity, length, bad endings and repeated phrases.",
        ),
    ] = False
    instances: Annotated[
        Path | None,
        typer.Option(
            "--instances",
            help="COCO's instances file, for CHAIR. Default: the objects that references mention.",
        ),
    ] = None
    train_captions: Annotated[
        Path | None,
        typer.Option(
            "--train-captions",
            help="Captions that the captioner was trained on: also compute the share of captions "
            "that are not among them.",
        ),
    ] = None
    clip: Annotated[
        str | None,
        typer.Option(
            "--clip",
            metavar="MODEL",
            help="Also compute CLIPScore and RefCLIPScore, with this folder of a CLIP or a name "
            "in the Hugging Face cache; needs --images.",
        ),
    ] = None
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of the pictures, for --clip.")
    ] = None
    bert: Annotated[
        str | None,
        typer.Option(
            "--bert",
            metavar="MODEL",
            help="Also compute BERTScore, with this folder of an encoder or a name in the Hugging "
            "Face cache.",
        ),
    ] = None
    bert_layer: Annotated[
        int | None,
        typer.Option("--bert-layer", min=0, help="Layer that BERTScore compares. Default: last."),
    ] = None

    def request(self) -> "Extras":
        """The same in the library's words."""
        from showtell.metrics.extra_files import Extras

        return Extras(
            check=self.check,
            instances=self.instances,
            train_captions=self.train_captions,
            clip=self.clip,
            pictures=self.images,
            bert=self.bert,
            bert_layer=self.bert_layer,
        )


@with_options
def score(
    *,
    results: Annotated[
        Path, typer.Argument(help="Captions to score: COCO results, JSON lines or a table.")
    ],
    references: Annotated[
        Path,
        typer.Argument(
            help="References: COCO annotations, a Karpathy JSON, JSON lines or a table."
        ),
    ],
    per_image: Annotated[
        bool, typer.Option("--per-image", help="Also show the scores of each picture.")
    ] = False,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            help="Metric to compute: BLEU-4, METEOR, ROUGE-L, CIDEr-D, CHAIR-i, ...; may be "
            "repeated. Default: COCO's that work without Java. SPICE runs its authors' program, "
            "which needs Java and that program's models.",
        ),
    ] = None,
    extra: ExtraMetrics,
    subset: Annotated[
        bool, typer.Option("--subset", help="Score only the images that have a caption.")
    ] = False,
    segmentation: options.Segmentation = "auto",
    language: options.Language = "auto",
    bootstrap: options.Bootstrap = None,
    seed: options.BootstrapSeed = 0,
    output: options.OutputFile = None,
    as_json: options.Json = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Score captions of any program with COCO's metrics, without Java.

    The tokenised references are kept in the cache folder, so the next scoring starts at once.
    RESULTS may have several captions of each picture if only --metric self-CIDEr, --metric Div-1 or
    --metric Div-2 is asked for: these measure variety.
    """
    from showtell.metrics import meteor, nbest
    from showtell.metrics.bootstrap import Resampling
    from showtell.metrics.coco_io import score_files

    check_file(output, [results, references], is_kept=not overwrite)
    for path in (results, references):
        path.stat()  # METEOR's tables take a while, and would be prepared for nothing
    if not metrics or "METEOR" in metrics:
        meteor.prepare_aloud(lambda text: typer.echo(text, err=True))
    common: dict[str, Any] = {
        "subset": subset,
        "segmentation": segmentation,
        "language": language,
    }
    if metrics and set(metrics) <= set(nbest.METRICS) and not given(extra):
        scores = nbest.score_nbest(results, references, metrics=metrics, **common)
    else:
        scores = score_files(
            results, references, metrics=metrics or None, extras=extra.request(), **common
        )
    if bootstrap:
        scores = scores.with_intervals(Resampling(bootstrap, seed))
    table, values = scores.table(per_image=per_image), scores.to_dict(per_image=per_image)
    _print(scores, table, values, output, as_json)


def _print(
    scores: "Scores", table: str, values: dict[str, Any], output: Path | None, as_json: bool
) -> None:
    from showtell.core.files import write_text

    text = json_text(values) if as_json else table
    if not as_json:
        for warning in scores.warnings:
            typer.echo(f"warning: {warning}", err=True)
    if output:
        write_text(output, text + "\n")
    else:
        typer.echo(text)
