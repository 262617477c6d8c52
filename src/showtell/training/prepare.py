"""What a run starts with: data as ids and features, an encoder, and a decoder's first weights.

``prepare`` builds the vocabulary from the training captions and turns both splits into ids, each
caption with the row of its picture. The ``open_...`` functions open the encoder, the feature
store (or the pictures, if the encoder trains), and the checkpoint or language model that the run
starts from. ``build_first_decoder`` puts all of it together. The
``check_...`` functions find what is wrong before hours are spent on it.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from showtell import __version__
from showtell.config import Config, DataConfig, DecoderConfig, EncoderConfig, PrefixLmConfig
from showtell.core.device import Runtime, choose_runtime
from showtell.core.distributed import Processes
from showtell.core.memory import paused_collector
from showtell.core.messages import counted
from showtell.core.progress import Reporter
from showtell.data.records import Dataset, Record
from showtell.decoders.base import Decoder
from showtell.decoders.language_model import LanguageModel
from showtell.decoders.prefix_lm import PrefixLm
from showtell.decoders.registry import build_decoder, needs_regions
from showtell.decoders.word_detector import WordDetector, commonest
from showtell.encoders.backbone import hash_state
from showtell.encoders.concepts import Classes, ConceptReader, class_ids
from showtell.encoders.encoder import Encoder, build_encoder
from showtell.encoders.extract import WantedFeatures, features_for
from showtell.encoders.finetune import train_from
from showtell.encoders.store import FeatureStore
from showtell.errors import ConfigError, DataError, VocabularyError
from showtell.evaluation.evaluate import references_of
from showtell.inference.checkpoint import (
    Checkpoint,
    find_checkpoint,
    load_checkpoint,
    recover_folder,
)
from showtell.metrics import References
from showtell.text.segment import PTB, Segmentation, choose
from showtell.text.subwords import SubwordVocabulary
from showtell.text.vocabulary import (
    END,
    PAD,
    START,
    UNK,
    Vocabulary,
    WordVocabulary,
    load_vocabulary,
)
from showtell.training.checkpoints import fit_encoder, start_with
from showtell.training.corpus import Corpus, TokenizedCaptions, tokenize_cached
from showtell.training.new_words import grown, likeness
from showtell.training.pictures import PictureFiles
from showtell.training.text_captions import (
    TextCaptions,
    captions_with_rare_words,
    check_readable,
    merged_counts,
    read_captions,
    words_like,
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
    detectable: tuple[Tensor, Tensor] | None = None

    def stored(self) -> FeatureStore:
        """The features, of a run that has some."""
        assert self.store is not None, "this run reads pictures"
        return self.store

    def fingerprint(self) -> str:
        """sha256 of all captions' ids and rows of the store, by which batches are cut."""
        digest = hashlib.sha256()
        for corpus in (self.train, self.val, *([self.text.corpus] if self.text else [])):
            begins = () if corpus.starts is None else (corpus.starts,)
            for array in (corpus.ids, corpus.offsets, corpus.pictures, *begins):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@paused_collector()
def prepare(
    dataset: Dataset,
    config: DataConfig,
    store: FeatureStore | PictureFiles,
    report: Reporter,
    *,
    vocabulary: Vocabulary | None = None,
    segmentation: Segmentation | None = None,
    classes: Classes | None = None,
    feature_size: int = 0,
    decoder: DecoderConfig | None = None,
    detector: WordDetector | None = None,
    new_words: int | None = None,
    rehearsal: Sequence[str] = (),
) -> TrainingData:
    """Build the vocabulary from the training captions and encode both splits.

    Args:
        store: what pictures become rows of.
        vocabulary: one that is there already, of a model that is trained on.
        segmentation: how captions are cut into words; default: as ``choose_segmentation`` has it.
        classes: of the encoder's classifier.
        feature_size: D, of its pooled features; for ``config.text`` alone.
        decoder: says whether a detector takes the place of the classifier.
        detector: one that has learnt already, of a model that is trained on.
        new_words: as ``config.new_words``, of a ``vocabulary`` that is no model's to train on.
        rehearsal: captions that this model has made up, to be learnt beside ``config.text``.

    Raises:
        ConfigError: there are captions without pictures and the encoder knows no words.
        MissingExtraError: ``tokenizers`` is not installed, and the vocabulary is of pieces.
        DataError: a split has no usable picture.
        VocabularyError: ``vocab_file`` is no vocabulary, or no word reaches the threshold.
    """
    train_records = _with_features(dataset.split("train"), store, "train", report)
    val_records = _with_features(dataset.split("val"), store, "val", report)
    if len(train_records) < TINY and vocabulary is None:
        size = counted(len(train_records), "training picture")
        report.note(
            f"{dataset.name} is tiny: {size}. The model can learn "
            f"them by heart; do not expect sense on others below some thousands."
        )
    if segmentation is None:
        segmentation, note = choose_segmentation(train_records, config, vocabulary)
        if note:
            report.note(note)
    tokenized = _tokenize(train_records, segmentation)
    text = _spoken(config, classes, segmentation, rehearsal) if config.text or rehearsal else None
    if vocabulary is None:
        vocabulary = _vocabulary(config, tokenized, text)
    elif (least := config.new_words or new_words) and isinstance(vocabulary, WordVocabulary):
        vocabulary = _with_new_words(vocabulary, tokenized, least, report)
    vocabulary = _with_styles(vocabulary, train_records).cut_by(segmentation)
    train = _encode(tokenized, train_records, store, vocabulary, config.max_caption_length)
    val_words = _tokenize(val_records, segmentation)
    val = _encode(val_words, val_records, store, vocabulary, config.max_caption_length)
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
    references = references_of(val_records, segmentation)
    detectable = None
    if num_detected := getattr(decoder, "detected", 0):
        detectable = (
            detector.known() if detector else _commonest(train, len(vocabulary), num_detected)
        )
    spoken = None
    if text is not None:
        ids, prior = _concept_words(vocabulary, classes, detectable)
        spoken = TextCaptions.of(
            text,
            vocabulary,
            ids,
            feature_size=feature_size,
            max_length=config.max_caption_length,
            prior=prior,
            num_words=getattr(decoder, "concepts", 0),
        )
        source = "classifier" if prior is None else "detector"
        report.note(
            f"{len(spoken.corpus):,} of {len(text.lengths):,} captions without pictures to learn "
            f"to speak from; {len(ids)} words of the {source}"
        )
    return TrainingData(
        vocabulary,
        train,
        val,
        val_records,
        references,
        features,
        pictures,
        classes,
        spoken,
        detectable,
    )


def _with_styles(vocabulary: Vocabulary, records: Sequence[Record]) -> Vocabulary:
    """The vocabulary with the styles of the training captions.

    Raises:
        VocabularyError: they cannot be added.
    """
    missing = sorted({s for record in records for s in record.styles if s} - {*vocabulary.styles})
    if not missing:
        return vocabulary
    if not isinstance(vocabulary, WordVocabulary):
        raise VocabularyError(
            f"the captions have the styles {', '.join(missing)}, and a vocabulary of word pieces "
            "has none: leave data.subwords and decoder.lm out"
        )
    return vocabulary.with_styles(missing)


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


def choose_segmentation(
    records: Sequence[Record], config: DataConfig, vocabulary: Vocabulary | None = None
) -> tuple[Segmentation, str]:
    """How captions are cut into words, and a line that says why; "" for plain English.

    A vocabulary that is there already, given or as ``vocab_file``, has its own segmentation.

    Raises:
        ConfigError: ``language`` is no language.
        MissingExtraError: ``segmentation`` is ``words``, and the extra is not installed.
        VocabularyError: ``vocab_file`` is no vocabulary.
    """
    if vocabulary is None and config.vocab_file:
        vocabulary = load_vocabulary(config.vocab_file)
    if vocabulary is not None:
        found = vocabulary.segmentation
        return found, "" if found == PTB else f"captions are cut into words by {found}, as before"
    captions = [caption for record in records for caption in record.captions]
    return choose(captions, config.segmentation, config.language)


def check_words(dataset: Dataset, config: DataConfig, segmentation: Segmentation = PTB) -> None:
    """Raise VocabularyError where the captions are too few to build a vocabulary of words.

    Said before any picture is encoded. Reads captions until a word is seen often enough.
    """
    if config.vocab_file or config.subwords or config.text:
        return
    counts: Counter[str] = Counter()
    for record in dataset.split("train"):
        for caption in record.captions:
            words = segmentation.words(caption)
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


def _with_new_words(
    vocabulary: WordVocabulary, captions: TokenizedCaptions, threshold: int, report: Reporter
) -> WordVocabulary:
    """The words of a model that is trained on, and those of its new captions."""
    larger = vocabulary.extended(captions.counts(), threshold)
    if added := larger.words[len(vocabulary) :]:
        shown = ", ".join(added[:5]) + (", ..." if len(added) > 5 else "")
        report.note(f"{counted(len(added), 'new word')} beside {len(vocabulary):,}: {shown}")
    return larger


def _spoken(
    config: DataConfig,
    classes: Classes | None,
    segmentation: Segmentation,
    rehearsal: Sequence[str],
) -> TokenizedCaptions:
    """The captions of ``config.text``, and some for the classifier's words that they lack."""
    captions = [*(read_captions(config.text) if config.text else ()), *rehearsal]
    if not segmentation.is_english or not config.text:  # the tables of words are English
        return TokenizedCaptions.tokenize(captions, segmentation)
    counts = TokenizedCaptions.tokenize(captions, segmentation).counts()
    named = {word for name in (classes.words if classes else ()) for word in name.split()}
    alike = {word: common for word, common in words_like().items() if word in named}
    captions += captions_with_rare_words(captions, counts, alike, config.text_threshold)
    return TokenizedCaptions.tokenize(captions, segmentation)


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


def check_start(config: Config, device: str) -> None:
    """Raise ShowtellError where a run cannot start, as far as that shows without its data."""
    check_files(config)
    choose_runtime(device, config.training.precision)
    settings = config.encoder
    encoder = build_encoder(settings.name, weights=settings.weights, squash=settings.squash)
    _let_train(encoder, settings)
    if config.training.init_from is not None:
        return
    if isinstance(config.decoder, PrefixLmConfig) and config.decoder.lm:
        config.with_decoder(LanguageModel.open(config.decoder.lm).sizes())


def check_files(config: Config) -> None:
    """Raise ShowtellError where a model or a file that the settings name is not there."""
    if config.training.init_from is not None:
        find_checkpoint(config.training.init_from)
    if config.objective.kind == "distil":
        for teacher in config.objective.teachers:
            find_checkpoint(teacher)
    if config.data.vocab_file:
        load_vocabulary(config.data.vocab_file)
    if config.data.text:
        check_readable(config.data.text)


def open_language_model(config: Config, folder: Path, resume: bool) -> LanguageModel | None:
    """What the decoder begins with; a state to go on from has all of it."""
    if not isinstance(config.decoder, PrefixLmConfig) or config.decoder.lm is None:
        return None
    if config.training.init_from is not None:
        return None  # the model that it starts from has all of it
    if resume and recover_folder(folder / "last").exists():
        return None
    return LanguageModel.open(config.decoder.lm)


def open_start(config: Config, folder: Path, resume: bool, report: Reporter) -> Checkpoint | None:
    """The checkpoint that a run goes on from: its own, or the one that it is to start with."""
    last = recover_folder(folder / "last")
    if resume and last.exists():
        return load_checkpoint(last)
    source = config.training.init_from
    if source is None:
        return None
    start = load_checkpoint(source)
    report.note(f"starting with the weights and the vocabulary of {source}")
    return start


def open_encoder(config: Config, start: Checkpoint | None, folder: Path) -> Encoder:
    """The encoder of a run: as published or as ``start`` has it; ready to train where asked."""
    settings = config.encoder
    own = recover_folder(folder / "last").exists()
    # A run that goes on has its own copy of the weights, wherever the first ones are by now.
    kept = start.encoder_weights if start is not None and own else None
    weights = kept or settings.weights
    encoder = build_encoder(settings.name, weights=weights, squash=settings.squash)
    if start is not None:
        source = str(folder) if own else f"training.init_from = {config.training.init_from}"
        fit_encoder(encoder, start, source)
    _let_train(encoder, settings)
    return encoder


def _let_train(encoder: Encoder, settings: EncoderConfig) -> None:
    """Unfreeze what is to train of it, if anything.

    Raises:
        ConfigError: it has no such stage.
    """
    if settings.train_from is not None:
        live_norms = settings.batch_norm == "train"
        train_from(encoder, settings.train_from, live_norms=live_norms)


def open_store(
    dataset: Dataset,
    encoder: Encoder,
    config: Config,
    *,
    runtime: Runtime,
    folder: Path | None,
    report: Reporter,
    regions: bool = False,
) -> FeatureStore | PictureFiles:
    """What the run looks at: features of a frozen encoder, else the pictures themselves.

    Args:
        regions: whether something besides the decoder reads the grid.
    """
    if config.encoder.reads_pictures:
        if folder:
            why = "encoder.train_from" if config.encoder.train_from else "encoder.fresh_views"
            report.note(f"{folder} is not used: with {why} pictures are read")
        return PictureFiles.check(dataset.split("train") + dataset.split("val"), report)
    wanted = WantedFeatures(
        config.encoder.views, config.encoder.flips, regions or needs_regions(config.decoder)
    )
    return features_for(dataset, encoder, wanted, runtime=runtime, folder=folder, report=report)


def build_first_decoder(
    config: Config,
    data: TrainingData,
    provenance: dict[str, Any],
    runtime: Runtime,
    *,
    language_model: LanguageModel | None,
    start: Checkpoint | None,
) -> Decoder:
    """The decoder of a run, with the weights that it begins with.

    Args:
        data: has the vocabulary, and the encoder's classifier for a decoder that wants its words.
        provenance: has the sizes of what the encoder sees.

    Raises:
        ConfigError: it wants them, and there are none.
        CheckpointError: ``start`` is of another shape.
    """
    decoder = build_decoder(
        config.decoder,
        vocab_size=len(data.vocabulary),
        feature_size=provenance["feature_size"],
        region_size=provenance.get("region_size"),
    ).to(runtime.device)
    if start is not None:
        weights = start_weights(start, data, provenance)
        start_with(decoder, weights, start, config)
    elif language_model is not None:
        assert isinstance(decoder, PrefixLm)
        language_model.fill(decoder)
    detector = getattr(decoder, "detector", None)
    if isinstance(detector, WordDetector) and start is None:
        assert data.detectable is not None
        detector.fill(*data.detectable)
    concepts = getattr(decoder, "concepts", None)
    if isinstance(concepts, ConceptReader):
        counts = torch.from_numpy(np.bincount(data.train.ids, minlength=len(data.vocabulary)))
        if start is not None:  # it has a classifier; how often words come is of this run's captions
            had = concepts.counts[: len(start.vocabulary)].clone()
            concepts.counts.copy_(counts)
            if config.data.new_words:  # the captions that the model was trained with count, too
                concepts.counts[: len(had)] += had.cpu()
            if data.classes is not None and len(had) < len(counts):
                concepts.name_classes(data.classes, data.vocabulary)
        elif data.classes is None:
            raise ConfigError(
                f"decoder.concepts: encoder {config.encoder.name!r} has no classifier whose words "
                "are known; lite0 and lite2 have"
            )
        else:
            concepts.fill(data.classes, data.vocabulary, counts)
    return decoder


def start_weights(
    start: Checkpoint, data: TrainingData, provenance: dict[str, Any]
) -> dict[str, Tensor]:
    """The weights that a decoder begins with; new words have rows of words like them."""
    weights = start.decoder.state_dict()
    num_known = len(start.vocabulary)
    if num_known == len(data.vocabulary):
        return weights
    return grown(
        weights,
        start.config.decoder,
        likeness(data.vocabulary, num_known, data.train),
        feature_size=provenance["feature_size"],
        region_size=provenance.get("region_size"),
    )
