"""The one front door of decoding: the place where its settings meet its functions."""

from dataclasses import dataclass
from difflib import get_close_matches

from showtell.config import DecodingConfig
from showtell.decoding.constraints import build_constraints
from showtell.decoding.hypotheses import Hypotheses, Steps
from showtell.decoding.sampling import sample
from showtell.decoding.search import beam_search
from showtell.errors import ConfigError, VocabularyError
from showtell.models.base import Features
from showtell.text.endings import BAD_ENDINGS
from showtell.text.tokenizer import tokenize
from showtell.text.vocabulary import SPECIAL_WORDS, Vocabulary


@dataclass(frozen=True, slots=True)
class WordIds:
    """The words that decoding settings name, as ids."""

    forbidden: tuple[int, ...] = ()
    required: tuple[int, ...] = ()
    bad_endings: tuple[int, ...] = ()


def word_ids(config: DecodingConfig, vocabulary: Vocabulary) -> WordIds:
    """Look up the words that ``config`` names.

    Raises:
        VocabularyError: one of them is not in the vocabulary.
        ConfigError: with this vocabulary no caption meets the settings.
    """
    bad_endings = vocabulary.encode_words(
        sorted(word for word in BAD_ENDINGS if config.no_bad_endings and word in vocabulary)
    )
    ids = WordIds(
        forbidden=_ids("forbidden_words", config.forbidden_words, vocabulary),
        required=_ids("required_words", config.required_words, vocabulary),
        bad_endings=tuple(bad_endings),
    )
    if reason := _why_impossible(config, ids, vocabulary):
        raise ConfigError(f"no caption meets the decoding settings: {reason}")
    return ids


def _ids(setting: str, words: tuple[str, ...], vocabulary: Vocabulary) -> tuple[int, ...]:
    """Ids of words, each once."""
    found: dict[int, None] = {}
    for given in words:
        tokens = tokenize(given)
        if len(tokens) != 1:
            raise VocabularyError(
                f"{setting}: {given!r} is {len(tokens)} words; give each word by itself"
            )
        [word] = tokens
        if word not in vocabulary or word in SPECIAL_WORDS:
            near = get_close_matches(word, vocabulary.words[len(SPECIAL_WORDS) :], n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise VocabularyError(
                f"{setting}: {given!r} is not among the {len(vocabulary) - len(SPECIAL_WORDS)} "
                f"words that this model knows{hint}"
            )
        found[vocabulary.encode_words([word])[0]] = None
    return tuple(found)


def _why_impossible(config: DecodingConfig, ids: WordIds, vocabulary: Vocabulary) -> str | None:
    usable = set(range(len(SPECIAL_WORDS), len(vocabulary))) - set(ids.forbidden)
    if both := sorted(vocabulary.words[i] for i in {*ids.forbidden} & {*ids.required}):
        return f"{', '.join(both)}: both in required_words and in forbidden_words"
    if config.min_length == 0 and not ids.required:
        return None
    if not usable:
        return "every word is in forbidden_words"
    if config.no_repeat_ngram == 1 and len(usable) < config.min_length:
        return (
            f"{len(usable)} words can be said, and no_repeat_ngram = 1 lets none come twice, "
            f"but min_length = {config.min_length}"
        )
    if not ids.bad_endings:
        return None
    if usable <= {*ids.bad_endings}:
        return "no_bad_endings, and every word that is not forbidden is a bad ending"
    if {*ids.required} <= {*ids.bad_endings} and len(ids.required) >= config.max_length:
        return (
            f"no_bad_endings, and all {len(ids.required)} required_words are bad endings, "
            f"but max_length = {config.max_length}"
        )
    return None


def generate(
    decoder: Steps,
    features: Features,
    config: DecodingConfig,
    words: WordIds | None = None,
    *,
    first: int = 0,
    with_attention: bool = False,
) -> Hypotheses:
    """Make captions as ``config`` says.

    Args:
        decoder: in eval mode; an ``Ensemble`` is one.
        features: of ``B`` pictures.
        words: what ``word_ids`` gives for ``config``; not needed where it names no words.
        first: the first picture's number, from which its random numbers follow.
        with_attention: whether to keep where the decoder looked for each token.

    Returns:
        ``config.num_captions`` captions a picture. Where not so many meet the settings, the
        last places are empty and their log-probabilities -inf.
    """
    if words is None:
        assert not (config.forbidden_words or config.required_words or config.no_bad_endings)
        words = WordIds()
    constraints = build_constraints(
        max_length=config.max_length,
        min_length=config.min_length,
        no_repeat_ngram=config.no_repeat_ngram,
        forbidden=words.forbidden,
        required=words.required,
        bad_endings=words.bad_endings,
    )
    if config.method == "sample":
        return sample(
            decoder,
            features,
            num_captions=config.num_captions,
            max_length=config.max_length,
            temperature=config.temperature,
            top_k=config.top_k,
            top_p=config.top_p,
            seed=config.seed,
            first=first,
            length_penalty=config.length_penalty,
            constraints=constraints,
            with_attention=with_attention,
        )
    beam_size = 1 if config.method == "greedy" else config.beam_size
    is_diverse = config.method == "diverse"
    return beam_search(
        decoder,
        features,
        beam_size=beam_size,
        max_length=config.max_length,
        num_captions=config.num_captions,
        length_penalty=config.length_penalty,
        constraints=constraints,
        groups=(config.groups or beam_size) if is_diverse else 1,
        diversity=config.diversity if is_diverse else 0.0,
        with_attention=with_attention,
    )
