"""The front door: settings by name, words by name, and what they cannot be."""

import numpy as np
import pytest
from tiny_decoder import LENGTH, WORDS, TableDecoder, caption, features

from showtell.config import DecodingConfig
from showtell.decoding.beam import beam_search
from showtell.decoding.constraints.named_words import PIECES_A_WORD, NamedWords, named_words
from showtell.decoding.ensemble import Ensemble
from showtell.decoding.generate import generate
from showtell.decoding.sampling import sample
from showtell.errors import ConfigError, ShowtellError
from showtell.text.vocabulary import Spelling, WordVocabulary

BYTES = tuple(chr(i) for i in range(256))
PIECES = Spelling(
    ("",) * 4 + BYTES + ("",), (False,) * 4 + (False,) * 256 + (True,), in_bytes=True
)  # each byte goes on with a word, and one more token begins a word
VOCABULARY = WordVocabulary({"a": 9, "dog": 5, "with": 4, "ball": 3}, 1)
DECODER = TableDecoder(0)


def test_words_are_looked_up() -> None:
    config = DecodingConfig(
        forbidden_words=("Dog", "dog"), required_words=("ball", "A  Ball"), no_bad_endings=True
    )
    words = named_words(config, VOCABULARY)
    assert (words.forbidden, words.required) == (("dog",), ("ball", "a ball"))
    assert {"a", "with"} < {*words.bad_endings}
    assert named_words(DecodingConfig(), VOCABULARY) == NamedWords(VOCABULARY.spelling)
    # A word that is unknown here is never said: models of one recipe may differ in their words.
    around = DecodingConfig(no_repeat_around=("With", "with", "and"))
    assert named_words(around, VOCABULARY).around == ("with", "and")


def test_pieces_can_say_any_word_and_no_vocabulary_of_words_can() -> None:
    class Pieces(WordVocabulary):
        spelling = PIECES

    config = DecodingConfig(required_words=("thé", "zebra"), forbidden_words=("café au lait",))
    words = named_words(config, Pieces({"a": 1}, 1))
    assert words.required == ("th\xc3\xa9", "zebra")
    assert words.forbidden == ("caf\xc3\xa9 au lait",)
    assert words.max_tokens(10) == 30
    assert NamedWords(VOCABULARY.spelling).max_tokens(10) == 10
    with pytest.raises(ShowtellError, match="thé: both in"):
        named_words(config.with_changes({"forbidden_words": ["THÉ"]}), Pieces({"a": 1}, 1))
    with pytest.raises(ShowtellError, match="none of at most max_length = 2 words"):
        short = config.with_changes({"required_words": ["a b", "c d"], "max_length": 3})
        named_words(short.with_changes({"max_length": 2}), Pieces({"a": 1}, 1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"required_words": ["bal"]}, "required_words: 'bal' is not among the 4 words.*'ball'"),
        ({"forbidden_words": ["zebra"]}, "forbidden_words: 'zebra' is not among"),
        ({"forbidden_words": ["<unk>"]}, "forbidden_words"),
        ({"required_words": ["a bal"]}, "'bal' is not among the 4 words.*'ball'"),
        ({"required_words": ["dog a"], "forbidden_words": ["a"]}, "has all required_words"),
        ({"required_words": [" "]}, "' ' has no words"),
        ({"required_words": ["a woman"], "neutral": True}, "'a woman' says a gender.*--no-neutral"),
        ({"forbidden_words": ["Person"], "style": "neutral"}, "captions say 'person' in place of"),
        (
            {"forbidden_words": ["a person"], "neutral": True},
            "'a person' cannot be .* say 'person'",
        ),
        ({"no_repeat_around": ["a dog"]}, "no_repeat_around: 'a dog' is not one word"),
        ({"required_words": ["Dog"], "forbidden_words": ["dog"]}, "dog: both in"),
        ({"forbidden_words": ["a", "dog", "with", "ball"]}, "every word is in forbidden_words"),
        ({"no_repeat_ngram": 1, "min_length": 5}, "4 words can be said"),
        ({"forbidden_words": ["dog", "ball"], "no_bad_endings": True}, "is a bad ending"),
        (
            {"required_words": ["a"], "no_bad_endings": True, "max_length": 1},
            "all 1 required_words are bad endings, but max_length = 1",
        ),
    ],
)
def test_settings_that_no_caption_can_meet(settings: dict, message: str) -> None:
    with pytest.raises(ShowtellError, match=message) as error:
        named_words(DecodingConfig(**settings), VOCABULARY)
    assert "\n" not in str(error.value)


def test_every_method_is_what_its_function_gives() -> None:
    limits = {"min_length": 0, "max_length": LENGTH, "length_penalty": 0.7}
    same = {"max_length": LENGTH, "length_penalty": 0.7}
    pairs = {
        "greedy": ({}, lambda: beam_search(DECODER, features(3), beam_size=1, **same)),
        "beam": (
            {"beam_size": 4, "num_captions": 2},
            lambda: beam_search(DECODER, features(3), beam_size=4, num_captions=2, **same),
        ),
        "diverse": (
            {"beam_size": 4, "num_captions": 4, "diversity": 0.3},
            lambda: beam_search(DECODER, features(3), beam_size=4, groups=4, diversity=0.3, **same),
        ),
        "sample": (
            {"num_captions": 4, "temperature": 2.0, "top_k": 3, "top_p": 0.9, "seed": 3},
            lambda: sample(
                DECODER,
                features(3),
                num_captions=4,
                temperature=2.0,
                top_k=3,
                top_p=0.9,
                seed=3,
                **same,
            ),
        ),
    }
    for method, (options, expected) in pairs.items():
        found = generate(DECODER, features(3), DecodingConfig(method=method, **options, **limits))
        assert np.array_equal(found.tokens, expected().tokens)
        assert np.array_equal(found.scores, expected().scores)


def test_diverse_with_one_group_is_beam() -> None:
    config = DecodingConfig(method="diverse", groups=1, beam_size=4, num_captions=4, max_length=4)
    one = generate(DECODER, features(3), config)
    two = generate(DECODER, features(3), config.with_changes({"method": "beam"}))
    assert np.array_equal(one.tokens, two.tokens)


def test_the_largest_length_penalty_fits_fp32() -> None:
    longest = PIECES_A_WORD * 200 + 1
    assert np.isfinite(np.float32(longest) ** np.float32(10))
    assert DecodingConfig().with_changes({"length_penalty": 10}).length_penalty == 10
    with pytest.raises(ConfigError, match="length_penalty"):
        DecodingConfig().with_changes({"length_penalty": 10.5})


@pytest.mark.parametrize("min_length", [2, LENGTH])
def test_captions_keep_to_the_positions_of_a_decoder(min_length: int) -> None:
    short = TableDecoder(0)
    short.max_tokens = 2
    config = DecodingConfig(max_length=LENGTH, min_length=min_length, beam_size=2, num_captions=2)
    for decoder in (short, Ensemble([DECODER, short])):
        found = generate(decoder, features(3), config)
        assert {len(caption(found, p, rank)) for p in range(3) for rank in range(2)} == {3}
    assert generate(Ensemble([DECODER]), features(3), config).tokens.shape[2] > 3


@pytest.mark.parametrize("method", ["greedy", "beam", "diverse", "sample"])
def test_words_are_kept_to(method: str) -> None:
    required = () if method in ("greedy", "sample") else ("dog",)
    words = NamedWords(VOCABULARY.spelling, ("ball",), required, ("a", "with"))
    config = DecodingConfig(method=method, max_length=LENGTH)
    found = generate(DECODER, features(3), config, words)
    for picture in range(3):
        said = caption(found, picture)[:-1]
        assert said
        assert 7 not in said
        assert said[-1] not in (4, 6)
        assert {*VOCABULARY.encode_words(required)} <= {*said} <= {*WORDS}
