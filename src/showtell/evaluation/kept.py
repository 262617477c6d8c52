"""A model's captions of a data set and their scores, kept in files.

``evaluate_model`` is all of ``showtell evaluate``: it loads a model and a data set, captions a
split, and writes the captions with their scores beside them. A fingerprint of all that the captions
follow from is in the files' names and among the scores, so ``kept_or_made_captions``, of ``showtell
compare``, reads captions again only where they would come out the same.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from showtell.core.files import parse_json, write_json
from showtell.core.progress import Reporter
from showtell.data.records import Dataset
from showtell.data.request import DataRequest
from showtell.evaluation.evaluate import (
    CaptionedSplit,
    caption_records,
    caption_split,
    captions_fingerprint,
    records_to_score,
)
from showtell.inference.captioner import Captioner
from showtell.inference.loading import ModelRequest, load_request
from showtell.inference.specs import spec_of
from showtell.metrics import Scores
from showtell.metrics.bootstrap import Resampling
from showtell.pretrained import shipped_folder

SCORES = ".scores.json"  # in place of the suffix of the captions' file


@dataclass(frozen=True)
class ModelEvaluation:
    """Scores of one model on one split, and where its captions were written.

    Attributes:
        cleaning: what the user asked to become of its texts before they were scored.
        warnings: what was skipped when the data was read; those of the scores come after them.
    """

    model: str
    data: str
    split: str
    scores: Scores
    predictions: Path
    skipped: dict[str, str]
    fingerprint: str
    cleaning: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``; the figures are under ``metrics``."""
        cleaning = {"cleaning": dict(self.cleaning)} if self.cleaning else {}
        return {
            "model": self.model,
            "data": self.data,
            "split": self.split,
            "skipped": self.skipped,
            "predictions": str(self.predictions),
            "fingerprint": self.fingerprint,
            **cleaning,
            **self.scores.to_dict(),
            "warnings": [*self.warnings, *self.scores.warnings],
        }


def evaluate_model(
    model: ModelRequest,
    data: DataRequest,
    *,
    split: str,
    report: Reporter,
    decoding_changes: Mapping[str, Any] | None = None,
    predictions: Path | None = None,
    resampling: Resampling | None = None,
) -> ModelEvaluation:
    """Caption a split with a model, score the captions, and write both.

    Args:
        split: ``train``, ``val``, ``test`` or ``all``.
        decoding_changes: to the model's own settings; the best caption is scored.
        predictions: the file for the captions, in COCO's results format; by default one in
            ``evaluation/`` in the model's folder. The scores go beside it.
        resampling: for intervals of the scores; default: none.

    Raises:
        ShowtellError: the model or the data cannot be read, or the split is empty.
    """
    if data.store is not None and model.runtime == "auto":
        model = replace(model, runtime="torch")  # which reads features
    captioner = load_request(model)
    decoding = captioner.resolve(decoding_changes)
    found = caption_split(captioner, data, split=split, decoding=decoding, report=report)
    path = predictions or _default_path(model.model, data.data, split, found.fingerprint)
    return _write(found, path, model, data, split, resampling)


def kept_or_made_captions(
    captioner: Captioner,
    dataset: Dataset,
    model: ModelRequest,
    data: DataRequest,
    *,
    split: str,
    report: Reporter,
) -> tuple[dict[str, str], dict[str, Sequence[str]]]:
    """What a model says of a split, and what people say of the same pictures, by image id.

    Captions that ``evaluate_model`` wrote to its default place are read again if they follow from
    the same weights, settings and pictures. Otherwise they are made, and written there.

    Args:
        captioner: of ``model``.
        dataset: of ``data``.

    Raises:
        ShowtellError: the pictures cannot be read, or the split is empty.
    """
    records = records_to_score(captioner, dataset, split, report)
    fingerprint = captions_fingerprint(captioner, captioner.decoding, records)
    path = _default_path(model.model, data.data, split, fingerprint)
    captions = _read(path, fingerprint)
    if captions is None:
        report.note(captioner.describe_runtime())
        found = caption_records(captioner, dataset, records, store=data.store, report=report)
        result = _write(found, path, model, data, split, None)
        captions = {name: said.text for name, said in found.evaluation.captions.items()}
        report.note(f"captions: {result.predictions}")
    else:
        report.note(f"captions of {model.model} are taken from {path}")
    people: dict[str, Sequence[str]] = {
        r.image_id: r.captions for r in records if r.image_id in captions
    }
    return captions, people


def _write(
    found: CaptionedSplit,
    path: Path,
    model: ModelRequest,
    data: DataRequest,
    split: str,
    resampling: Resampling | None,
) -> ModelEvaluation:
    """Write captions, and beside them their scores."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, found.evaluation.coco_results())
    scores = found.evaluation.scores
    if resampling:
        scores = scores.with_intervals(resampling)
    result = ModelEvaluation(
        str(model.model),
        data.data,
        split,
        scores,
        path,
        found.skipped,
        found.fingerprint,
        model.cleaning,
        found.warnings,
    )
    write_json(path.with_suffix(SCORES), result.to_dict())
    return result


def _read(path: Path, fingerprint: str) -> dict[str, str] | None:
    """The captions in ``path``, if those are the ones that ``fingerprint`` stands for."""
    try:
        scores = parse_json(path.with_suffix(SCORES).read_text(encoding="utf-8"))
        if scores["fingerprint"] != fingerprint:
            return None
        entries = parse_json(path.read_text(encoding="utf-8"))
        return {str(entry["image_id"]): str(entry["caption"]) for entry in entries}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _default_path(model: str | Path, data: str, split: str, fingerprint: str) -> Path:
    """Where captions go, with digits of what they follow from: no measurement replaces another."""
    name = re.sub(r"[^\w.-]+", "-", Path(data).stem or data)
    name = f"{name}-{split}-{fingerprint[:8]}.json"
    if shipped_folder(model) or spec_of(model):  # which are not for writing into
        safe = re.sub(r"[^\w.-]+", "-", str(model))
        return Path("evaluation") / f"{safe}-{name}"
    return Path(model) / "evaluation" / name
