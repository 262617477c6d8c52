"""The captions of a run's validation pictures, and which of them are best and worst."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from showtell.core.progress import Reporter
from showtell.data.records import Dataset, Record, dataset_fingerprint
from showtell.data.request import DataRequest, open_data
from showtell.encoders.store import FeatureStore
from showtell.errors import DataError, ShowtellError
from showtell.evaluation.evaluate import caption_records
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.caption import Caption
from showtell.metrics import Scores
from showtell.report.reading import RunFolder

RANKED_BY = "CIDEr-D"


@dataclass(frozen=True)
class DataPlace:
    """Where to look for the validation pictures; None means where training had them.

    Attributes:
        data: a path, or ``scenes``.
        format, images, store, encoding: as in ``DataRequest``.
        max_pictures: caption at most this many, spread evenly over the split.
    """

    data: str | None = None
    format: str | None = None
    images: Path | None = None
    store: Path | None = None
    max_pictures: int = 5000
    encoding: str | None = None


@dataclass(frozen=True)
class CaptionedRun:
    """A run's captions of the validation pictures, with their scores.

    Attributes:
        checkpoint: the one that made the captions, ``best`` or ``last``.
        data: the name of the data set.
        num_in_split: how many pictures the split has; ``records`` may be fewer.
    """

    name: str
    checkpoint: str
    data: str
    records: tuple[Record, ...]
    num_in_split: int
    captions: dict[str, Caption]
    scores: Scores
    captioner: NativeCaptioner
    store: FeatureStore

    @property
    def which_pictures(self) -> str:
        """As in ``all 1,000 validation pictures of scenes``."""
        shown, split = len(self.records), self.num_in_split
        which = f"all {split:,}" if shown == split else f"{shown:,} of the {split:,}"
        return f"{which} validation pictures of {self.data}"

    @property
    def texts(self) -> dict[str, str]:
        """The captions' texts by image id."""
        return {image_id: caption.text for image_id, caption in self.captions.items()}

    @property
    def references(self) -> dict[str, Sequence[str]]:
        """What people say of the same pictures."""
        return {record.image_id: record.captions for record in self.records}

    def ranked(self) -> list[Record]:
        """Records from best to worst: by CIDEr-D, then by ROUGE-L."""
        return sorted(
            self.records,
            key=lambda record: (
                -self.score(record.image_id),
                -self.scores.per_image[record.image_id].get("ROUGE-L", 0.0),
                record.image_id,
            ),
        )

    def score(self, image_id: str) -> float:
        """CIDEr-D of one picture's caption, 0 to 10."""
        return self.scores.per_image[image_id][RANKED_BY]

    def extremes(self, num: int) -> tuple[list[Record], list[Record]]:
        """The ``num`` best and the ``num`` worst, the worst first; no picture is in both."""
        ranked = self.ranked()
        num_best = min(num, (len(ranked) + 1) // 2)
        num_worst = min(num, len(ranked) - num_best)
        return ranked[:num_best], ranked[len(ranked) - num_worst :][::-1]

    def with_attention(self, records: Sequence[Record]) -> list[Caption]:
        """Captions of ``records`` that carry where the decoder looked.

        Raises:
            ConfigError: the decoder does not attend.
        """
        rows = self.store.rows([record.image_id for record in records])
        features = self.captioner.stored_features(self.store, rows)
        return self.captioner.caption_features(features, attention=True)


def caption_validation(
    run: RunFolder,
    place: DataPlace,
    *,
    device: str,
    precision: str,
    report: Reporter,
) -> CaptionedRun:
    """Caption the validation pictures with the run's best checkpoint, and score the captions.

    Raises:
        ShowtellError: there is no checkpoint, the data is not where it was or is no longer the
            training's, or its pictures cannot be read.
    """
    captioner = NativeCaptioner.load(run.folder, device=device, precision=precision)
    dataset = _dataset(run, place, report)
    every = dataset.select("val")
    step = max(1.0, len(every) / place.max_pictures)
    chosen = [every[int(i * step)] for i in range(min(len(every), place.max_pictures))]
    found = caption_records(captioner, dataset, chosen, store=_store(run, place), report=report)
    assert found.store is not None  # a checkpoint's captions are made from features
    return CaptionedRun(
        run.name,
        run.checkpoint_name,
        dataset.name,
        found.records,
        len(every),
        found.evaluation.captions,
        found.evaluation.scores,
        captioner,
        found.store,
    )


def _dataset(run: RunFolder, place: DataPlace, report: Reporter) -> Dataset:
    """The data set, split as for training."""
    if place.data is not None:
        given = DataRequest(place.data, place.format, place.images, encoding=place.encoding)
        dataset = open_data(given, report=report)
        if dataset_fingerprint(dataset) != run.provenance.get("data_fingerprint"):
            report.note(f"{place.data} is not the data that {run.name} was trained on")
        return dataset
    known = run.provenance
    data = known.get("data_at") or known.get("data")
    if not isinstance(data, str):
        raise DataError("the run does not say where its data was: give it with --data")
    images = place.images or (Path(known["images_at"]) if known.get("images_at") else None)
    try:
        known_as = DataRequest(
            data,
            place.format or known.get("data_format"),
            images,
            encoding=place.encoding or known.get("encoding"),
        )
        dataset = open_data(known_as, report=report)
    except ShowtellError as error:
        raise DataError(
            f"the data is not where training had it: {error}; give it with --data (and --images)"
        ) from None
    if dataset_fingerprint(dataset) != known.get("data_fingerprint"):
        raise DataError(
            f"{data} is no longer what the run was trained on; to caption it anyway, give "
            "it with --data"
        )
    return dataset


def _store(run: RunFolder, place: DataPlace) -> Path | None:
    """The feature store to use; None means the default one."""
    if place.store or place.data:
        return place.store
    known = run.provenance.get("features_at")
    return Path(known) if known and Path(known).is_dir() else None
