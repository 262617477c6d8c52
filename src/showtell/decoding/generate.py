"""From decoding settings to captions: the one place where ``DecodingConfig`` meets the search."""

from showtell.config import DecodingConfig
from showtell.decoding.arrays import arrays_of
from showtell.decoding.beam import beam_search
from showtell.decoding.constraints import build_constraints
from showtell.decoding.constraints.named_words import NamedWords
from showtell.decoding.hypotheses import Hypotheses, Steps
from showtell.decoding.naming import naming
from showtell.decoding.reranking import Reranker, signs_of
from showtell.decoding.sampling import sample
from showtell.encoders.features import Features


def generate(
    decoder: Steps,
    features: Features,
    config: DecodingConfig,
    words: NamedWords | None = None,
    *,
    first: int = 0,
    with_attention: bool = False,
    reranker: Reranker | None = None,
) -> Hypotheses:
    """Caption pictures with the method and the constraints of ``config``.

    Args:
        decoder: in eval mode; an ``Ensemble`` is one.
        features: of ``B`` pictures.
        words: from ``named_words(config, vocabulary)``; not needed where each id is a word and
            ``config`` has no setting about particular words or repeats.
        first: the first picture's number; random numbers follow from it.
        with_attention: whether to keep where the decoder looked for each token.
        reranker: the model's, if it has one: all captions get their signs, and with
            ``config.rerank`` the best of a beam is what it chooses.

    On a processor a picture's captions do not depend on the other pictures (``core.fixed_rows``).

    Returns:
        ``config.num_captions`` captions a picture. Where fewer meet the settings, the last
        places are empty and their log-probabilities -inf.

    Raises:
        ConfigError: ``config.naming`` is set and the decoder reads no classifier.
    """
    words = words or NamedWords()
    if config.naming:
        decoder = naming(decoder, config.naming)
    max_tokens = most_tokens(decoder, words.max_tokens(config.max_length))
    constraints = build_constraints(
        words.spelling,
        max_tokens=max_tokens,
        min_length=config.min_length,
        max_length=config.max_length,
        no_repeat_ngram=config.no_repeat_ngram,
        no_repeat_around=words.around,
        forbidden=words.forbidden,
        required=words.required,
        bad_endings=words.bad_endings,
        never=words.never,
    )
    beam_size = 1 if config.method == "greedy" else config.beam_size
    groups = (config.groups or beam_size) if config.method == "diverse" else 1
    chooses = reranker is not None and config.chooses
    with arrays_of(features.pooled).fixed_rows(features.pooled):
        if config.method == "sample":
            found = sample(
                decoder,
                features,
                num_captions=config.num_captions,
                max_length=max_tokens,
                temperature=config.temperature,
                top_k=config.top_k,
                top_p=config.top_p,
                seed=config.seed,
                first=first,
                length_penalty=config.length_penalty,
                constraints=constraints,
                with_attention=with_attention,
                start=words.start,
            )
        else:
            found = beam_search(
                decoder,
                features,
                beam_size=beam_size,
                max_length=max_tokens,
                num_captions=beam_size if chooses else config.num_captions,
                length_penalty=config.length_penalty,
                constraints=constraints,
                groups=groups,
                diversity=config.diversity if config.method == "diverse" else 0.0,
                with_attention=with_attention,
                start=words.start,
            )
    if reranker is None:
        return found
    seen = reranker.probabilities(features)
    found = found._replace(signs=signs_of(found, seen, reranker))
    if words.doubt:
        found = found._replace(doubted=words.doubt.marks(found.tokens, seen, reranker))
    if not chooses:
        return found
    # The best of each group stay before the others, so that few captions are of several groups.
    return reranker.rerank(found, config.num_captions, groups if groups > 1 else None)


def most_tokens(decoder: Steps, wanted: int) -> int:
    """``wanted``, or fewer where the decoder has positions for fewer."""
    limit: int | None = getattr(decoder, "max_tokens", None)
    return wanted if limit is None else min(wanted, limit)
