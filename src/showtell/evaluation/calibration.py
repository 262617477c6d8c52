"""Whether a model's confidence can be trusted: measured, and calibrated where it cannot.

A caption's quality is its own CIDEr-D on pictures that the model has not seen; a caption that
reaches a threshold counts as acceptable. ``measure_model`` captions a split and compares confidence
with quality in bins of equally many captions. On request it fits a calibration (Platt 1999), after
which confidence is the share of captions like this one that are acceptable, and writes it into the
model. The statistics (``measure_reliability``, ``fit_calibration``, ``cross_calibrated``) take
plain numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from showtell.core.progress import Reporter
from showtell.data.request import DataRequest
from showtell.errors import CheckpointError, ScoringError
from showtell.evaluation.evaluate import caption_split
from showtell.inference.backends.pictures import PictureCaptioner, keep_calibration
from showtell.inference.caption import Calibration, Caption
from showtell.inference.exported import write_calibration
from showtell.inference.loading import ModelRequest, load_request
from showtell.metrics import Scores
from showtell.pretrained import shipped_folder

Values = NDArray[np.float64]
NUM_BINS = 10
NUM_FOLDS = 5
# CIDEr-D. On Flickr8k's dev pictures four of five captions by people reach it, each scored against
# the other four of its picture (0.79 of the first captions and 0.83 of the second).
ACCEPTABLE = 0.25
RIDGE = 5.0  # captions' worth of doubt about each sign


@dataclass(frozen=True)
class Bin:
    """Captions of similar confidence.

    Attributes:
        low, high: the lowest and the highest confidence.
        num: how many captions.
        confidence: their mean confidence.
        cider: their mean CIDEr-D.
        acceptable: the share of them whose CIDEr-D reaches the threshold.
    """

    low: float
    high: float
    num: int
    confidence: float
    cider: float
    acceptable: float


@dataclass(frozen=True)
class Reliability:
    """How confidence and quality go together.

    Attributes:
        rank_correlation: Spearman's, of confidence and CIDEr-D; 1 means the same order.
        error: expected calibration error (Naeini et al. 2015): the mean distance between a bin's
            confidence and its share of acceptable captions.
        threshold: CIDEr-D from which on a caption is acceptable.
        acceptable: the share of all captions that are.
        bins: the least confident captions first, equally many in each.
    """

    rank_correlation: float
    error: float
    threshold: float
    num_captions: int
    acceptable: float
    bins: tuple[Bin, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def table(self) -> str:
        """For people."""
        lines = [f"{'confidence':>15}{'captions':>10}{'CIDEr-D':>10}{'acceptable':>12}"]
        lines += [
            f"{f'{b.low:.2f} to {b.high:.2f}':>15}{b.num:>10}{b.cider:>10.3f}{b.acceptable:>12.1%}"
            for b in self.bins
        ]
        lines.append(
            f"rank correlation {self.rank_correlation:.3f}; calibration error {self.error:.3f}; "
            f"acceptable is a CIDEr-D of {self.threshold:g} or more: {self.acceptable:.1%} of "
            f"{self.num_captions:,}"
        )
        return "\n".join(lines)


@dataclass(frozen=True)
class MeasuredConfidence:
    """Reliability of a model's confidence.

    Attributes:
        now: with the confidence that the model gives.
        fitted: a calibration fitted to these captions, if one was asked for.
        then: with calibrated confidence, cross-validated.
    """

    now: Reliability
    fitted: Calibration | None = None
    then: Reliability | None = None


def measure_model(
    model: ModelRequest,
    data: DataRequest,
    *,
    split: str,
    report: Reporter,
    threshold: float = ACCEPTABLE,
    calibrate: bool = False,
    decoding_changes: Mapping[str, Any] | None = None,
) -> MeasuredConfidence:
    """Caption a split with a model and compare the captions' confidence with their quality.

    Args:
        threshold: CIDEr-D, 0 to 10, from which on a caption is acceptable.
        calibrate: write a fitted calibration into the model.
        decoding_changes: to the model's own settings; no caption is withheld in any case.

    Raises:
        ShowtellError: the model or the data cannot be read, or confidence cannot be calibrated.
    """
    if calibrate and shipped_folder(model.model):
        raise CheckpointError(
            f"{model.model} comes with showtell and is not changed: pack it into a folder of yours "
            f"(showtell pack {model.model} -o FOLDER) and calibrate that"
        )
    captioner = load_request(model)
    folder = None
    if calibrate and not isinstance(captioner, PictureCaptioner):
        from showtell.inference.checkpoint import find_checkpoint  # which needs torch

        folder = find_checkpoint(model.model)
    decoding = captioner.resolve({**(decoding_changes or {}), "min_confidence": 0.0})
    found = caption_split(captioner, data, split=split, decoding=decoding, report=report)
    measured = measure_confidence(
        found.evaluation.captions,
        found.evaluation.scores,
        threshold=threshold,
        fit=calibrate,
        data=f"{Path(data.data).name} {split}",
    )
    if measured.fitted is not None and isinstance(captioner, PictureCaptioner):
        report.note(f"the calibration is {keep_calibration(captioner, measured.fitted)}")
    elif measured.fitted is not None and folder is not None:
        write_calibration(folder, measured.fitted)
    return measured


def measure_confidence(
    captions: Mapping[str, Caption],
    scores: Scores,
    *,
    threshold: float = ACCEPTABLE,
    fit: bool = False,
    data: str = "",
) -> MeasuredConfidence:
    """Compare captions' confidence with their own CIDEr-D.

    Args:
        fit: whether to fit a calibration.
        data: what the pictures are, for people.

    Raises:
        ScoringError: there are too few captions, or no calibration fits.
    """
    said = {name: caption for name, caption in captions.items() if caption.log_probs}
    ciders = [scores.per_image[name]["CIDEr-D"] for name in said]
    sure = [caption.confidence for caption in said.values()]
    now = measure_reliability(sure, ciders, threshold=threshold)
    if not fit:
        return MeasuredConfidence(now)
    means = [caption.mean_log_prob for caption in said.values()]
    signs = [caption.signs for caption in said.values()]
    signs = signs if all(signs) else []
    fitted = fit_calibration(means, ciders, signs=signs, threshold=threshold, data=data)
    crossed = cross_calibrated(means, ciders, signs=signs, threshold=threshold)
    return MeasuredConfidence(
        now, fitted, measure_reliability(crossed, ciders, threshold=threshold)
    )


def measure_reliability(
    confidences: Sequence[float],
    ciders: Sequence[float],
    *,
    threshold: float = ACCEPTABLE,
    num_bins: int = NUM_BINS,
) -> Reliability:
    """Put captions into bins by confidence, and measure how good each bin is.

    Args:
        confidences: (N,) of captions, 0 to 1.
        ciders: (N,) CIDEr-D of each caption, 0 to 10.

    Raises:
        ScoringError: fewer than two captions.
    """
    if len(confidences) < 2:
        raise ScoringError(f"reliability needs 2 captions or more, not {len(confidences)}")
    sure, good = np.asarray(confidences, float), np.asarray(ciders, float)
    fine = good >= threshold
    order = np.argsort(sure, kind="stable")
    parts = [part for part in np.array_split(order, num_bins) if len(part)]
    bins = tuple(
        Bin(
            low=float(sure[part[0]]),
            high=float(sure[part[-1]]),
            num=len(part),
            confidence=float(sure[part].mean()),
            cider=float(good[part].mean()),
            acceptable=float(fine[part].mean()),
        )
        for part in parts
    )
    return Reliability(
        rank_correlation=rank_correlation(sure, good),
        error=sum(b.num * abs(b.confidence - b.acceptable) for b in bins) / len(sure),
        threshold=threshold,
        num_captions=len(sure),
        acceptable=float(fine.mean()),
        bins=bins,
    )


def fit_calibration(
    mean_log_probs: Sequence[float],
    ciders: Sequence[float],
    *,
    signs: Sequence[Sequence[float]] = (),
    threshold: float = ACCEPTABLE,
    data: str = "",
) -> Calibration:
    """Logistic regression of "acceptable" on the mean log-probability, by Newton's method.

    The targets are those of Platt 1999, section 2.2, so the fit is finite on separable data too.

    Args:
        mean_log_probs: (N,) of captions, in nats.
        ciders: (N,) CIDEr-D of each caption.
        signs: (N, F) of captions of a model with a reranker, which then count as well.

    Raises:
        ScoringError: all captions are acceptable, or none is, or more confident captions are not
            better.
    """
    x, fine = np.asarray(mean_log_probs, float), np.asarray(ciders, float) >= threshold
    num_fine, num_poor = int(fine.sum()), int((~fine).sum())
    if not num_fine or not num_poor:
        kind = "none" if not num_fine else "all"
        raise ScoringError(
            f"of {len(x)} captions {kind} have a CIDEr-D of {threshold:g} or more: give more "
            "pictures or another threshold"
        )
    targets = np.where(fine, (num_fine + 1) / (num_fine + 2), 1 / (num_poor + 2))
    told = np.column_stack([x, np.asarray(signs, float)]) if len(signs) else x[:, None]
    centre, scale = told.mean(axis=0), np.maximum(told.std(axis=0), 1e-9)
    rows = np.column_stack([(told - centre) / scale, np.ones_like(x)])
    # Signs depend on each other (the mean log-probability is one of them): a ridge parts them.
    ridge = np.diag([*np.full(told.shape[1], RIDGE if len(signs) else 0.0), 0.0])
    weights = np.zeros(rows.shape[1])
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(rows @ weights, -500, 500)))
        curvature = (rows * (p * (1 - p))[:, None]).T @ rows + ridge + 1e-9 * np.eye(len(weights))
        step = np.linalg.solve(curvature, rows.T @ (p - targets) + ridge @ weights)
        weights -= step * min(1.0, 4.0 / (np.abs(step).max() + 1e-12))
        if np.abs(step).max() < 1e-10:
            break
    slopes = weights[:-1] / scale
    agreement = rank_correlation(rows @ weights, np.asarray(ciders, float))
    if (agreement if len(signs) else slopes[0]) <= 0:
        raise ScoringError(
            "captions with a higher confidence are not better here, so confidence cannot be "
            "calibrated: give more pictures"
        )
    slope, *others = (round(float(value), 6) for value in slopes)
    offset = round(float(weights[-1] - slopes @ centre), 6)
    return Calibration(slope, offset, threshold, len(x), data, tuple(others))


def cross_calibrated(
    mean_log_probs: Sequence[float],
    ciders: Sequence[float],
    *,
    signs: Sequence[Sequence[float]] = (),
    threshold: float = ACCEPTABLE,
) -> list[float]:
    """Cross-validated confidence: each fold's by a calibration that was fitted to the other folds.

    Raises:
        ScoringError: as ``fit_calibration``, for one of the ``NUM_FOLDS`` fits.
    """
    x, good = np.asarray(mean_log_probs, float), np.asarray(ciders, float)
    fold = np.arange(len(x)) % NUM_FOLDS
    confidences = np.zeros(len(x))
    for number in range(NUM_FOLDS):
        own = fold == number
        others, those = np.flatnonzero(~own).tolist(), np.flatnonzero(own).tolist()
        told = [signs[i] for i in others] if signs else ()
        fitted = fit_calibration(list(x[~own]), list(good[~own]), signs=told, threshold=threshold)
        confidences[own] = [fitted(x[i], signs[i] if signs else ()) for i in those]
    return [float(value) for value in confidences]


def rank_correlation(one: Values, other: Values) -> float:
    """Spearman's rho, -1 to 1; 0 if one of the two is constant. Equal values share a rank."""
    ranks = [_ranks(values) for values in (one, other)]
    centred = [rank - rank.mean() for rank in ranks]
    size = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum()) / size if size else 0.0


def _ranks(values: Values) -> Values:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: Values = (last - (counts - 1) / 2)[places]
    return mean
