"""What a run trains on: records with features, a vocabulary, captions as ids."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch

from showtell import __version__
from showtell.collector import paused_collector
from showtell.config import Config, DataConfig
from showtell.counts import counted
from showtell.data.records import Dataset, Record
from showtell.errors import DataError
from showtell.evaluation import references_of
from showtell.features.store import FeatureStore
from showtell.metrics import References
from showtell.models.base import Decoder
from showtell.models.concepts import Classes, class_ids
from showtell.models.weights import hash_state
from showtell.processes import Processes
from showtell.progress import Reporter
from showtell.runtime import Runtime
from showtell.text.subwords import SubwordVocabulary
from showtell.text.tokenizer import tokenize
from showtell.text.vocabulary import Vocabulary, WordVocabulary
from showtell.text.vocabulary_file import load_vocabulary
from showtell.training.caption_cache import tokenize_cached
from showtell.training.corpus import Corpus, TokenizedCaptions
from showtell.training.picture_files import PictureFiles
from showtell.training.rare_words import captions_with_rare_words, words_like
from showtell.training.text_captions import TextCaptions, merged_counts, read_captions

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

    def stored(self) -> FeatureStore:
        """The features, of a run that has some."""
        assert self.store is not None, "this run reads pictures"
        return self.store

    def fingerprint(self) -> str:
        """sha256 of all captions' ids and rows of the store, by which batches are cut."""
        digest = hashlib.sha256()
        for corpus in (self.train, self.val, *([self.text.corpus] if self.text else [])):
            for array in (corpus.ids, corpus.offsets, corpus.pictures):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@paused_collector(all_stays=True)
def prepare(
    dataset: Dataset,
    config: DataConfig,
    store: FeatureStore | PictureFiles,
    report: Reporter,
    *,
    vocabulary: Vocabulary | None = None,
    classes: Classes | None = None,
    feature_size: int = 0,
) -> TrainingData:
    """Build the vocabulary from the training captions and encode both splits.

    Args:
        store: what pictures become rows of.
        vocabulary: one that is there already, of a model that is trained on.
        classes: of the encoder's classifier.
        feature_size: D, of its pooled features; for ``config.text`` alone.

    Raises:
        ConfigError: there are captions without pictures and the encoder knows no words.
        MissingExtraError: ``tokenizers`` is not installed, and the vocabulary is of pieces.
        DataError: a split has no usable picture.
        VocabularyError: ``vocab_file`` is no vocabulary, or no word reaches the threshold.
    """
    train_records = _with_features(dataset.split("train"), store, "train", report)
    val_records = _with_features(dataset.split("val"), store, "val", report)
    if len(train_records) < TINY:
        size = counted(len(train_records), "training picture")
        report.note(
            f"{dataset.name} is tiny: {size}. The model can learn "
            f"them by heart; do not expect sense on others below some thousands."
        )
    tokenized = _tokenize(train_records)
    text = _spoken(config, classes) if config.text else None
    if vocabulary is None:
        vocabulary = _vocabulary(config, tokenized, text)
    train = _encode(tokenized, train_records, store, vocabulary, config.max_caption_length)
    val = _encode(_tokenize(val_records), val_records, store, vocabulary, config.max_caption_length)
    if not len(train) or not len(val):
        raise DataError(f"{dataset.name}: no caption has a word in it")
    report.note(
        f"{counted(len(train), 'caption')} of {counted(len(train_records), 'picture')} to train "
        f"on, {len(val):,} of {len(val_records):,} to validate; "
        f"{len(vocabulary):,} {vocabulary.unit}"
    )
    if train.num_cut:
        report.note(
            f"{train.num_cut:,} training captions are longer than data.max_caption_length = "
            f"{config.max_caption_length} {vocabulary.unit} and are cut"
        )
    features, pictures = (None, store) if isinstance(store, PictureFiles) else (store, None)
    references = references_of(val_records)
    spoken = None
    if text is not None:
        ids = {i for ids in class_ids(classes, vocabulary) for i in ids} if classes else set()
        spoken = TextCaptions.of(
            text,
            vocabulary,
            sorted(ids),
            feature_size=feature_size,
            max_length=config.max_caption_length,
        )
        report.note(
            f"{len(spoken.corpus):,} of {len(text.lengths):,} captions without pictures to learn "
            f"to speak from; {len(ids)} words of the classifier"
        )
    return TrainingData(
        vocabulary, train, val, val_records, references, features, pictures, classes, spoken
    )


def check_words(dataset: Dataset, config: DataConfig) -> None:
    """Raise VocabularyError where the captions are too few to build a vocabulary of words.

    Said before any picture is encoded. Reads captions until a word is seen often enough.
    """
    if config.vocab_file or config.subwords or config.text:
        return
    counts: Counter[str] = Counter()
    for record in dataset.split("train"):
        for caption in record.captions:
            words = tokenize(caption)
            counts.update(words)
            if any(counts[word] >= config.vocab_threshold for word in words):
                return
    WordVocabulary.build(counts, config.vocab_threshold)


def check_agreement(
    processes: Processes, config: Config, data: TrainingData, runtime: Runtime, decoder: Decoder
) -> None:
    """Make sure that all processes begin with the same; else each would train something else.

    Raises:
        ConfigError: naming what differs.
    """
    processes.agree(
        {
            "software": (__version__, torch.__version__),
            "settings": config.to_toml(),
            "precision": runtime.precision,
            "data": data.fingerprint(),
            "weights": hash_state(decoder.state_dict()),
        }
    )


def _vocabulary(
    config: DataConfig, captions: TokenizedCaptions, text: TokenizedCaptions | None
) -> Vocabulary:
    if config.vocab_file:
        return load_vocabulary(config.vocab_file)
    counts = captions.counts()
    if text is not None:
        counts = merged_counts(
            counts,
            text.counts(),
            threshold=config.vocab_threshold,
            text_threshold=config.text_threshold,
        )
    if config.subwords:
        return SubwordVocabulary.build(counts, config.subwords)
    return WordVocabulary.build(counts, config.vocab_threshold)


def _spoken(config: DataConfig, classes: Classes | None) -> TokenizedCaptions:
    """The captions of ``config.text``, and some for the classifier's words that they lack."""
    assert config.text is not None
    captions = read_captions(config.text)
    counts = TokenizedCaptions.tokenize(captions).counts()
    named = {word for name in (classes.words if classes else ()) for word in name.split()}
    alike = {word: common for word, common in words_like().items() if word in named}
    captions += captions_with_rare_words(captions, counts, alike, config.text_threshold)
    return TokenizedCaptions.tokenize(captions)


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
        raise DataError(f"no usable {split} picture is left: run `showtell data inspect` on it")
    return usable


def _tokenize(records: Sequence[Record]) -> TokenizedCaptions:
    return tokenize_cached(list(chain.from_iterable(r.captions for r in records)))


def _encode(
    captions: TokenizedCaptions,
    records: Sequence[Record],
    store: FeatureStore | PictureFiles,
    vocabulary: Vocabulary,
    max_length: int,
) -> Corpus:
    rows = store.rows([record.image_id for record in records])
    pictures = np.repeat(rows, [len(record.captions) for record in records])
    return Corpus.encode(captions, pictures, vocabulary, max_length)
