"""The words of a run: how captions are cut into them, and which of them the vocabulary has.

The vocabulary is built from the training captions, or is there already and grows by the new words
and the styles of these captions.
"""

from collections import Counter
from collections.abc import Sequence

from showtell.config import DataConfig
from showtell.core.messages import counted
from showtell.core.progress import Reporter
from showtell.data.records import Dataset, Record
from showtell.encoders.concepts import Classes
from showtell.errors import ConfigError, VocabularyError
from showtell.text.language import checked_code
from showtell.text.segment import PTB, Segmentation, choose
from showtell.text.subwords import SubwordVocabulary
from showtell.text.vocabulary import (
    UNK,
    Vocabulary,
    WordVocabulary,
    load_vocabulary,
)
from showtell.training.corpus import Corpus, TokenizedCaptions
from showtell.training.text_captions import (
    captions_with_rare_words,
    merged_counts,
    read_captions,
    words_like,
)

MOST_UNKNOWN = 0.3  # share of the words of training captions


def choose_segmentation(
    records: Sequence[Record], config: DataConfig, vocabulary: Vocabulary | None = None
) -> tuple[Segmentation, str]:
    """How captions are cut into words, and a line that says why; "" for plain English.

    A vocabulary that is there already, given or as ``vocab_file``, has its own segmentation.

    Raises:
        ConfigError: ``language`` is not a language, or the vocabulary is cut otherwise than asked.
        MissingExtraError: ``segmentation`` is ``words``, and the extra is not installed.
        VocabularyError: ``vocab_file`` is not a vocabulary.
    """
    if vocabulary is None and config.vocab_file:
        vocabulary = load_vocabulary(config.vocab_file)
    if vocabulary is not None:
        found = vocabulary.segmentation
        _check_cut_as_asked(found, config)
        return found, "" if found == PTB else f"captions are cut into words by {found}, as before"
    captions = [caption for record in records for caption in record.captions]
    return choose(captions, config.segmentation, config.language)


def _check_cut_as_asked(found: Segmentation, config: DataConfig) -> None:
    kind, language = config.segmentation, config.language
    known = found.language or ("en" if found.is_english else None)
    wrong = []
    if kind not in ("auto", found.kind):
        wrong.append(f"data.segmentation = {kind}")
    if known and language != "auto" and checked_code(language) != known:
        wrong.append(f"data.language = {language}")
    if wrong:
        raise ConfigError(
            f"{' and '.join(wrong)}: the vocabulary that is there already goes by {found}; leave "
            "the setting out, or train a model of its own, without --from, training.init_from "
            "and data.vocab_file"
        )


def longest_caption(config: DataConfig, vocabulary: Vocabulary) -> int:
    """The most tokens of a training caption; a longer one is cut."""
    return config.longest_caption(has_pieces=isinstance(vocabulary, SubwordVocabulary))


def note_unknown(words: Corpus, segmentation: Segmentation, report: Reporter) -> None:
    """Say so where a vocabulary that was there already lacks many words of the captions.

    Args:
        words: training captions as its ids, new words included.
    """
    share = float((words.ids == UNK).mean())
    if share > MOST_UNKNOWN:
        report.note(
            f"{share:.0%} of the words of the training captions are unknown to the vocabulary, "
            f"which goes by {segmentation}: little can be learnt from them; if they are in its "
            "language, -s data.new_words=1 adds all, else train without --from, "
            "training.init_from and data.vocab_file"
        )


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


def build_vocabulary(
    config: DataConfig, captions: TokenizedCaptions, text: TokenizedCaptions | None
) -> Vocabulary:
    """The words, or pieces of words, of training captions and of those without pictures.

    Raises:
        MissingExtraError: ``tokenizers`` is not installed, and the vocabulary is of pieces.
        VocabularyError: ``vocab_file`` is not a vocabulary, or no word reaches the threshold.
    """
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


def with_new_words(
    vocabulary: WordVocabulary, captions: TokenizedCaptions, threshold: int, report: Reporter
) -> WordVocabulary:
    """The words of a model that is trained on, and those of its new captions."""
    larger = vocabulary.extended(captions.counts(), threshold)
    if added := larger.words[len(vocabulary) :]:
        shown = ", ".join(added[:5]) + (", ..." if len(added) > 5 else "")
        report.note(f"{counted(len(added), 'new word')} beside {len(vocabulary):,}: {shown}")
    return larger


def with_styles(vocabulary: Vocabulary, records: Sequence[Record]) -> Vocabulary:
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


def captions_to_speak_from(
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
