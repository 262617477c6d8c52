"""The end of a run that started from a trained model: averaging with it, and what has changed.

The weights of the best epoch are averaged with those that the run started with (WiSE-FT, Wortsman
et al. 2022, arXiv 2109.01903, section 3): between the two there are often models that know the new
pictures nearly as well and the old ones better. The share of the new weights is the one that is
best on the validation pictures, and on the old ones, where these are given. Then the model before
and after is compared, with intervals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from showtell.core.files import write_json
from showtell.core.messages import counted
from showtell.core.progress import Reporter
from showtell.data.records import Dataset, Record, Split
from showtell.data.request import DataRequest
from showtell.data.splits import hash_order, usable_splits
from showtell.encoders.store import FeatureStore
from showtell.errors import CheckpointError
from showtell.evaluation.compare import compare
from showtell.evaluation.evaluate import caption_records, evaluate_captioner
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from showtell.metrics.bootstrap import Interval
from showtell.training.loop import Run, TrainingResult
from showtell.training.objectives.losses import perplexity
from showtell.training.prepare import start_weights
from showtell.training.validation import validation_loss

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
CLOSE = 0.98  # of the best figure: as good, on so few pictures
MOST_PICTURES = 1000  # of a split that are captioned
METRICS = ("CIDEr-D", "BLEU-4")
COMPARISON_FILE = "comparison.json"
AVERAGED = "average_start"  # in metrics.json


@dataclass(frozen=True)
class Row:
    """One figure on one set of pictures.

    Attributes:
        data, split: the pictures.
        num_pictures: how many they are.
        before, after: the figure of the model that the run started from, and of the new one.
        before_interval, after_interval: 95 %, by resampling the pictures.
        change, change_interval: after minus before, on the same resamples.
        verdict: "better" or "worse" where two tests agree, else "".
    """

    data: str
    split: str
    num_pictures: int
    metric: str
    before: float
    before_interval: Interval
    after: float
    after_interval: Interval
    change: float
    change_interval: Interval
    verdict: str


@dataclass(frozen=True)
class BeforeAndAfter:
    """What a run has changed of the model that it started from.

    Attributes:
        model: that it started from.
        share: of the new weights in the average; 1 where nothing was averaged.
        by_share: CIDEr-D on the validation pictures by share, where it was chosen.
        rows: the table.
    """

    model: str
    share: float
    by_share: Mapping[str, float]
    rows: Sequence[Row]

    def to_dict(self) -> dict[str, Any]:
        """For ``--json`` and the run's folder."""
        return asdict(self)


@dataclass(frozen=True)
class Pictures:
    """Pictures to measure on, with their features.

    Attributes:
        data, split: where they are from.
    """

    data: str
    split: str
    records: Sequence[Record]
    store: FeatureStore


def mean(start: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """The weighted mean of two models' weights, ``share`` being that of ``end``.

    Counts, which are whole numbers, are those of ``end``.
    """
    return {
        name: start[name].to(weight.device).lerp(weight, share)
        if weight.is_floating_point()
        else weight
        for name, weight in end.items()
    }


def finish(
    run: Run,
    result: TrainingResult,
    dataset: Dataset,
    *,
    store: Path | None,
    old: DataRequest | None,
    report: Reporter,
) -> TrainingResult:
    """Average the best epoch with the start, keep that as ``best/``, and compare.

    The comparison is also written to ``comparison.json`` in the run's folder. A run that was
    finished like this before is left as it is.

    Args:
        run: that has ended.
        dataset: what it was trained on.
        store: folder of its features, where the user gave one.
        old: pictures of the kind that the model of the start knows.

    Raises:
        ShowtellError: the model of the start or ``old`` cannot be read; the run is intact.
    """
    source = run.config.training.init_from
    assert source is not None
    best = load_checkpoint(run.folder / "best")
    if AVERAGED in best.metrics:
        return result
    device = run.runtime.device
    before = NativeCaptioner.load(source, device=device, trust_model=True)
    known = None if old is None else _known(old, before, report)
    share, by_share = 1.0, dict[float, float]()
    if run.data.store is not None:
        val = _some(run.data.val_records)
        pictures = Pictures(dataset.name, "val", val, run.data.store)
        start = start_weights(load_checkpoint(source), run.data, run.provenance)
        end = best.decoder.state_dict()
        models = {share: mean(start, end, share) for share in SHARES}
        by_share = _measure(run, models, pictures, known, report)
        share = chosen(by_share)
        best = _averaged(run, best, models[share], share, source)
        result = replace(result, metrics=best.metrics["metrics"])
        report.note(
            f"averaged with {source}: {share:.0%} of the new weights, by CIDEr-D on "
            f"{counted(len(val), 'validation picture')}"
        )
    after = NativeCaptioner.load(run.folder, device=device, trust_model=True)
    rows = []
    both: tuple[Split, ...] = ("val", "test")
    for split in both:
        if records := _some(dataset.split(split)):
            measured = replace(dataset, records=tuple(records))
            rows += _rows(before, after, measured, split, store, report)
    if known is not None:
        whole = Dataset(known.data, "", tuple(known.records))
        rows += _rows(before, after, whole, known.split, known.store.path, report)
    found = BeforeAndAfter(source, share, {f"{s:g}": v for s, v in by_share.items()}, tuple(rows))
    write_json(run.folder / COMPARISON_FILE, found.to_dict())
    return replace(result, from_start=found)


def chosen(by_share: Mapping[float, float]) -> float:
    """The smallest share of the new weights whose figure is as good as the best."""
    best = max(by_share.values())
    return min(share for share, value in by_share.items() if value >= CLOSE * best)


def _some(records: Sequence[Record]) -> Sequence[Record]:
    """At most ``MOST_PICTURES`` of them, chosen by the hash of their ids."""
    if len(records) <= MOST_PICTURES:
        return records
    kept = set(hash_order(record.image_id for record in records)[:MOST_PICTURES])
    return [record for record in records if record.image_id in kept]


def _known(old: DataRequest, before: NativeCaptioner, report: Reporter) -> Pictures:
    """Pictures of the kind that a model knows: the test split of ``old``, else its val."""
    dataset = usable_splits(old.load())
    split: Split = "test" if dataset.split("test") else "val"
    found = caption_records(
        before, dataset, _some(dataset.split(split)), store=old.store, report=report
    )
    return Pictures(dataset.name, split, found.records, found.store)


def _measure(
    run: Run,
    models: Mapping[float, Mapping[str, Tensor]],
    new: Pictures,
    known: Pictures | None,
    report: Reporter,
) -> dict[float, float]:
    """How good each share is: CIDEr-D on the new pictures, times that on the known ones."""
    model = Checkpoint(run.state.decoder, run.data.vocabulary, run.config, {})
    captioner = NativeCaptioner(model, run.runtime, trust_model=True)
    captioner.decoder.eval()
    found = {}
    for number, (share, weights) in enumerate(models.items()):
        report.progress("averaging", number, len(models), "shares")
        captioner.decoder.load_state_dict(dict(weights))
        value = 1.0
        for pictures in (new, *([known] if known else [])):
            scores = evaluate_captioner(captioner, pictures.records, pictures.store).scores
            value *= scores.metrics["CIDEr-D"]
        found[share] = value
    return found


def _averaged(
    run: Run, best: Checkpoint, weights: dict[str, Tensor], share: float, source: str
) -> Checkpoint:
    """The checkpoint with these weights, which takes the place of ``best/``."""
    best.decoder.load_state_dict(weights)
    captioner = NativeCaptioner(
        replace(best, metrics={}, decoder=best.decoder.to(run.runtime.device)),
        run.runtime,
        trust_model=True,
    )
    evaluation = evaluate_captioner(
        captioner, run.data.val_records, run.data.stored(), references=run.data.val_references
    )
    loss = validation_loss(captioner, run.data)
    values = {
        "val_loss": loss,
        "val_perplexity": perplexity(loss),
        **evaluation.scores.metrics,
        "bad_endings": evaluation.scores.bad_endings,
    }
    note = {AVERAGED: {"model": source, "share": share}}
    averaged = replace(best, metrics={**best.metrics, "metrics": values, **note})
    try:
        save_checkpoint(run.folder / "best", averaged)
    except OSError as error:
        raise CheckpointError(
            f"cannot write {run.folder / 'best'}: {error.strerror or error}; the best epoch is "
            "there, not averaged: free some space, then continue with --resume"
        ) from error
    return averaged


def _rows(
    before: NativeCaptioner,
    after: NativeCaptioner,
    dataset: Dataset,
    split: str,
    store: Path | None,
    report: Reporter,
) -> list[Row]:
    """The figures of both models on the pictures of ``dataset``."""
    said = {}
    for name, captioner in (("before", before), ("after", after)):
        found = caption_records(captioner, dataset, dataset.records, store=store, report=report)
        said[name] = {key: one.text for key, one in found.evaluation.captions.items()}
    people = {r.image_id: r.captions for r in dataset.records if r.image_id in said["after"]}
    comparison = compare(said, people, metrics=METRICS)
    first, second = (system.scores for system in comparison.systems)
    [contrast] = comparison.contrasts
    return [
        Row(
            data=Path(dataset.name).name,
            split=split,
            num_pictures=len(people),
            metric=name,
            before=first.metrics[name],
            before_interval=first.intervals[name],
            after=second.metrics[name],
            after_interval=second.intervals[name],
            change=contrast.differences[name].value,
            change_interval=contrast.differences[name].interval,
            verdict=comparison.verdict(contrast, name),
        )
        for name in METRICS
    ]
