"""NumPy and torch behind one interface: the same searches, the same captions and numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from decoder_cases import CASES, VOCAB, WIDTH, classes, make, vocabulary
from decoder_cases import features as drawn_features
from tiny_decoder import SPELLING, TableDecoder, features

from showtell.config import Config, DecodingConfig
from showtell.decoders.registry import DECODERS, build_decoder
from showtell.decoding.arrays import NEVER, NUMPY, arrays_of
from showtell.decoding.constraints.named_words import NamedWords
from showtell.decoding.ensemble import Ensemble
from showtell.decoding.generate import generate
from showtell.decoding.hypotheses import Hypotheses, Steps
from showtell.decoding.naming import SURE, VERY_SURE
from showtell.decoding.sampling import draw
from showtell.decoding.torch_arrays import TorchArrays
from showtell.encoders.features import Closer, Concepts, Features

TORCH = TorchArrays(torch.device("cpu"))
METHODS: dict[str, dict[str, Any]] = {
    "greedy": {"method": "greedy"},
    "beam": {"method": "beam", "beam_size": 3},
    "n-best": {"method": "beam", "beam_size": 4, "num_captions": 4},
    "diverse": {"method": "diverse", "beam_size": 4, "num_captions": 4, "diversity": 0.5},
    "two groups": {"method": "diverse", "beam_size": 4, "groups": 2, "num_captions": 3},
    "sample": {"method": "sample", "num_captions": 6},
    "top-k": {"method": "sample", "num_captions": 6, "top_k": 3, "temperature": 1.7, "seed": 3},
    "top-p": {"method": "sample", "num_captions": 6, "top_p": 0.8, "temperature": 0.7, "seed": 5},
}
LIMITS: dict[str, dict[str, Any]] = {
    "free": {},
    "min_length": {"min_length": 3},
    "no_repeat_ngram": {"no_repeat_ngram": 1, "min_length": 2},
    "length_penalty": {"length_penalty": 0.0, "max_length": 3},
}
WORDS = {
    "required": NamedWords(SPELLING, required=("w4", "w6 w5")),
    "forbidden": NamedWords(SPELLING, forbidden=("w4", "w5 w6"), bad_endings=("w7",)),
}


def converted(values: Any, kind: type, convert: Callable[[Any], Any]) -> Any:
    """Arrays of one kind as those of the other, within tuples and dicts too."""
    if isinstance(values, kind):
        return convert(values)
    if isinstance(values, dict):
        return {name: converted(part, kind, convert) for name, part in values.items()}
    if isinstance(values, tuple):
        parts = [converted(part, kind, convert) for part in values]
        return type(values)(*parts) if hasattr(values, "_fields") else tuple(parts)
    return values


def to_numpy(values: Any) -> Any:
    return converted(values, torch.Tensor, lambda part: part.detach().numpy().copy())


def to_torch(values: Any) -> Any:
    return converted(values, np.ndarray, lambda part: torch.from_numpy(part.copy()))


class InNumpy:
    """A decoder whose features, tokens, states and log-probabilities are NumPy's."""

    def __init__(self, decoder: Steps) -> None:
        self.decoder = decoder
        self.picture_state = decoder.picture_state
        self.max_tokens = getattr(decoder, "max_tokens", None)
        reader = getattr(decoder, "concepts", None)
        self.concepts = None if reader is None else NumpyReader(reader)

    @torch.no_grad()
    def init_state(self, given: Features) -> dict[str, np.ndarray]:
        assert isinstance(given.pooled, np.ndarray)
        return to_numpy(self.decoder.init_state(to_torch(given)))

    @torch.no_grad()
    def step(self, tokens: np.ndarray, state: dict[str, np.ndarray]) -> Any:
        assert isinstance(tokens, np.ndarray)
        assert all(isinstance(part, np.ndarray) for part in state.values())
        return to_numpy(self.decoder.step(to_torch(tokens), to_torch(state)))


class NumpyReader:
    def __init__(self, reader: Any) -> None:
        self.reader = reader

    def __call__(self, pooled: np.ndarray) -> Concepts:
        return to_numpy(self.reader(to_torch(pooled)))

    def look_closer(self, *given: np.ndarray) -> Closer:
        return to_numpy(self.reader.look_closer(*map(to_torch, given)))


def check_same(one: Hypotheses, other: Hypotheses, tolerance: float = 1e-6) -> None:
    for part, twin in zip(one, other, strict=True):
        assert (part is None) == (twin is None)
        if part is not None:
            assert isinstance(part, np.ndarray)
            assert (part.dtype, part.shape) == (twin.dtype, twin.shape)
    assert np.array_equal(one.tokens, other.tokens)
    for part, twin in zip(one[1:], other[1:], strict=True):
        if part is not None:
            np.testing.assert_allclose(part, twin, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("method", METHODS)
def test_both_find_the_same_captions(method: str, limits: str) -> None:
    config = DecodingConfig(**{"max_length": 4, **METHODS[method], **LIMITS[limits]})
    for seed in range(3):
        decoder, words = TableDecoder(seed, attends=seed == 1), NamedWords(SPELLING)
        attends = seed == 1
        found = generate(decoder, features(3), config, words, with_attention=attends)
        twin = generate(
            InNumpy(decoder), to_numpy(features(3)), config, words, with_attention=attends
        )
        check_same(found, twin)
        assert (found.attention is not None) == attends
        assert (found.log_probs > NEVER).any()


@pytest.mark.parametrize(
    ("method", "words"),
    [
        *((method, "forbidden") for method in METHODS),
        *((method, "required") for method in METHODS if "beam_size" in METHODS[method]),
    ],
)
def test_both_keep_to_the_same_words(method: str, words: str) -> None:
    config = DecodingConfig(max_length=4, **METHODS[method])
    decoder = TableDecoder(1)
    found = generate(decoder, features(3), config, WORDS[words])
    twin = generate(InNumpy(decoder), to_numpy(features(3)), config, WORDS[words])
    check_same(found, twin)
    assert (found.log_probs > NEVER).any()


@pytest.mark.parametrize("method", ["beam", "sample"])
def test_both_average_the_same_ensemble(method: str) -> None:
    config = DecodingConfig(max_length=4, **METHODS[method])
    members = [TableDecoder(seed, attends=seed < 2) for seed in range(3)]
    found = generate(Ensemble(members), features(3), config, with_attention=True)
    twin = generate(
        Ensemble(list(map(InNumpy, members))), to_numpy(features(3)), config, with_attention=True
    )
    check_same(found, twin)
    assert found.attention is not None


@pytest.mark.parametrize("method", ["n-best", "diverse", "top-p"])
@pytest.mark.parametrize(("kind", "options"), CASES)
def test_every_decoder_says_the_same_through_both(kind: str, options: dict, method: str) -> None:
    decoder, given = make(kind, options), drawn_features(3)
    config = DecodingConfig(max_length=5, **METHODS[method])
    check_same(
        generate(decoder, given, config),
        generate(InNumpy(decoder), to_numpy(given), config),
        tolerance=1e-5,
    )


def test_every_decoder_was_visited() -> None:
    assert {kind for kind, _ in CASES} == set(DECODERS)


@pytest.mark.parametrize("gain", [0.5, 20.0])
def test_both_name_the_same_words(gain: float) -> None:
    torch.manual_seed(0)
    options = ("kind=transformer", "hidden_size=24", "num_heads=2", "concepts=3")
    settings = Config.load(None, [f"decoder.{option}" for option in options]).decoder
    sizes = {"vocab_size": VOCAB, "feature_size": WIDTH, "region_size": WIDTH}
    decoder = build_decoder(settings, **sizes).eval()
    decoder.concepts.fill(classes(), vocabulary(), torch.zeros(VOCAB))  # every word is rare
    decoder.concepts.weight.mul_(3)  # so that some are sure
    pooled = drawn_features(8).pooled
    regions = torch.stack([pooled, pooled, pooled, -pooled], dim=1)
    config = DecodingConfig(max_length=5, naming=gain, method="beam", beam_size=3)
    closer = decoder.concepts.look_closer(pooled, regions)
    assert closer is not None
    scores = closer.rare_score
    assert ((scores >= SURE) & (scores < VERY_SURE)).any()
    assert (scores >= VERY_SURE).any()
    given = Features(pooled, regions)
    found = generate(decoder, given, config)
    twin = generate(InNumpy(decoder), to_numpy(given), config)
    check_same(found, twin, tolerance=1e-5)


@pytest.mark.parametrize("num", [1, 2, 7, 20, 64])
@pytest.mark.parametrize("size", [3, 64, 300, 3001])
def test_equal_values_come_in_the_order_of_their_places(size: int, num: int) -> None:
    generator = np.random.default_rng(size + num)
    num = min(num, size)
    for distinct in (1, 5, 200, 10**6):
        values = generator.integers(0, distinct, (9, size)).astype(np.float32)
        values[1, generator.random(size) < 0.9] = NEVER
        values[2] = NEVER
        places = np.argsort(-values, axis=1, kind="stable")[:, :num]
        expected = np.take_along_axis(values, places, axis=1)
        real = expected > NEVER
        for arrays in (NUMPY, TORCH):
            found, ids = arrays.best(arrays.from_host(values.copy()), num)
            assert np.array_equal(found, expected)
            assert np.array_equal(ids[real], places[real])
            assert all(len({*row}) == num for row in ids.tolist())
    assert arrays_of(values) is NUMPY


def test_values_that_are_no_numbers_do_not_stop_a_search() -> None:
    values = np.full((2, 3000), np.nan, np.float32)
    for arrays in (NUMPY, TORCH):
        found, ids = arrays.best(arrays.from_host(values), 5)
        assert np.isnan(found).all()
        assert ids.shape == (2, 5)


@pytest.mark.parametrize(
    "filters", [{}, {"top_k": 5}, {"top_p": 0.7}, {"top_k": 9, "top_p": 0.5}, {"temperature": 2.0}]
)
def test_the_same_uniform_numbers_draw_the_same_tokens(filters: dict[str, Any]) -> None:
    generator = np.random.default_rng(0)
    log_probs = generator.normal(size=(500, 700)).astype(np.float32) * 2
    uniform = generator.random(500, np.float32)
    found = draw(log_probs, uniform, **filters)
    twin = draw(torch.from_numpy(log_probs), torch.from_numpy(uniform), **filters)
    assert np.array_equal(found, twin.numpy())
    assert len(np.unique(found)) > 20
