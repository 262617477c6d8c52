"""Old pictures that a model is trained on beside the new ones, so that it forgets less of them.

The model that a run starts from is kept as a teacher. What it finds probable in captions of the
old pictures, the new model is to go on finding probable (learning without forgetting, Li and Hoiem
2016, arXiv 1606.09282, section 3, with pictures of the old kind in place of the new). The old
captions are only what is read up to a word: the target is the teacher's whole distribution, so that
what it learnt by self-critical training is kept too, which cross-entropy on the captions undoes.
docs/experiments.md has what was tried.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from showtell.config import Config
from showtell.core.device import Runtime
from showtell.core.messages import counted
from showtell.core.progress import Reporter
from showtell.data.records import Dataset, dataset_fingerprint
from showtell.data.request import DataRequest
from showtell.data.splits import hash_order, usable_splits
from showtell.decoders.registry import needs_regions
from showtell.encoders.encoder import Encoder
from showtell.encoders.extract import WantedFeatures, features_for
from showtell.encoders.features import Features
from showtell.encoders.store import FeatureStore
from showtell.errors import CheckpointError, ConfigError, DataError
from showtell.inference.checkpoint import load_checkpoint
from showtell.text.vocabulary import UNK, Vocabulary
from showtell.training.corpus import Corpus, TokenizedCaptions
from showtell.training.teachers import Teachers
from showtell.training.words import longest_caption

OLD_STREAM = 6  # keeps its random numbers apart from the others'
OLD_AT = "old_at"  # in run.json: where the old data lay
REHEARSED = "rehearsed"  # in run.json and checkpoints: which of its pictures


@dataclass(frozen=True)
class OldPictures:
    """Old pictures to rehearse, and the model that knows them.

    Attributes:
        dataset: they and no others.
        store: the features of their evaluation views.
        corpus: their captions; ``pictures`` are rows of ``store``.
        teachers: the model that the run starts from.
    """

    dataset: Dataset
    store: FeatureStore
    corpus: Corpus
    teachers: Teachers

    def provenance(self) -> dict[str, Any]:
        """What a checkpoint says of them."""
        return {
            "data": self.dataset.name,
            "data_format": self.dataset.format,
            "data_fingerprint": dataset_fingerprint(self.dataset),
            "num_pictures": len(self.dataset.records),
            "num_captions": len(self.corpus),
        }

    def batch(
        self, size: int, seed: int, step: int, runtime: Runtime
    ) -> tuple[Features, Tensor, Tensor]:
        """About ``size`` captions for step ``step``: features, inputs (B, T) and targets (B, T).

        They are all captions of pictures drawn at random, so that what is computed of a picture is
        shared.
        """
        rows = self.corpus.draw_pictures(size, np.random.default_rng((seed, step, OLD_STREAM)))
        regions = any(decoder.needs_regions for decoder in self.teachers.decoders)
        captions, features = self.corpus.of_pictures(rows, self.store, runtime, regions=regions)
        inputs, targets = self.corpus.tensors(captions, runtime.device)
        return features, inputs, targets


def check_old(old: DataRequest | None, config: Config) -> None:
    """Refuse old pictures that nothing would come of.

    Raises:
        ConfigError: the run does not start from a whole model, which could forget them.
    """
    if old is None:
        return
    training = config.training
    if training.init_from is None:
        raise ConfigError(
            f"--old {old.data} is what a model is not to forget: give the model with --from"
        )
    if training.init_parts != "model":
        raise ConfigError(
            f"--old {old.data} is what a whole model is not to forget, and training.init_parts = "
            f"{training.init_parts} takes a part of {training.init_from}: leave --old out"
        )


def load_old(old: DataRequest) -> Dataset:
    """The old data, with pictures to choose by: where none are val, some of train are held out.

    Data that is all test, or has one training picture beside it, is left as it is: nothing is
    chosen by it.

    Raises:
        DataError: it cannot be read.
    """
    dataset = old.load()
    counts = dataset.split_counts()
    only_measured = "test" in counts and counts.get("train", 0) < 2
    return dataset if "val" in counts or only_measured else usable_splits(dataset)


def sample(dataset: Dataset, num: int, seed: int) -> Dataset:
    """At most ``num`` training pictures of the old data, the same for the same seed."""
    records = dataset.split("train")
    # Salted with the seed, so that another seed takes other pictures.
    kept = set(hash_order(f"{seed} {record.image_id}" for record in records)[:num])
    chosen = tuple(record for record in records if f"{seed} {record.image_id}" in kept)
    return replace(dataset, records=chosen)


def wanted_of(old: DataRequest | None, config: Config, report: Reporter) -> Dataset | None:
    """What the settings ask to rehearse of the old data; None if nothing.

    Raises:
        DataError: the data cannot be read.
    """
    if old is None:
        return None
    dataset = load_old(old)  # also where it is only measured, at the end: what is wrong shows now
    for remark in dataset.remarks():
        report.note(f"{old.data}: {remark}")
    if not (num := config.training.rehearsal_pictures):
        return None
    if config.encoder.reads_pictures:
        report.note(f"{old.data} is measured and not rehearsed: the encoder trains in this run")
        return None
    if not dataset.split("train"):
        report.note(
            f"{old.data} is measured and not rehearsed: none of its pictures is marked train "
            "(`showtell data split` marks them)"
        )
        return None
    return sample(dataset, num, config.seed)


def open_old_pictures(
    dataset: Dataset,
    config: Config,
    vocabulary: Vocabulary,
    encoder: Encoder,
    *,
    folder: Path | None,
    runtime: Runtime,
    report: Reporter,
) -> OldPictures:
    """Old pictures with their features, and the model that knows them.

    Args:
        dataset: as ``wanted_of`` gives it.
        vocabulary: of the run; it begins with the words of the model that the run starts from.
        folder: of the feature store; default: one in the cache folder.

    Raises:
        ShowtellError: no picture of it is usable, or there is no such model.
    """
    source = config.training.init_from
    assert source is not None
    start = load_checkpoint(source)
    wanted = WantedFeatures(0, grid=needs_regions(config.decoder), augmented=())
    store = features_for(dataset, encoder, wanted, runtime=runtime, report=report, folder=folder)
    records = [record for record in dataset.records if record.image_id not in store.failures]
    if not records:
        raise DataError(
            f"--old {dataset.name}: none of {counted(len(dataset.records), 'training picture')} "
            f"could be read: run `showtell data inspect {dataset.name}`"
        )
    corpus = _corpus(records, store, vocabulary, longest_caption(config.data, vocabulary))
    if not len(corpus):
        raise DataError(
            f"--old {dataset.name}: no caption of its training pictures has a word that {source} "
            "knows"
        )
    decoder = start.decoder.to(runtime.device).requires_grad_(False)
    report.note(
        f"rehearsing {counted(len(records), 'training picture')} of {dataset.name} with "
        f"{counted(len(corpus), 'caption')} beside the new ones (training.rehearsal_pictures)"
    )
    return OldPictures(dataset, store, corpus, Teachers((decoder,), start.vocabulary))


def _corpus(
    records: Sequence[Any], store: FeatureStore, vocabulary: Vocabulary, max_length: int
) -> Corpus:
    """Captions of old pictures as ids; those without any word of the vocabulary are left out."""
    captions = TokenizedCaptions.tokenize(
        chain.from_iterable(record.captions for record in records), vocabulary.segmentation
    )
    rows = store.rows([record.image_id for record in records])
    pictures = np.repeat(rows, [len(record.captions) for record in records])
    corpus = Corpus.encode(captions, pictures, vocabulary, max_length)
    caption_of = np.repeat(np.arange(len(corpus)), corpus.lengths)
    known = np.bincount(caption_of[corpus.ids != UNK], minlength=len(corpus)) > 0
    return corpus.only(known)


def old_place(old: DataRequest) -> dict[str, Any]:
    """Where the old data lies, for ``run.json``."""
    data = Path(old.data)
    return {
        "data": str(data.resolve()) if data.exists() else old.data,
        "format": old.format,
        "images": str(old.images.resolve()) if old.images else None,
        "encoding": old.encoding,
        "store": str(old.store.resolve()) if old.store else None,
    }


def old_of_run(known: Mapping[str, Any]) -> DataRequest | None:
    """The old data that a run was given, by its ``run.json``."""
    place = known.get(OLD_AT)
    if not isinstance(place, dict):
        return None
    images, store = (Path(place[name]) if place.get(name) else None for name in ("images", "store"))
    return DataRequest(
        str(place["data"]), place.get("format"), images, store, place.get("encoding")
    )


def old_to_resume(
    old: DataRequest | None, known: Mapping[str, Any], folder: Path
) -> DataRequest | None:
    """The old data of a run that goes on: what is given, else what the run began with.

    Args:
        known: its ``run.json``.

    Raises:
        CheckpointError: some is given, and the run began without.
    """
    began = old_of_run(known)
    if old is not None and began is None:
        raise CheckpointError(
            f"{folder} was begun without --old, so it rehearses no old pictures: leave --old out, "
            "or start a new run"
        )
    return old or began


def check_same(old: Dataset | None, known: Mapping[str, Any], folder: Path) -> None:
    """Make sure that a resumed run rehearses what it did before.

    Args:
        known: its ``run.json``.

    Raises:
        CheckpointError: it would not.
    """
    before = known.get(REHEARSED) or {}
    if before.get("data_fingerprint") != (dataset_fingerprint(old) if old else None):
        raise CheckpointError(
            f"{folder} rehearses {before.get('num_pictures', 0):,} pictures of "
            f"{before.get('data', 'no old data')}, and what --old gives now is not the same: give "
            "the same data, or start a new run"
        )
