"""Caption the pictures of a data set and score the captions.

``caption_split`` reads a data set and captions a split of it; ``caption_records`` captions given
pictures. A checkpoint captions from features that it stores (``evaluate_captioner``, which
training's validation calls after each epoch), an export from the pictures and without torch.
``kept.evaluate_model`` is what ``showtell evaluate`` calls.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from showtell.config import DecodingConfig
from showtell.core.distributed import ALONE, Processes
from showtell.core.files import short_digest
from showtell.core.progress import Progress, Reporter
from showtell.data.records import Dataset, Record, dataset_fingerprint
from showtell.data.request import DataRequest
from showtell.data.splits import usable_splits
from showtell.encoders.store import FeatureStore
from showtell.errors import ConfigError, DataError
from showtell.inference.caption import Caption
from showtell.inference.captioner import Captioner
from showtell.metrics import References, Scores, evaluate, meteor
from showtell.metrics.coco_io import segmentation_of
from showtell.text.segment import AS_OPTION_OF_SCORE, PTB, Segmentation
from showtell.version import __version__

if TYPE_CHECKING:
    from showtell.inference.backends.native import NativeCaptioner

BATCH_SIZE = 128  # pictures at a time; of many processes, each one's


@dataclass(frozen=True)
class Evaluation:
    """Captions of a split with their scores.

    Attributes:
        captions: by image id, in the records' order.
        scores: against the records' captions.
    """

    captions: dict[str, Caption]
    scores: Scores

    @property
    def texts(self) -> dict[str, str]:
        """The captions' texts by image id."""
        return _texts(self.captions)

    def coco_results(self) -> list[dict[str, str | int]]:
        """The captions in COCO's results format; ids that are numbers become numbers again."""
        return [
            {
                "image_id": int(image_id) if _is_plain_number(image_id) else image_id,
                "caption": caption.text,
            }
            for image_id, caption in self.captions.items()
        ]


@dataclass(frozen=True)
class CaptionedSplit:
    """What a model says of the pictures of a split, and how good it is.

    Attributes:
        records: those that could be read.
        skipped: the others' image ids, with the reasons.
        store: the features that the captions were made from; None if from pictures.
        fingerprint: of all that the captions follow from.
        warnings: what was skipped when the data was read, of whatever split.
    """

    records: tuple[Record, ...]
    evaluation: Evaluation
    skipped: dict[str, str]
    store: FeatureStore | None
    fingerprint: str
    warnings: Sequence[str] = ()


def captions_fingerprint(
    captioner: Captioner,
    decoding: DecodingConfig,
    records: Sequence[Record],
) -> str:
    """16 digits for what captions follow from: weights, settings, clean-up and pictures.

    Here the pictures' contents count, as stale captions would be taken for those of a picture that
    was replaced by one of the same size. Reading them takes little beside captioning them.
    """
    runtime = captioner.runtime
    parts = (
        __version__,
        captioner.fingerprint,
        decoding.model_dump_json(),
        runtime.device.partition(":")[0] if runtime else "",
        runtime.precision if runtime else "",
        dataset_fingerprint(Dataset("records", "", tuple(records))),
        _digest_of_pictures(records),
        *filter(None, [captioner.cleaning.identity]),
    )
    return short_digest("\n".join(parts), length=16)


def _digest_of_pictures(records: Sequence[Record]) -> str:
    """sha256 of all records' files, ordered by id; one that cannot be read counts as empty."""
    digest = hashlib.sha256()
    for record in sorted(records, key=lambda record: record.image_id):
        try:
            with open(record.path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError:
            digest.update(hashlib.sha256().digest())
    return digest.hexdigest()


def caption_split(
    captioner: Captioner,
    data: DataRequest,
    *,
    split: str,
    report: Reporter,
    decoding: DecodingConfig | None = None,
) -> CaptionedSplit:
    """Caption a split and score the captions; nothing but features is written.

    Raises:
        ShowtellError: the data cannot be read, or the split is empty.
    """
    # Wrong words show now, not after the pictures are encoded.
    captioner.check(decoding or captioner.decoding)
    report.note(captioner.describe_runtime())
    dataset = data.load()
    for line in dataset.skipped():
        report.note(line)
    records = records_to_score(captioner, dataset, split, report)
    return caption_records(
        captioner, dataset, records, store=data.store, decoding=decoding, report=report
    )


def records_to_score(
    captioner: Captioner, dataset: Dataset, split: str, report: Reporter
) -> tuple[Record, ...]:
    """The pictures of a split that a captioner is scored on.

    On the data that the model was trained on, training's own split decides. On other data the
    data's marks decide; if it marks no picture with ``split``, it is split as for training.
    """
    if len(dataset.records) > 1:
        drawn = usable_splits(dataset)
        is_own = dataset_fingerprint(drawn) == captioner.trained_on
        if is_own and split in ("train", "all"):
            report.note("these pictures include those that the model was trained on")
        if is_own or (split != "all" and split not in dataset.split_counts()):
            dataset = drawn
    for note in dataset.notes:
        report.note(note)
    return dataset.select(split)


def caption_records(
    captioner: Captioner,
    dataset: Dataset,
    records: Sequence[Record],
    *,
    report: Reporter,
    store: Path | None = None,
    decoding: DecodingConfig | None = None,
) -> CaptionedSplit:
    """Caption ``records`` of ``dataset`` and score the captions, as ``caption_split`` does.

    Args:
        store: the feature store's folder; by default that of the training, if the data is the
            same. Exports have none.

    Raises:
        DataError: none of the pictures can be read.
        StoreError: the store was made by something else, or cannot be written.
        ConfigError: a store is given for an export.
    """
    meteor.prepare_aloud(report.note)
    if not captioner.stores_features:
        if store is not None:
            raise ConfigError(
                f"{store} holds features for torch, and {captioner.card.name} reads pictures"
            )
        return _caption_pictures(captioner, dataset, records, decoding, report)
    decoding = decoding or captioner.decoding
    captioner = cast("NativeCaptioner", captioner)
    features = _features_for(captioner, dataset, records, store, report)
    usable, skipped = _without_failures(dataset, records, features.failures, report)
    evaluation = evaluate_captioner(
        captioner,
        usable,
        features,
        decoding=decoding,
        progress=lambda done, total: report.progress("captioning", done, total, "pictures"),
    )
    fingerprint = captions_fingerprint(captioner, decoding, records)
    return CaptionedSplit(usable, evaluation, skipped, features, fingerprint, dataset.skipped())


def _features_for(
    captioner: "NativeCaptioner",
    dataset: Dataset,
    records: Sequence[Record],
    store: Path | None,
    report: Reporter,
) -> FeatureStore:
    from showtell.encoders.extract import WantedFeatures, features_for  # which need torch

    settings = captioner.config.encoder
    return features_for(
        replace(dataset, records=tuple(records)),
        captioner.encoder,
        # These pictures need only the view without augmentation. The rest is as in training, whose
        # store is used again if the data is the same.
        WantedFeatures(settings.views, settings.flips, captioner.needs_regions, augmented=()),
        runtime=captioner.runtime,
        folder=store,
        report=report,
    )


def _without_failures(
    dataset: Dataset, records: Sequence[Record], failures: Mapping[str, str], report: Reporter
) -> tuple[tuple[Record, ...], dict[str, str]]:
    """The records whose pictures could be captioned; of the others the reasons, by image id."""
    skipped = {r.image_id: failures[r.image_id] for r in records if r.image_id in failures}
    if skipped:
        report.note(f"{len(skipped)} pictures could not be read and are not scored")
    usable = tuple(record for record in records if record.image_id not in skipped)
    if not usable:
        first = f": {next(iter(skipped.values()))}" if skipped else ""
        raise DataError(
            f"none of the {len(records)} pictures of {dataset.name} could be read{first}"
        )
    return usable, skipped


def _caption_pictures(
    captioner: Captioner,
    dataset: Dataset,
    records: Sequence[Record],
    decoding: DecodingConfig | None,
    report: Reporter,
) -> CaptionedSplit:
    """``caption_records`` for captioners that have no features to be stored."""
    captions: dict[str, Caption] = {}
    failures: dict[str, str] = {}
    captioner.tell = report.note
    found = captioner.caption_stream((record.path for record in records), decoding=decoding)
    for number, (record, result) in enumerate(zip(records, found, strict=True), 1):
        if result.caption is None:
            failures[record.image_id] = str(result.error)
        else:
            captions[record.image_id] = result.caption
        report.progress("captioning", number, len(records), "pictures")
    usable, skipped = _without_failures(dataset, records, failures, report)
    cut = captioner.segmentation
    if cut is None:
        people = {record.image_id: record.captions for record in usable}
        cut, note = segmentation_of(people, written=AS_OPTION_OF_SCORE)
        if note:
            report.note(note)
    evaluation = Evaluation(captions, evaluate(_texts(captions), references_of(usable, cut)))
    fingerprint = captions_fingerprint(captioner, decoding or captioner.decoding, records)
    return CaptionedSplit(usable, evaluation, skipped, None, fingerprint, dataset.skipped())


def _texts(captions: Mapping[str, Caption]) -> dict[str, str]:
    return {image_id: caption.text for image_id, caption in captions.items()}


def evaluate_captioner(
    captioner: "NativeCaptioner",
    records: Sequence[Record],
    store: FeatureStore,
    *,
    references: References | None = None,
    decoding: DecodingConfig | None = None,
    progress: Progress | None = None,
    processes: Processes = ALONE,
) -> Evaluation:
    """Caption ``records`` from their stored features (view 0) and score the captions.

    Args:
        references: of the same records, where they are scored against more than once.
        decoding: default: the captioner's own, with no caption withheld for its confidence.
        progress: called with (pictures done, pictures in all) after each batch.
        processes: among which the pictures are shared out; all get the result.
    """
    decoding = decoding or captioner.resolve({"min_confidence": 0.0})
    captions: list[Caption] = []
    together = BATCH_SIZE * processes.size
    for start in range(0, len(records), together):
        batch = records[start : start + together]
        part = processes.part(len(batch))
        found: list[Caption] = []
        if part:
            rows = store.rows([batch[place].image_id for place in part])
            features = captioner.stored_features(store, rows)
            first = start + part.start
            found = captioner.caption_features(features, decoding=decoding, first=first)
        for captions_of_part in processes.gather(found):
            captions += captions_of_part
        if progress:
            progress(len(captions), len(records))
    by_id = dict(zip((record.image_id for record in records), captions, strict=True))
    segmentation = captioner.vocabulary.segmentation
    scores = processes.from_first(
        lambda: evaluate(_texts(by_id), references or references_of(records, segmentation))
    )
    return Evaluation(by_id, scores)


def references_of(records: Sequence[Record], segmentation: Segmentation = PTB) -> References:
    """The captions of ``records``, cut into words and counted for scoring."""
    people = {record.image_id: record.captions for record in records}
    return References(people, segmentation=segmentation)


def _is_plain_number(text: str) -> bool:
    """Whether an id is a number as JSON has it, of 64 bits at most, as COCO's tools read it."""
    return re.fullmatch(r"0|[1-9][0-9]{0,17}", text) is not None
