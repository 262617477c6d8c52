"""What is measured after each epoch: loss, perplexity and the metrics on the validation pictures.

Where the encoder trains, the features of the validation pictures are computed anew for each
validation and thrown away after it.
"""

import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from showtell.core.distributed import ALONE, Processes
from showtell.core.progress import Progress, Reporter
from showtell.data.sampler import picture_keys
from showtell.encoders.extract import WantedFeatures, extract_features
from showtell.encoders.store import FeatureStore
from showtell.evaluation.evaluate import evaluate_captioner
from showtell.inference.backends.native import NativeCaptioner
from showtell.metrics import Scores
from showtell.metrics.bootstrap import Interval, intervals
from showtell.training.objectives.losses import cross_entropy, perplexity
from showtell.training.prepare import TrainingData
from showtell.training.stop import StopNow, StopRequest

BATCH_SIZE = 256  # captions; memory is no matter without gradients
T_95 = {1: 6.314, 2: 2.920, 3: 2.353, 4: 2.132, 5: 2.015, 6: 1.943, 7: 1.895, 8: 1.860, 9: 1.833,
        10: 1.812, 12: 1.782, 15: 1.753, 20: 1.725, 30: 1.697, 60: 1.671, 120: 1.658,
        math.inf: 1.645}  # fmt: skip
"""The quantile 0.95 of Student's t by degrees of freedom (Abramowitz and Stegun 1972, table 26.10):
one in twenty gains that are chance is so many standard errors."""


@dataclass(frozen=True)
class Validation:
    """What was measured.

    Attributes:
        values: ``val_loss`` in nats a token, ``val_perplexity``, the metrics, and ``bad_endings``:
            the share of captions that end in "with a" and the like.
        intervals: of each metric, 95 %, by 1,000 resamples of the validation pictures.
    """

    values: dict[str, float]
    intervals: dict[str, Interval]


def validate(
    captioner: NativeCaptioner, data: TrainingData, *, report: Reporter, stop: StopRequest
) -> Validation:
    """Measure a captioner whose decoder is in eval mode; all processes get the same.

    Raises:
        StopNow: a stop was requested meanwhile.
    """
    watch = watch_stop(stop, report, "validating")
    values, scores = measure(captioner, data, watch, stop.processes)
    found = stop.processes.from_first(lambda: intervals(scores.statistics))
    return Validation(values, found)


def measure(
    captioner: NativeCaptioner,
    data: TrainingData,
    watch: Progress = lambda done, total: None,
    processes: Processes = ALONE,
) -> tuple[dict[str, float], Scores]:
    """``Validation.values`` of a captioner, and the scores that they are from.

    Args:
        watch: called with (pictures done, pictures in all).
        processes: among which the work is shared out; all get the result.
    """
    loss = validation_loss(captioner, data, processes)
    watch(0, len(data.val_records))
    evaluation = evaluate_captioner(
        captioner,
        data.val_records,
        data.stored(),
        references=data.val_references,
        progress=watch,
        processes=processes,
    )
    scores = evaluation.scores
    values = {"val_loss": loss, "val_perplexity": perplexity(loss), **scores.metrics}
    if not math.isnan(scores.bad_endings):  # which other languages than English have none of
        values["bad_endings"] = scores.bad_endings
    return values, scores


def watch_stop(stop: StopRequest, report: Reporter, task: str) -> Progress:
    """What tells ``report`` of (pictures done, in all), and raises ``StopNow`` once asked to."""

    def watch(done: int, total: int) -> None:
        if stop.is_due():
            raise StopNow
        report.progress(task, done, total, "pictures")

    return watch


@torch.no_grad()
def validation_loss(
    captioner: NativeCaptioner, data: TrainingData, processes: Processes = ALONE
) -> float:
    """Mean negative log-likelihood of a validation token in nats, each picture seen as view 0.

    Args:
        processes: among which the batches are shared out; all get the result.
    """
    corpus, device = data.val, captioner.runtime.device
    total, count = 0.0, 0
    order = np.argsort(corpus.lengths, kind="stable")
    if captioner.needs_regions:
        order = np.lexsort(picture_keys(corpus.lengths, corpus.pictures, None))
    for start in range(processes.rank * BATCH_SIZE, len(order), processes.size * BATCH_SIZE):
        captions = order[start : start + BATCH_SIZE]
        inputs, targets = corpus.tensors(captions, device)
        pictures, index = np.unique(corpus.pictures[captions], return_inverse=True)
        features = captioner.stored_features(data.stored(), pictures)
        features = features._replace(picture_of=torch.from_numpy(index))
        with captioner.runtime.inference():
            loss = cross_entropy(captioner.decoder, features.to(device), inputs, targets)
        total += loss.nll.item() * loss.num_tokens
        count += loss.num_tokens
    total, all_tokens = processes.sums((total, count))
    return total / all_tokens


@contextmanager
def validation_data(
    data: TrainingData,
    captioner: NativeCaptioner,
    folder: Path,
    watch: Progress,
) -> Iterator[TrainingData]:
    """``data`` with features of its validation pictures, as the measured encoder sees them now.

    Args:
        captioner: the one that is to be measured, with the encoder that trains.
        folder: the run's, on whose disk the store lies meanwhile.
        watch: called with (pictures done, pictures in all).

    Raises:
        StoreError: a picture can no longer be read, or the disk is full.
    """
    if data.pictures is None:
        yield data
        return
    encoder, grid = captioner.encoder, captioner.needs_regions
    path = folder / ".validation.tmp"
    shutil.rmtree(path, ignore_errors=True)
    try:
        extract_features(
            data.val_records,
            encoder,
            path,
            WantedFeatures(grid=grid),
            runtime=captioner.runtime,
            progress=lambda progress: watch(progress.done, progress.total),
        )
        store = FeatureStore.open(path, fingerprint=encoder.fingerprint, grid=grid)
        image_ids = [record.image_id for record in data.val_records]
        row_in_store = np.full(len(data.pictures.records), -1)
        row_in_store[data.pictures.rows(image_ids)] = store.rows(image_ids)
        val = replace(data.val, pictures=row_in_store[data.val.pictures])
        yield replace(data, store=store, val=val)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def is_better(one: Sequence[NDArray[np.float64]], other: Sequence[NDArray[np.float64]]) -> bool:
    """Whether ``one`` is better than ``other`` beyond chance: a one-sided t test of paired values.

    Of gains that are chance, one in twenty passes. Of several sets the degrees of freedom are
    those of Satterthwaite (1946), "An approximate distribution of estimates of variance
    components". Nothing is better by one picture.

    Args:
        one, other: CIDEr-D of each picture, of each set of them.
    """
    losses = _losses(one, other)
    if min(map(len, losses)) < 2:
        return False
    variances = [float(loss.var(ddof=1)) / len(loss) for loss in losses]
    parts = sum(v**2 / (len(loss) - 1) for v, loss in zip(variances, losses, strict=True))
    freedom = sum(variances) ** 2 / parts if parts else math.inf
    gain = sum(float(loss.mean()) for loss in losses)
    return gain > t_95(freedom) * math.sqrt(sum(variances))


def t_95(freedom: float) -> float:
    """The quantile 0.95 of Student's t, interpolated in 1 / ``freedom``, which is 1 at least."""
    inverse = [1 / known for known in T_95]
    return float(np.interp(1 / freedom, inverse[::-1], list(T_95.values())[::-1]))


def loss_of(best: Sequence[NDArray[np.float64]], sets: Sequence[NDArray[np.float64]]) -> float:
    """How much less than the best ``sets`` have, of 1."""
    return sum(float(loss.mean()) for loss in _losses(best, sets))


def _losses(
    best: Sequence[NDArray[np.float64]], sets: Sequence[NDArray[np.float64]]
) -> list[NDArray[np.float64]]:
    """How much less than the best each picture has, of 1; of a product, such losses add up."""
    return [(b - v) / max(b.mean(), 1e-9) for b, v in zip(best, sets, strict=True)]
