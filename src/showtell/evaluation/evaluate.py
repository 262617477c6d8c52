"""A checkpoint, a data set, a split: captions and scores, in files that others can read.

MERGED: Caption the pictures of a data set and score what was said.

Works on features from a store, so it serves training's validation and ``showtell evaluate``.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from showtell.config import DecodingConfig
from showtell.core.distributed import ALONE, Processes
from showtell.core.files import write_json
from showtell.core.progress import Reporter
from showtell.data.records import Dataset, Record, dataset_fingerprint
from showtell.data.sources import load_dataset
from showtell.data.splits import usable_splits
from showtell.decoding.constraints.named_words import named_words
from showtell.encoders.extract import features_for
from showtell.encoders.features import load_features
from showtell.encoders.store import FeatureStore
from showtell.errors import DataError
from showtell.inference.caption import Caption
from showtell.inference.captioner import Captioner
from showtell.metrics import References, Scores, evaluate, meteor
from showtell.pretrained import shipped_folder


@dataclass(frozen=True)
class Evaluation:
    """Captions of a split with their scores.

    Attributes:
        captions: by image id, in the records' order.
        scores: against the records' captions.
    """

    captions: dict[str, Caption]
    scores: Scores

    def coco_results(self) -> list[dict[str, str | int]]:
        """The captions in COCO's results format; ids that are numbers become numbers again."""
        return [
            {
                "image_id": int(image_id) if _is_plain_number(image_id) else image_id,
                "caption": caption.text,
            }
            for image_id, caption in self.captions.items()
        ]


def evaluate_captioner(
    captioner: Captioner,
    records: Sequence[Record],
    store: FeatureStore,
    *,
    references: References | None = None,
    decoding: DecodingConfig | None = None,
    batch_size: int = 128,
    progress: Callable[[int, int], None] | None = None,
    processes: Processes = ALONE,
) -> Evaluation:
    """Caption ``records`` from their stored features (view 0) and score the captions.

    Args:
        references: of the same records, where they are scored against more than once.
        batch_size: pictures at a time; of many processes, each one's.
        progress: called with (pictures done, pictures in all) after each batch.
        processes: among which the pictures are shared out; all get the result.
    """
    captions: list[Caption] = []
    for start in range(0, len(records), batch_size * processes.size):
        batch = records[start : start + batch_size * processes.size]
        part = processes.part(len(batch))
        found: list[Caption] = []
        if part:
            own = [batch[place].image_id for place in part]
            features = load_features(
                store,
                store.rows(own),
                regions=captioner.needs_regions,
                dtype=captioner.runtime.dtype,
            )
            found = captioner.caption_features(
                features, decoding=decoding, first=start + part.start
            )
        for captions_of_part in processes.gather(found):
            captions += captions_of_part
        if progress:
            progress(len(captions), len(records))
    by_id = dict(zip((record.image_id for record in records), captions, strict=True))
    texts = {image_id: caption.text for image_id, caption in by_id.items()}
    scores = processes.from_first(lambda: evaluate(texts, references or references_of(records)))
    return Evaluation(by_id, scores)


def references_of(records: Sequence[Record]) -> References:
    """The captions of ``records``, tokenised and counted for scoring."""
    return References({record.image_id: record.captions for record in records})


def _is_plain_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and str(int(text)) == text


@dataclass(frozen=True)
class ModelEvaluation:
    """Scores of one model on one split, and where its captions were written."""

    model: str
    data: str
    split: str
    scores: Scores
    predictions: Path
    skipped: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``; the figures are under ``metrics``."""
        return {
            "model": self.model,
            "data": self.data,
            "split": self.split,
            "skipped": self.skipped,
            "predictions": str(self.predictions),
            **self.scores.to_dict(),
        }


@dataclass(frozen=True)
class CaptionedSplit:
    """What a model says of the pictures of a split, and how good it is.

    Attributes:
        records: those that could be read.
        skipped: the others' image ids, with the reasons.
    """

    records: tuple[Record, ...]
    evaluation: Evaluation
    skipped: dict[str, str]


def evaluate_model(
    model: str,
    data: str,
    *,
    split: str,
    decoding_changes: Mapping[str, Any],
    report: Reporter,
    predictions: Path | None = None,
    ensemble: Sequence[str] = (),
    format: str | None = None,
    images: Path | None = None,
    store_folder: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> ModelEvaluation:
    """Caption ``split`` of ``data`` with ``model``, score it, write both.

    Args:
        decoding_changes: to the model's own ``DecodingConfig``; the best caption is scored.
        ensemble: further models, whose probabilities are averaged with the first's.

    Raises:
        ShowtellError: the model or the data cannot be read, or the split is empty.
    """
    captioner = Captioner.load(model, ensemble=ensemble, device=device, precision=precision)
    decoding = captioner.config.decoding.with_changes(decoding_changes)
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
    path = predictions or _default_path(model, data, split)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, found.evaluation.coco_results())
    result = ModelEvaluation(model, data, split, found.evaluation.scores, path, found.skipped)
    write_json(path.with_suffix(".scores.json"), result.to_dict())
    return result


def caption_split(
    captioner: Captioner,
    data: str,
    *,
    split: str,
    report: Reporter,
    decoding: DecodingConfig | None = None,
    format: str | None = None,
    images: Path | None = None,
    store_folder: Path | None = None,
) -> CaptionedSplit:
    """Caption ``split`` of ``data`` and score it; nothing but features is written.

    Raises:
        ShowtellError: the data cannot be read, or the split is empty.
    """
    named_words(decoding or captioner.config.decoding, captioner.vocabulary)  # before the pictures
    report.note(captioner.runtime.describe())
    dataset = load_dataset(data, format=format, images=images)
    records = _records(dataset, split, captioner.metrics.get("data_fingerprint"), report)
    meteor.prepare_aloud(report.note)
    settings = captioner.config
    store = features_for(
        dataset,
        captioner.encoder,
        # As for a test: these pictures need the one view without augmentation. The rest is as in
        # the training, whose store serves again where the data is the same.
        records=records,
        augmented=(),
        views=settings.encoder.views,
        any_views=True,
        flips=settings.encoder.flips,
        runtime=captioner.runtime,
        folder=store_folder,
        grid=captioner.needs_regions,
        report=report,
    )
    skipped = {
        r.image_id: store.failures[r.image_id] for r in records if r.image_id in store.failures
    }
    if skipped:
        report.note(f"{len(skipped)} pictures could not be read and are not scored")
    usable = tuple(record for record in records if record.image_id not in skipped)
    if not usable:
        raise DataError(f"none of the {len(records)} pictures of {dataset.name} could be read")
    evaluation = evaluate_captioner(
        captioner,
        usable,
        store,
        decoding=decoding,
        progress=lambda done, total: report.progress("captioning", done, total, "pictures"),
    )
    return CaptionedSplit(usable, evaluation, skipped)


def _records(
    dataset: Dataset, split: str, trained_on: str | None, report: Reporter
) -> tuple[Record, ...]:
    """The pictures to score: what training set apart as ``split``, on the data of the training.

    On other data it is what the data marks as ``split``; where it marks none, what training
    would set apart.
    """
    if len(dataset.records) > 1:
        drawn = usable_splits(dataset)
        is_own = dataset_fingerprint(drawn) == trained_on
        if is_own and split in ("train", "all"):
            report.note("these pictures include those that the model was trained on")
        if is_own or (split != "all" and split not in dataset.split_counts()):
            dataset = drawn
    for note in dataset.notes:
        report.note(note)
    return dataset.select(split)


def _default_path(model: str, data: str, split: str) -> Path:
    name = re.sub(r"[^\w.-]+", "-", Path(data).stem or data)
    if shipped_folder(model):  # which is not for writing into
        return Path("evaluation") / f"{model}-{name}-{split}.json"
    return Path(model) / "evaluation" / f"{name}-{split}.json"
