"""The demo: train on built-in pictures from scratch, evaluate, caption pictures it never saw."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from showtell.core.progress import Reporter
from showtell.data.records import Record
from showtell.data.request import DataRequest
from showtell.data.scenes import is_held_out, render_scenes
from showtell.data.sources import load_dataset
from showtell.encoders.extract import WantedFeatures, features_for
from showtell.errors import CheckpointError
from showtell.evaluation.evaluate import Evaluation, evaluate_captioner
from showtell.images.sheet import Cell, save_contact_sheet
from showtell.inference.backends.native import NativeCaptioner
from showtell.training.request import TrainRequest, start_training
from showtell.training.run_folder import holds_run, names_in

NUM_EXAMPLES = 12
RUN, SHEET = "run", "captions.png"
SETTINGS = (
    "encoder.views=0",
    "encoder.flips=false",  # left and right are facts in these pictures
    "decoder.embed_size=256",
    "decoder.hidden_size=384",
    "decoder.dropout=0.3",
    "optimizer.lr=2e-3",
    "training.batch_size=64",
    "training.num_epochs=6",
    "training.save_every=6",
)


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    Attributes:
        ordinary: figures on test pictures whose combinations were seen in training.
        held_out: figures on test pictures of combinations never seen.
        examples: some unseen pictures with their captions.
    """

    model: Path
    ordinary: str
    held_out: str
    examples: tuple[tuple[Path, str], ...]
    contact_sheet: Path


def run_demo(folder: Path, *, report: Reporter) -> DemoResult:
    """Run it all into ``folder``; a second call trains anew on the features of the first.

    Raises:
        CheckpointError: ``folder`` is a file, or holds something else than a demo's results.
    """
    _refuse_other(folder)
    render_scenes(progress=lambda done, total: report.progress("painting", done, total, "pictures"))
    run = folder / RUN
    shutil.rmtree(run, ignore_errors=True)
    start_training(TrainRequest(DataRequest("scenes"), run, overrides=SETTINGS), report=report)
    captioner = NativeCaptioner.load(run)
    dataset = load_dataset("scenes")
    test = dataset.split("test")
    store = features_for(
        replace(dataset, records=test),
        captioner.encoder,
        WantedFeatures(flips=captioner.config.encoder.flips),
        runtime=captioner.runtime,
        report=report,
    )
    held_out = [record for record in test if is_held_out(record.image_id)]
    ordinary = [record for record in test if not is_held_out(record.image_id)]
    on_ordinary = evaluate_captioner(captioner, ordinary, store)
    on_held_out = evaluate_captioner(captioner, held_out, store)
    examples = [*ordinary[: NUM_EXAMPLES - 4], *held_out[:4]]
    captions = {**on_ordinary.captions, **on_held_out.captions}
    cells = [_cell(record, captions[record.image_id].text) for record in examples]
    sheet = folder / SHEET
    save_contact_sheet(sheet, cells, heading="What the demo's model says of pictures it never saw")
    return DemoResult(
        model=run,
        ordinary=_figures(on_ordinary),
        held_out=_figures(on_held_out),
        examples=tuple(
            (record.path, cell.caption) for record, cell in zip(examples, cells, strict=True)
        ),
        contact_sheet=sheet,
    )


def _refuse_other(folder: Path) -> None:
    run = folder / RUN
    is_ours = names_in(folder) <= {RUN, SHEET} and (not names_in(run) or holds_run(run))
    if not is_ours:
        raise CheckpointError(
            f"{folder} already exists and is not a demo: give a new folder with -o"
        )


def _cell(record: Record, caption: str) -> Cell:
    label = " (held-out combination)" if is_held_out(record.image_id) else ""
    return Cell(record.path, caption + label, record.captions[:3])


def _figures(evaluation: Evaluation) -> str:
    metrics = evaluation.scores.metrics
    return ", ".join(f"{name} {metrics[name]:.3f}" for name in ("CIDEr-D", "BLEU-4", "ROUGE-L"))
