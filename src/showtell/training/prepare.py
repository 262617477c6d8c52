"""The data of a run as ids and features: ``prepare`` makes ``TrainingData`` of a data set.

It builds the vocabulary from the training captions and turns both splits into ids, each caption
with the row of its picture. Encoder and features are opened by ``openings.py``; words are chosen
in ``words.py``; ``first_decoder.py`` makes the decoder.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from showtell.config import DataConfig, DecoderConfig
from showtell.core.memory import paused_collector
from showtell.core.messages import counted, some
from showtell.core.progress import Reporter
from showtell.data.records import Dataset, Record
from showtell.decoders.word_detector import WordDetector, commonest
from showtell.encoders.concepts import Classes, class_ids
from showtell.encoders.store import FeatureStore
from showtell.errors import DataError
from showtell.evaluation.evaluate import references_of
from showtell.metrics import References
from showtell.text.segment import Segmentation
from showtell.text.vocabulary import (
    END,
    PAD,
    START,
    UNK,
    Vocabulary,
    WordVocabulary,
)
from showtell.training.corpus import Corpus, TokenizedCaptions, tokenize_cached
from showtell.training.graded import GradedCaptions
from showtell.training.old_pictures import OldPictures
from showtell.training.pictures import PictureFiles
from showtell.training.text_captions import (
    TextCaptions,
)
from showtell.training.words import (
    build_vocabulary,
    captions_to_speak_from,
    choose_segmentation,
    longest_caption,
    note_unknown,
    with_new_words,
    with_styles,
)

TINY = 500  # pictures; a decoder trained on fewer learns them by heart


@dataclass(frozen=True)
class TrainingData:
    """Everything that the loop reads.

    Attributes:
        train, val: captions as ids; ``Corpus.pictures`` are rows of ``store``, or of ``pictures``.
        val_records: what is captioned and scored after each epoch.
        val_references: their captions, ready to be scored against.
        store: features; None where pictures are read instead.
        pictures: None where features are read.
        classes: of the encoder's classifier, where it has some.
        text: captions without pictures, where there are some.
        old: pictures that the model of the start knows, where some are rehearsed.
        graded: captions of training pictures that people graded, where there are some.
        detectable: the words of a decoder's detector, and the share of training captions that have
            each; None where it has no detector.
    """

    vocabulary: Vocabulary
    train: Corpus
    val: Corpus
    val_records: Sequence[Record]
    val_references: References
    store: FeatureStore | None
    pictures: PictureFiles | None = None
    classes: Classes | None = None
    text: TextCaptions | None = None
    old: OldPictures | None = None
    graded: GradedCaptions | None = None
    detectable: tuple[Tensor, Tensor] | None = None

    def stored(self) -> FeatureStore:
        """The features, of a run that has some."""
        assert self.store is not None, "this run reads pictures"
        return self.store

    def fingerprint(self) -> str:
        """sha256 of all captions' ids and rows of the store, by which batches are cut."""
        digest = hashlib.sha256()
        beside = (self.text, self.old, self.graded)
        more = [part.corpus for part in beside if part is not None]
        for corpus in (self.train, self.val, *more):
            given = (corpus.ids, corpus.offsets, corpus.pictures, corpus.is_cut, corpus.starts)
            for array in (array for array in given if array is not None):
                digest.update(np.ascontiguousarray(array).tobytes())
        if self.graded is not None:
            digest.update(self.graded.grades.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What captions are prepared for: the model that is to learn them, as far as it is there.

    Attributes:
        vocabulary: one that is there already, of a model that is trained on.
        segmentation: how captions are cut into words; default: as ``choose_segmentation`` has it.
        classes: of the encoder's classifier.
        feature_size: D, of its pooled features; for ``config.text`` alone.
        decoder: says whether a detector takes the place of the classifier.
        detector: one that has learnt already, of a model that is trained on.
        new_words: as ``config.new_words``, of a ``vocabulary`` that is not a model's to train on.
        rehearsal: captions that this model has made up, to be learnt beside ``config.text``.
    """

    vocabulary: Vocabulary | None = None
    segmentation: Segmentation | None = None
    classes: Classes | None = None
    feature_size: int = 0
    decoder: DecoderConfig | None = None
    detector: WordDetector | None = None
    new_words: int | None = None
    rehearsal: Sequence[str] = ()


@paused_collector()
def prepare(
    dataset: Dataset,
    config: DataConfig,
    store: FeatureStore | PictureFiles,
    report: Reporter,
    given: Given = Given(),
) -> TrainingData:
    """Build the vocabulary from the training captions and encode both splits.

    Args:
        store: what pictures become rows of.

    Raises:
        ConfigError: there are captions without pictures and the encoder knows no words.
        MissingExtraError: ``tokenizers`` is not installed, and the vocabulary is of pieces.
        DataError: a split has no usable picture.
        VocabularyError: ``vocab_file`` is not a vocabulary, or no word reaches the threshold.
    """
    train_records = _with_features(dataset.split("train"), store, "train", report)
    val_records = _with_features(dataset.split("val"), store, "val", report)
    if len(train_records) < TINY and given.vocabulary is None:
        size = counted(len(train_records), "training picture")
        report.note(
            f"{dataset.name} is tiny: {size}. The model can learn "
            "them by heart; with fewer than a few thousand, do not expect sensible captions of "
            "others."
        )
    segmentation = given.segmentation
    if segmentation is None:
        segmentation, note = choose_segmentation(train_records, config, given.vocabulary)
        if note:
            report.note(note)
    tokenized = _tokenize(train_records, segmentation)
    text = None
    if config.text or given.rehearsal:
        text = captions_to_speak_from(config, given.classes, segmentation, given.rehearsal)
    vocabulary = given.vocabulary
    if vocabulary is None:
        vocabulary = build_vocabulary(config, tokenized, text)
    elif (least := config.new_words or given.new_words) and isinstance(vocabulary, WordVocabulary):
        vocabulary = with_new_words(vocabulary, tokenized, least, report)
    vocabulary = with_styles(vocabulary, train_records).cut_by(segmentation)
    longest = longest_caption(config, vocabulary)
    train = _encode(tokenized, train_records, store, vocabulary, longest)
    val_words = _tokenize(val_records, segmentation)
    val = _encode(val_words, val_records, store, vocabulary, longest)
    if not len(train) or not len(val):
        raise DataError(f"{dataset.name}: no caption has a word in it")
    if given.vocabulary is not None or config.vocab_file:
        note_unknown(train, segmentation, report)
    records = (train_records, val_records)
    _note_sizes((train, val), records, vocabulary, longest, report)
    _note_styles(train, vocabulary, report)
    detectable = _detectable(train, len(vocabulary), given)
    spoken = None
    if text is not None:
        spoken = _spoken(text, vocabulary, config, detectable, given, report)
    return TrainingData(
        vocabulary=vocabulary,
        train=train,
        val=val,
        val_records=val_records,
        val_references=references_of(val_records, segmentation),
        store=None if isinstance(store, PictureFiles) else store,
        pictures=store if isinstance(store, PictureFiles) else None,
        classes=given.classes,
        text=spoken,
        detectable=detectable,
    )


def _note_styles(train: Corpus, vocabulary: Vocabulary, report: Reporter) -> None:
    if train.starts is not None and START not in train.starts:
        report.note(
            f"every training caption has a style ({some(list(vocabulary.styles), 3)}), so the "
            "model does not learn to caption without one: ask it with `showtell caption --style "
            "NAME`"
        )


def _note_sizes(
    splits: tuple[Corpus, Corpus],
    records: tuple[Sequence[Record], Sequence[Record]],
    vocabulary: Vocabulary,
    max_length: int,
    report: Reporter,
) -> None:
    """Say how much there is to train on and to validate, and how much of it is cut off."""
    train, val = splits
    report.note(
        f"{counted(len(train), 'caption')} of {counted(len(records[0]), 'picture')} to train "
        f"on, {len(val):,} of {len(records[1]):,} to validate; "
        f"{len(vocabulary):,} {vocabulary.unit}"
    )
    if train.num_cut:
        report.note(
            f"{train.num_cut:,} training captions are longer than data.max_caption_length = "
            f"{max_length} {vocabulary.unit} and are cut"
        )


def _detectable(train: Corpus, vocab_size: int, given: Given) -> tuple[Tensor, Tensor] | None:
    """The words of the decoder's detector and their shares; None where it has none."""
    num_detected = getattr(given.decoder, "detected", 0)
    if not num_detected:
        return None
    return given.detector.known() if given.detector else _commonest(train, vocab_size, num_detected)


def _spoken(
    text: TokenizedCaptions,
    vocabulary: Vocabulary,
    config: DataConfig,
    detectable: tuple[Tensor, Tensor] | None,
    given: Given,
    report: Reporter,
) -> TextCaptions:
    """Captions without pictures, each with the words of it that stand for a picture."""
    ids, prior = _concept_words(vocabulary, given.classes, detectable)
    spoken = TextCaptions.of(
        text,
        vocabulary,
        ids,
        feature_size=given.feature_size,
        max_length=longest_caption(config, vocabulary),
        prior=prior,
        num_words=getattr(given.decoder, "concepts", 0),
    )
    source = "classifier" if prior is None else "detector"
    report.note(
        f"{len(spoken.corpus):,} of {len(text.lengths):,} captions without pictures to learn "
        f"to speak from; {len(ids)} words of the {source}"
    )
    return spoken


def _with_features(
    records: Sequence[Record], store: FeatureStore | PictureFiles, split: str, report: Reporter
) -> Sequence[Record]:
    broken = [record for record in records if record.image_id in store.failures]
    if broken:
        report.note(
            f"{len(broken)} {split} pictures could not be read and are left out "
            f"({broken[0].path}: {store.failures[broken[0].image_id]})"
        )
    usable = [record for record in records if record.image_id not in store.failures]
    if not usable:
        raise DataError(
            f"no usable {split} picture is left: run `showtell data inspect` on the data"
        )
    return usable


def _tokenize(records: Sequence[Record], segmentation: Segmentation) -> TokenizedCaptions:
    return tokenize_cached(list(chain.from_iterable(r.captions for r in records)), segmentation)


def _encode(
    captions: TokenizedCaptions,
    records: Sequence[Record],
    store: FeatureStore | PictureFiles,
    vocabulary: Vocabulary,
    max_length: int,
) -> Corpus:
    rows = store.rows([record.image_id for record in records])
    pictures = np.repeat(rows, [len(record.captions) for record in records])
    starts = None
    if known := vocabulary.styles:
        styles = (record.styles or ("",) * len(record.captions) for record in records)
        begins = [known.get(style, START) for style in chain.from_iterable(styles)]
        starts = np.array(begins, np.int32)
    return Corpus.encode(captions, pictures, vocabulary, max_length, starts)


def _concept_words(
    vocabulary: Vocabulary,
    classes: Classes | None,
    detectable: tuple[Tensor, Tensor] | None,
) -> tuple[list[int], list[float] | None]:
    """Ids of the words that stand for a picture, and a detector's prior of each."""
    if detectable is not None:
        words, prior = detectable
        return words.tolist(), prior.tolist()
    found = class_ids(classes, vocabulary) if classes else []
    return sorted({index for ids in found for index in ids}), None


def _commonest(corpus: Corpus, vocab_size: int, num: int) -> tuple[Tensor, Tensor]:
    """The words that most captions have, and the share of captions."""
    captions = np.repeat(np.arange(len(corpus)), corpus.lengths)
    pairs = np.unique(captions * vocab_size + corpus.ids)
    counts = np.bincount(pairs % vocab_size, minlength=vocab_size)
    counts[[PAD, START, END, UNK]] = 0
    return commonest(torch.from_numpy(counts), len(corpus), num)
