"""The words that decoding settings name, looked up in a vocabulary.

Settings that no caption can meet are reported here, before any picture is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from showtell.config import DecodingConfig
from showtell.decoding.constraints import each_id_is_a_word, word_rules
from showtell.decoding.constraints.automaton import table_bytes
from showtell.decoding.constraints.words import WordSettings
from showtell.decoding.doubt import Doubt
from showtell.errors import ConfigError, VocabularyError
from showtell.text.neutral import neutral
from showtell.text.neutral_words import may_bring
from showtell.text.tokenizer import BAD_ENDINGS
from showtell.text.vocabulary import SPECIAL_WORDS, START, Spelling, Vocabulary

NEUTRAL = "neutral"

PIECES_A_WORD = 3
"""Where tokens are pieces of words, a caption has at most this many for each word of
``max_length``. That is enough for any wording, and ends a word that is spelled on and on."""


@dataclass(frozen=True, slots=True)
class NamedWords:
    """Words and phrases as a vocabulary spells them.

    Attributes:
        spelling: of the vocabulary; None where each id is a word and settings name none.
        forbidden, required, bad_endings: as of ``build_constraints``.
        around: its ``no_repeat_around``.
        start: what captions begin with, unsaid: ``<start>``, or a style.
        never: ids that no caption has besides: those of styles.
        doubt: what captions leave out where the picture does not bear it out; None: nothing.
    """

    spelling: Spelling | None = None
    forbidden: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    bad_endings: tuple[str, ...] = ()
    around: tuple[str, ...] = ()
    start: int = START
    never: tuple[int, ...] = ()
    doubt: Doubt | None = None

    def max_tokens(self, max_length: int) -> int:
        """The most tokens of a caption of ``max_length`` words."""
        if self.spelling is None or each_id_is_a_word(self.spelling):
            return max_length
        return PIECES_A_WORD * max_length

    def allows(self, words: Sequence[str]) -> bool:
        """Whether a caption that was changed still has what is required, and nothing forbidden."""
        assert self.spelling is not None
        text = f" {' '.join(map(self.spelling.spell, words))} "
        return all(f" {phrase} " in text for phrase in self.required) and not any(
            f" {phrase} " in text for phrase in self.forbidden
        )


def named_words(
    config: DecodingConfig, vocabulary: Vocabulary, *, max_table_bytes: int | None = None
) -> NamedWords:
    """Look up the words that ``config`` names.

    Args:
        max_table_bytes: Of the tables that the search needs for them; default: no limit.

    Raises:
        VocabularyError: the vocabulary lacks one of them.
        ConfigError: the model has not learnt the style, with this vocabulary no caption meets the
            settings, what takes the place of words that say a gender would not meet them, or the
            tables are too large; they are not built then.
    """
    if config.is_neutral and vocabulary.segmentation.is_english:
        _check_neutral(config, vocabulary)
    spelling = vocabulary.spelling
    words = NamedWords(
        spelling=spelling,
        forbidden=_phrases("forbidden_words", config.forbidden_words, vocabulary),
        required=_phrases("required_words", config.required_words, vocabulary),
        bad_endings=tuple(
            map(spelling.spell, sorted(BAD_ENDINGS) if _forbids_endings(config, vocabulary) else ())
        ),
        around=_around(config, vocabulary),
        start=_start(config, vocabulary),
        never=tuple(vocabulary.styles.values()),
        doubt=_doubt(config, vocabulary),
    )
    if max_table_bytes is not None:
        _check_table(config, words, spelling, max_table_bytes)
    if reason := _why_impossible(config, words, spelling):
        raise ConfigError(f"no caption meets the decoding settings: {reason}")
    return words


def _check_neutral(config: DecodingConfig, vocabulary: Vocabulary) -> None:
    """Raise ConfigError for words that captions lose or gain once they say no gender."""
    for phrase in config.required_words:
        if neutral(phrase) != phrase:
            raise ConfigError(
                f"required_words: {phrase!r} says a gender, and neutral captions say none: leave "
                "it out, or neutral (--no-neutral)"
            )
    for phrase in config.forbidden_words:
        # "a man" passes the search, and is "a person" afterwards.
        if written := may_bring(vocabulary.segmentation.words(phrase)):
            raise ConfigError(
                f"forbidden_words: {phrase!r} cannot be kept out, since neutral captions say "
                f"{' '.join(written)!r} in place of words for one gender: leave it out, or neutral "
                "(--no-neutral)"
            )


def _doubt(config: DecodingConfig, vocabulary: Vocabulary) -> Doubt | None:
    """What captions may leave out: English words, each of which has an id of its own."""
    if not (config.doubt and vocabulary.segmentation.is_english):
        return None
    return (
        Doubt.of(config.doubt, vocabulary.words) if each_id_is_a_word(vocabulary.spelling) else None
    )


def _around(config: DecodingConfig, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Those of ``no_repeat_around``; one that the model does not know is never said anyway."""
    found: dict[str, None] = {}
    for given in config.no_repeat_around:
        words = vocabulary.segmentation.words(given)
        if len(words) != 1:
            raise VocabularyError(f"no_repeat_around: {given!r} is not one word")
        found[vocabulary.spelling.spell(words[0])] = None
    return tuple(found)


def _forbids_endings(config: DecodingConfig, vocabulary: Vocabulary) -> bool:
    """Whether captions may not end as English ones do not; in German "an" and "am" may."""
    return config.no_bad_endings and vocabulary.segmentation.is_english


def _start(config: DecodingConfig, vocabulary: Vocabulary) -> int:
    """The token that asks for the style; any model can be neutral, by its words."""
    style, known = config.style, vocabulary.styles
    if style is not None and style != NEUTRAL and style not in known:
        learnt = f"only {', '.join(sorted(known))}" if known else "no styles"
        raise ConfigError(
            f"style = {style}: this model has learnt {learnt}; a model learns styles from captions "
            "that have them (docs/distil.md), and neutral works with any"
        )
    return START if style is None else known.get(style, START)


def _check_table(
    config: DecodingConfig, words: NamedWords, spelling: Spelling, max_bytes: int
) -> None:
    phrases = (*words.required, *words.forbidden, *words.bad_endings)
    if not phrases:
        return
    size = table_bytes(
        spelling, phrases, num_required=len(words.required), max_words=config.max_length
    )
    if size > max_bytes:
        raise ConfigError(
            f"required_words, forbidden_words, no_bad_endings and max_length need a table of "
            f"{size:,} bytes, and the limit is {max_bytes:,}: require or forbid fewer words, or "
            "shorter phrases"
        )


def _phrases(setting: str, given: tuple[str, ...], vocabulary: Vocabulary) -> tuple[str, ...]:
    """Words and phrases as tokens spell them, without repeats."""
    spelling = vocabulary.spelling
    known = spelling.texts[len(SPECIAL_WORDS) :] if each_id_is_a_word(spelling) else None
    found: dict[str, None] = {}
    for phrase in given:
        words = vocabulary.segmentation.words(phrase)
        if not words:
            raise VocabularyError(f"{setting}: {phrase!r} has no words")
        for word in words:
            if known is not None and word not in known:
                near = get_close_matches(word, known, n=1, cutoff=0.5)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise VocabularyError(
                    f"{setting}: {(phrase if len(words) == 1 else word)!r} is not among the "
                    f"{len(known)} words that this model knows{hint}"
                )
        found[" ".join(map(spelling.spell, words))] = None
    return tuple(found)


def _why_impossible(config: DecodingConfig, words: NamedWords, spelling: Spelling) -> str | None:
    if both := sorted({*words.forbidden} & {*words.required}):
        shown = ", ".join(_shown(phrase, spelling) for phrase in both)
        return f"{shown}: both in required_words and in forbidden_words"
    if config.min_length == 0 and not words.required:
        return None
    if each_id_is_a_word(spelling) and (reason := _why_no_word(config, words, spelling)):
        return reason
    if not (words.forbidden or words.required or words.bad_endings):
        return None
    settings = WordSettings(
        spelling,
        max_tokens=words.max_tokens(config.max_length),
        min_words=config.min_length,
        max_words=config.max_length,
        forbidden=words.forbidden,
        required=words.required,
        bad_endings=words.bad_endings,
    )
    if word_rules(settings).possible:
        return None
    return (
        f"none of at most max_length = {config.max_length} words has all required_words and keeps "
        "to forbidden_words and no_bad_endings"
    )


def _why_no_word(config: DecodingConfig, words: NamedWords, spelling: Spelling) -> str | None:
    """Why too few words are left, where each id is a word."""
    usable = {*spelling.texts[len(SPECIAL_WORDS) :]} - {*words.forbidden}
    if not usable:
        return "every word is in forbidden_words"
    if config.no_repeat_ngram == 1 and len(usable) < config.min_length:
        return (
            f"{len(usable)} words can be said, and no_repeat_ngram = 1 lets none come twice, "
            f"but min_length = {config.min_length}"
        )
    if usable <= {*words.bad_endings}:
        return "no_bad_endings, and every word that is not forbidden is a bad ending"
    required = {*words.required}
    if required and required <= {*words.bad_endings} and len(required) >= config.max_length:
        return (
            f"no_bad_endings, and all {len(required)} required_words are bad endings, "
            f"but max_length = {config.max_length}"
        )
    return None


def _shown(phrase: str, spelling: Spelling) -> str:
    """The phrase as a person reads it."""
    return phrase.encode("latin-1").decode() if spelling.in_bytes else phrase
