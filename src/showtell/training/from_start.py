"""The end of a run that started from a trained model: averaging with it, and what has changed.

The weights of the best epoch are averaged with those that the run started with (WiSE-FT, Wortsman
et al. 2022, arXiv 2109.01903, section 3): between the two there are often models that know the new
pictures nearly as well and the old ones better. The share of the new weights is chosen on the
validation pictures, and on the old ones, where these are given. The average also has the start's
reranker and calibration: they learnt from many pictures, and a few validation pictures say nothing
against them but by chance. Then the model before and after is compared, with intervals.
"""

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from showtell.config import Config
from showtell.core.files import read_json, write_json
from showtell.core.messages import counted
from showtell.core.progress import Reporter
from showtell.data.records import Dataset, Split
from showtell.data.request import DataRequest
from showtell.data.splits import hash_order
from showtell.decoding.reranking import Reranker
from showtell.errors import CheckpointError, reason_of
from showtell.evaluation.compare import compare
from showtell.evaluation.evaluate import CaptionedSplit, caption_records, evaluate_captioner
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.caption import CALIBRATION, Calibration
from showtell.inference.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from showtell.inference.files import AVERAGE_START, BEST, MOST_JSON
from showtell.metrics.bootstrap import Interval
from showtell.text.segment import Segmentation
from showtell.training.first_decoder import start_weights
from showtell.training.loop import Run, TrainingResult
from showtell.training.old_pictures import load_old
from showtell.training.reranking import FEWEST
from showtell.training.validation import is_better, loss_of, measure

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
CLOSE = 0.02  # of the best figure: about as good
MOST_PICTURES = 1000  # of a split that are captioned
SPLITS: tuple[Split, ...] = ("val", "test")
METRICS = ("CIDEr-D", "BLEU-4")
Origin = Literal["start", "own", "left out", "none"]
"""Whose a part of the new model is: the start's; its own; left out, though the start has one."""

COMPARISON_FILE = "comparison.json"


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
        epoch: the best one of the run.
        share: of the new weights in the average; 1 where nothing was averaged.
        by_share: CIDEr-D on the validation pictures by share; empty where nothing was averaged.
        rows: the table; each model chooses among its captions by the reranker that it has.
        reranker, calibration: whose the new model has.
    """

    model: str
    epoch: int
    share: float
    by_share: Mapping[str, float]
    rows: Sequence[Row]
    reranker: Origin = "none"
    calibration: Origin = "none"

    def to_dict(self) -> dict[str, Any]:
        """For ``--json`` and the run's folder."""
        return asdict(self)


Said = Mapping[str, str]  # a caption by image id


@dataclass(frozen=True)
class Pictures:
    """Pictures to measure on.

    Attributes:
        dataset: they and no others.
        split: where they are from.
        store: the folder of their features; None for that in the cache folder.
    """

    dataset: Dataset
    split: Split
    store: Path | None

    @property
    def chooses(self) -> bool:
        """Whether the average is chosen by them; what is chosen by test is not a test."""
        return self.split == "val"

    @classmethod
    def held_out(cls, dataset: Dataset, store: Path | None) -> "list[Pictures]":
        """Those of ``SPLITS`` that there are, at most ``MOST_PICTURES`` of each by their hash."""
        found = []
        for split in SPLITS:
            records = tuple(dataset.split(split))
            if len(records) > MOST_PICTURES:
                kept = set(hash_order(record.image_id for record in records)[:MOST_PICTURES])
                records = tuple(record for record in records if record.image_id in kept)
            if records:
                found.append(cls(replace(dataset, records=records), split, store))
        return found

    def captioned(self, captioner: NativeCaptioner, report: Reporter) -> CaptionedSplit:
        """What a model says of them, however sure it is."""
        return caption_records(
            captioner,
            self.dataset,
            self.dataset.records,
            store=self.store,
            decoding=captioner.resolve({"min_confidence": 0.0}),
            report=report,
        )


@dataclass(frozen=True)
class _Measured:
    """A model between start and end.

    Attributes:
        by_picture: CIDEr-D of each picture, of each set of them.
        said: its captions of each.
    """

    by_picture: Sequence[NDArray[np.float64]]
    said: Sequence[Said]

    @property
    def value(self) -> float:
        """How good it is: the product of CIDEr-D on each set."""
        return math.prod(float(values.mean()) for values in self.by_picture)


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

    Without ``training.average_start`` nothing is averaged.

    The comparison is also written to ``comparison.json`` in the run's folder. A run that was
    finished like this before is left as it is; one that was stopped after averaging is compared.

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
    best = load_checkpoint(run.folder / BEST)
    # Where the encoder trains, there are no stored features, and nothing is averaged.
    averages = run.config.training.average_start and run.data.store is not None
    averages = averages and AVERAGE_START not in best.metrics
    if not averages and _compared_epoch(run.folder) == best.metrics["epoch"]:
        return result
    before = NativeCaptioner.load(source, device=run.runtime.device, trust_model=True)
    sets = Pictures.held_out(dataset, store)
    if old is not None:
        sets += Pictures.held_out(load_old(old), old.store)
    first = [pictures.captioned(before, report) for pictures in sets]
    share, by_share, last = 1.0, dict[str, float](), dict[int, Said]()
    if averages:
        places = [n for n, one in enumerate(sets) if one.chooses]
        best, said = _average(run, best, [first[n] for n in places], report)
        last = dict(zip(places, said, strict=True))
        result = replace(result, metrics=best.metrics["metrics"])
    if AVERAGE_START in best.metrics:
        note = best.metrics[AVERAGE_START]
        share, by_share = note["share"], note["by_share"]
    after = NativeCaptioner.load(run.folder, device=run.runtime.device, trust_model=True)
    rows: list[Row] = []
    for place, (pictures, one) in enumerate(zip(sets, first, strict=True)):
        if place not in last:
            last[place] = pictures.captioned(after, report).evaluation.texts
        rows += _rows(pictures, one, last[place], run.data.vocabulary.segmentation)
    found = BeforeAndAfter(
        model=source,
        epoch=best.metrics["epoch"],
        share=share,
        by_share=by_share,
        rows=tuple(rows),
        reranker=_origin(_content(before.reranker), _content(after.reranker)),
        calibration=_origin(before.calibration, after.calibration),
    )
    file = run.folder / COMPARISON_FILE
    try:
        write_json(file, found.to_dict())
    except OSError as error:
        raise CheckpointError(
            f"cannot write {file}: {reason_of(error)}; the model is whole: free some "
            "space, then resume (train: --resume; else the same command)"
        ) from error
    return replace(result, from_start=found)


def _compared_epoch(folder: Path) -> int | None:
    """The epoch whose model the comparison in a run's folder is of; None where there is none."""
    try:
        found = read_json(folder / COMPARISON_FILE, MOST_JSON)
        epoch: int = found["epoch"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return epoch


def _content(reranker: Reranker | None) -> bytes | None:
    return reranker.to_bytes() if reranker else None


def _origin(before: bytes | Calibration | None, after: bytes | Calibration | None) -> Origin:
    """Whose a part of the model ``after`` is."""
    if after is None:
        return "none" if before is None else "left out"
    return "start" if after == before else "own"


def _average(
    run: Run, best: Checkpoint, sets: Sequence[CaptionedSplit], report: Reporter
) -> tuple[Checkpoint, Sequence[Said]]:
    """The average with the start, which takes the place of ``best/``, and what it says of ``sets``.

    Args:
        sets: the pictures that choose it.
    """
    source = run.config.training.init_from
    assert source is not None
    begun = load_checkpoint(source)
    start = start_weights(begun, run.data, run.provenance)
    weights = partial(mean, start, best.decoder.state_dict())
    measured = _measure(run, weights, SHARES, sets, report)
    share = chosen({share: one.by_picture for share, one in measured.items()})
    kept = measured[share]
    number = counted(len(sets[0].records), "validation picture")
    if share:
        report.note(f"averaged with {source}: {share:.0%} of the new weights, by {number}")
    else:
        report.note(
            f"the weights of {source} are kept: what training gained on {number} may be chance; "
            "give more, or keep the best epoch with -s training.average_start=false"
        )
    if begun.reranker is not None:
        with_it = None
        # Its detector has not learnt what new weights say, so they are not doubted by it.
        doubt = run.config.decoding.doubt or (0.0 if share else begun.config.decoding.doubt)
        doubting = _doubting(run.config, doubt)
        if same_features(best, begun):
            found = _measure(run, weights, [share], sets, report, begun.reranker, doubting)
            with_it = found[share]
        keeps, why = keeps_reranker(kept.by_picture, with_it.by_picture if with_it else None)
        report.note(f"the reranker of {source} {why}; `showtell rerank` makes one of yours")
        if with_it and keeps:
            kept = with_it
            best = replace(best, reranker=begun.reranker, config=_doubting(best.config, doubt))
    best = with_calibration(best, begun)
    if CALIBRATION in begun.metrics:
        report.note(_about_calibration(run, best, share))
    note = {
        "model": source,
        "share": share,
        "by_share": {f"{share:g}": one.value for share, one in measured.items()},
    }
    return _averaged(run, best, weights(share), note), kept.said


def same_features(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether the encoders of two models see the same in a picture."""
    return one.metrics.get("encoder_fingerprint") == other.metrics.get("encoder_fingerprint")


def keeps_reranker(
    without: Sequence[NDArray[np.float64]], with_it: Sequence[NDArray[np.float64]] | None
) -> tuple[bool, str]:
    """Whether a model keeps the reranker of its start, and why.

    It does unless ``FEWEST`` pictures or more show that it is better without, beyond chance as in
    ``chosen``.

    Args:
        without, with_it: CIDEr-D of each picture, of each set of them, the run's own pictures
            first; None where the reranker cannot read the features.
    """
    if with_it is None:
        return False, "is left out, as it looks at other features than these"
    number = counted(num := len(without[0]), "validation picture")
    means = [float(sets[0].mean()) for sets in (without, with_it)]
    figures = f"CIDEr-D {means[0]:.3f} without it, {means[1]:.3f} with it"
    if num < FEWEST:
        return True, f"is kept: {number}, too few to say anything against it ({figures})"
    if is_better(without, with_it):
        return False, f"is left out: it chooses worse on {number} ({figures})"
    return True, f"is kept: {number} say nothing against it beyond chance ({figures})"


def with_calibration(best: Checkpoint, begun: Checkpoint) -> Checkpoint:
    """``best`` with the start's calibration, if it chooses among captions as the start does."""
    if best.reranker is not begun.reranker or CALIBRATION not in begun.metrics:
        return best
    return replace(best, metrics={**best.metrics, CALIBRATION: begun.metrics[CALIBRATION]})


def _about_calibration(run: Run, best: Checkpoint, share: float) -> str:
    """Whether ``best`` has the calibration of the start, and how to fit another."""
    source = run.config.training.init_from
    if CALIBRATION not in best.metrics:
        what = f"confidence is not calibrated as that of {source} is; to calibrate it"
    elif share:
        what = f"confidence is calibrated as that of {source}; to calibrate it by your pictures"
    else:
        return f"confidence is calibrated as that of {source}"
    return f"{what}: showtell reliability {shlex.quote(str(run.folder))} DATA --calibrate"


def chosen(by_share: Mapping[float, Sequence[NDArray[np.float64]]]) -> float:
    """The share of the new weights to keep.

    It is 0 unless the best share is better than the start beyond chance: as ``is_better``
    has it. Then it is the smallest that is about as good as the best.

    Args:
        by_share: CIDEr-D of each picture, of each set of them; 0 is the start.
    """
    best = max(by_share.values(), key=lambda sets: math.prod(values.mean() for values in sets))
    if not is_better(best, by_share[0.0]):
        return 0.0
    return min(share for share, sets in by_share.items() if loss_of(best, sets) <= CLOSE)


def _measure(
    run: Run,
    weights: Callable[[float], dict[str, Tensor]],
    shares: Sequence[float],
    sets: Sequence[CaptionedSplit],
    report: Reporter,
    reranker: Reranker | None = None,
    config: Config | None = None,
) -> dict[float, _Measured]:
    """How good each share is.

    Args:
        weights: of a share; one model's are held at a time.
        sets: the pictures, with their features.
        reranker: of the model that the run started from, to choose by.
        config: with which to caption; default: that of the run.
    """
    settings = config or run.config
    model = Checkpoint(run.state.decoder, run.data.vocabulary, settings, {}, reranker=reranker)
    captioner = NativeCaptioner(model, run.runtime, trust_model=True)
    captioner.decoder.eval()
    found = {}
    for number, share in enumerate(shares):
        report.progress("averaging", number, len(shares), "shares")
        captioner.decoder.load_state_dict(weights(share))
        evaluations = []
        for one in sets:
            assert one.store is not None, "a checkpoint captions from stored features"
            evaluations.append(evaluate_captioner(captioner, one.records, one.store))
        by_picture = [
            np.array([own["CIDEr-D"] for own in one.scores.per_image.values()])
            for one in evaluations
        ]
        found[share] = _Measured(by_picture, [one.texts for one in evaluations])
    return found


def _doubting(config: Config, doubt: float) -> Config:
    """The settings with ``decoding.doubt``."""
    return config.model_copy(update={"decoding": config.decoding.with_changes({"doubt": doubt})})


def _averaged(
    run: Run, best: Checkpoint, weights: dict[str, Tensor], note: dict[str, Any]
) -> Checkpoint:
    """The checkpoint with these weights, which takes the place of ``best/``; it keeps ``note``."""
    best.decoder.load_state_dict(weights)
    captioner = NativeCaptioner(
        replace(best, metrics={}, decoder=best.decoder.to(run.runtime.device)),
        run.runtime,
        trust_model=True,
    )
    values, _ = measure(captioner, run.data)
    averaged = replace(best, metrics={**best.metrics, "metrics": values, AVERAGE_START: note})
    try:
        save_checkpoint(run.folder / BEST, averaged)
    except OSError as error:
        raise CheckpointError(
            f"cannot write {run.folder / BEST}: {reason_of(error)}; the best epoch is "
            "there, not averaged: free some space, then resume (train: --resume; else the same "
            "command)"
        ) from error
    return averaged


def _rows(
    pictures: Pictures, before: CaptionedSplit, after: Said, segmentation: Segmentation
) -> list[Row]:
    """The figures of both models on some pictures.

    Args:
        segmentation: how captions and references are cut into words.
    """
    people = {record.image_id: record.captions for record in before.records}
    comparison = compare(
        {"before": before.evaluation.texts, "after": after},
        people,
        metrics=METRICS,
        segmentation=segmentation,
    )
    first, second = (system.scores for system in comparison.systems)
    [contrast] = comparison.contrasts
    return [
        Row(
            data=Path(pictures.dataset.name).name,
            split=pictures.split,
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
