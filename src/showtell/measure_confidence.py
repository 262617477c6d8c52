"""A model's confidence against the quality of its captions, on pictures new to it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from showtell.captioner import Captioner
from showtell.captions import Caption
from showtell.checkpoint import METRICS, find_checkpoint
from showtell.confidence import CALIBRATION, Calibration
from showtell.errors import CheckpointError
from showtell.evaluate_model import caption_split
from showtell.files import write_json
from showtell.metrics import Scores
from showtell.pretrained import shipped_folder
from showtell.progress import Reporter
from showtell.reliability import (
    ACCEPTABLE,
    Reliability,
    cross_calibrated,
    fit_calibration,
    measure_reliability,
)


@dataclass(frozen=True)
class MeasuredConfidence:
    """Reliability of a model's confidence.

    Attributes:
        now: of the confidence as the model gives it.
        fitted: a calibration of these captions, where one was asked for.
        then: of a confidence so calibrated, each caption by a fit to the others.
    """

    now: Reliability
    fitted: Calibration | None = None
    then: Reliability | None = None


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
    fitted = fit_calibration(means, ciders, threshold=threshold, data=data)
    crossed = cross_calibrated(means, ciders, threshold=threshold)
    return MeasuredConfidence(
        now, fitted, measure_reliability(crossed, ciders, threshold=threshold)
    )


def measure_model(
    model: str,
    data: str,
    *,
    split: str,
    report: Reporter,
    threshold: float = ACCEPTABLE,
    calibrate: bool = False,
    decoding_changes: Mapping[str, Any],
    format: str | None = None,
    images: Path | None = None,
    store_folder: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> MeasuredConfidence:
    """Caption ``split`` of ``data`` with ``model`` and compare confidence with quality.

    Args:
        threshold: CIDEr-D, 0 to 10, from which on a caption is acceptable.
        calibrate: write a fitted calibration into the model.

    Raises:
        ShowtellError: the model or the data cannot be read, or confidence cannot be calibrated.
    """
    if calibrate and shipped_folder(model):
        raise CheckpointError(
            f"{model} comes with showtell and is not changed: pack it into a folder of yours "
            f"(showtell pack {model} -o FOLDER) and calibrate that"
        )
    captioner = Captioner.load(model, device=device, precision=precision)
    decoding = captioner.config.decoding.with_changes({**decoding_changes, "min_confidence": 0.0})
    found = caption_split(
        captioner,
        data,
        split=split,
        decoding=decoding,
        report=report,
        format=format,
        images=images,
        store_folder=store_folder,
    )
    measured = measure_confidence(
        found.evaluation.captions,
        found.evaluation.scores,
        threshold=threshold,
        fit=calibrate,
        data=f"{Path(data).name} {split}",
    )
    if measured.fitted is not None:
        write_calibration(find_checkpoint(model), measured.fitted)
    return measured


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Put ``calibration`` into a checkpoint's ``metrics.json``."""
    path = folder / METRICS
    metrics = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, metrics | {CALIBRATION: calibration.to_dict()})
