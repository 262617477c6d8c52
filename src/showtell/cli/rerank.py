"""``showtell rerank``: a model learns to choose among its own captions."""

from typing import Annotated

import typer

from showtell.cli import options
from showtell.cli.groups import with_options
from showtell.core.files import json_text


@with_options
def rerank(
    *,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder of a run or a checkpoint.")],
    data: options.DataSet,
    store: options.Store = None,
    device: options.Device = "auto",
    trust_model: options.TrustModel = False,
    as_json: options.Json = False,
) -> None:
    """Teach MODEL to choose the best of the captions that its search finds.

    A detector of words learns from the captions of DATA's train split what the encoder sees. On the
    val split the model then learns how far to rely on the detector, and how sure to be. Both are
    written into the model's folder, and every command uses them. It takes minutes. Use the pictures
    that the model was trained on. A model that chooses already, as after `train --from default`, is
    changed only where the new choice is better beyond chance.
    """
    from showtell.cli.console import ConsoleReporter
    from showtell.training.reranking import rerank_model

    with ConsoleReporter() as report:
        found = rerank_model(
            model,
            data.request(store),
            device=device,
            trust_model=trust_model,
            report=report,
        )
    if as_json:
        typer.echo(json_text(found.to_dict()))
    else:
        typer.echo(found.describe())
