"""Samples against the distribution they are drawn from."""

import numpy as np
import pytest
import torch
from tiny_decoder import (
    LENGTH,
    WORDS,
    Rules,
    TableDecoder,
    caption,
    check_attention,
    enumerate_all,
    features,
)

from showtell.decoding.hypotheses import NEVER, Hypotheses
from showtell.decoding.sampling import draw, sample
from showtell.encoders.features import Features
from showtell.text.vocabulary import END


def drawn(num: int = 3, *, rules: Rules = Rules(), **options: object) -> Hypotheses:  # noqa: B008
    constraints = rules.constraints()
    return sample(
        TableDecoder(0),
        features(num),
        max_length=rules.max_length,
        constraints=constraints,
        **{"num_captions": 5, **options},
    )


def test_the_same_seed_gives_the_same_captions() -> None:
    one, two, other = drawn(seed=1), drawn(seed=1), drawn(seed=2)
    assert np.array_equal(one.tokens, two.tokens)
    assert np.array_equal(one.log_probs, two.log_probs)
    assert one.tokens.shape != other.tokens.shape or not np.array_equal(one.tokens, other.tokens)


def test_samples_do_not_depend_on_the_batch() -> None:
    together = drawn(3, temperature=1.3)
    for picture in range(3):
        alone = sample(
            TableDecoder(0),
            features(1, picture),
            num_captions=5,
            max_length=LENGTH,
            temperature=1.3,
            first=picture,
        )
        for rank in range(5):
            assert caption(alone, 0, rank) == caption(together, picture, rank)


def test_pictures_and_samples_are_drawn_apart() -> None:
    same = Features(torch.zeros(400, 1))  # one picture four hundred times
    found = sample(TableDecoder(0), same, num_captions=1, max_length=LENGTH)
    assert len({caption(found, picture) for picture in range(400)}) > 50
    assert len({caption(drawn(1, num_captions=100), 0, rank) for rank in range(100)}) > 20


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.7])
def test_captions_come_as_often_as_they_are_probable(temperature: float) -> None:
    """Chi-square over captions, the rare ones in one cell; the seed is fixed, so is the result."""
    from scipy.stats import chisquare

    num, decoder, rules = 20_000, TableDecoder(0), Rules(max_length=2, min_length=1)
    constraints = rules.constraints()
    found = sample(
        decoder,
        features(1),
        num_captions=num,
        max_length=2,
        temperature=temperature,
        constraints=constraints,
        seed=5,
    )
    expected: dict[tuple[int, ...], float] = {}
    for tokens in rules.captions():
        p = 1.0
        for i, token in enumerate(tokens):
            allowed = [*WORDS, END] if i == 1 else WORDS if i == 0 else [END]
            log_probs = decoder.log_probs(0, tokens[:i])[list(allowed)] / temperature
            p *= float(log_probs.softmax(0)[list(allowed).index(token)])
        expected[tokens] = p * num
    assert sum(expected.values()) == pytest.approx(num)
    counts = dict.fromkeys(expected, 0)
    for rank in range(num):
        counts[caption(found, 0, rank)] += 1
    common = [tokens for tokens, count in expected.items() if count >= 5]
    seen = [counts[tokens] for tokens in common]
    hoped = [expected[tokens] for tokens in common]
    if len(common) < len(expected):
        seen.append(num - sum(seen))
        hoped.append(num - sum(hoped))
    assert len(seen) > 8
    hoped = [count * num / sum(hoped) for count in hoped]  # but for rounding
    assert chisquare(seen, hoped).pvalue > 0.001


def test_log_probabilities_are_the_decoders_own_and_order_the_samples() -> None:
    decoder = TableDecoder(0)
    found = drawn(temperature=3.0, top_k=3, length_penalty=0.7)
    for picture in range(3):
        for rank in range(5):
            tokens = caption(found, picture, rank)
            expected = torch.tensor(decoder.token_log_probs(picture, tokens))
            np.testing.assert_allclose(
                found.token_log_probs[picture, rank, : len(tokens)], expected, rtol=1e-6
            )
            score = float(expected.sum()) / len(tokens) ** 0.7
            assert found.scores[picture, rank].item() == pytest.approx(score)
    assert (np.diff(found.scores, axis=1) <= 0).all()


def support(log_probs: torch.Tensor, **filters: float) -> set[int]:
    uniform = torch.linspace(0, 1 - 2**-24, 5000)
    return set(draw(log_probs.expand(5000, -1), uniform, **filters).tolist())


@pytest.mark.parametrize("size", [11, 3000])
def test_top_k_leaves_exactly_the_likeliest(size: int) -> None:
    log_probs = torch.randn(size, generator=torch.Generator().manual_seed(0)).log_softmax(0)
    for k in (1, 2, 7, 20_000):
        if k < size:
            assert support(log_probs, top_k=k) == set(log_probs.topk(k).indices.tolist())
    if size == 11:
        assert support(log_probs, top_k=20_000) == set(range(11))


@pytest.mark.parametrize("size", [11, 3000])
@pytest.mark.parametrize("top_p", [0.05, 0.3, 0.6, 0.9])
def test_top_p_leaves_exactly_the_nucleus(size: int, top_p: float) -> None:
    log_probs = torch.randn(size, generator=torch.Generator().manual_seed(0)) * 3
    log_probs = log_probs.log_softmax(0)
    probs, order = log_probs.double().exp().sort(descending=True)
    nucleus = int((probs.cumsum(0) < top_p).sum()) + 1
    found = support(log_probs, top_p=top_p)
    assert found <= set(order[:nucleus].tolist())
    likely = order[:nucleus][probs[:nucleus] > 1e-3]  # 5,000 points do not hit the others
    assert found >= set(likely.tolist())
    assert len(likely) > 0


@pytest.mark.parametrize(
    ("temperature", "found"), [(1e-30, {1}), (5e-324, {1}), (1e308, {0, 1, 2})]
)
def test_extreme_temperatures_draw_the_likeliest_or_anything(
    temperature: float, found: set[int]
) -> None:
    log_probs = torch.tensor([-40.0, -30.0, -70.0, -torch.inf])
    assert support(log_probs, temperature=temperature) == found
    rows = np.broadcast_to(log_probs.numpy(), (3, 4))
    drawn = draw(rows, np.array([0.0, 0.5, 0.9], np.float32), temperature=temperature)
    assert set(drawn.tolist()) == found


def test_the_nucleus_is_of_what_top_k_left() -> None:
    log_probs = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    assert support(log_probs, top_k=2, top_p=0.5) == {0}  # 4/7
    assert support(log_probs, top_p=0.5) == {0, 1}
    assert support(log_probs, top_k=3, top_p=1.0) == {0, 1, 2}


def test_a_low_temperature_is_greedy_and_what_is_forbidden_never_comes() -> None:
    log_probs = torch.tensor([0.3, 0.4, 0.2, 0.1]).log()
    assert support(log_probs, temperature=0.001) == {1}
    log_probs[1] = NEVER
    assert support(log_probs) == {0, 2, 3}
    assert support(log_probs, top_k=4) == {0, 2, 3}
    assert support(log_probs, top_p=1.0) == {0, 2, 3}


def test_samples_keep_to_the_rules() -> None:
    rules = Rules(min_length=2, no_repeat_ngram=1, forbidden=(4,), bad_endings=(5,))
    found = drawn(rules=rules, num_captions=50)
    assert (found.log_probs > NEVER).any()
    for picture in range(3):
        for rank in range(50):
            tokens = caption(found, picture, rank)
            assert bool(tokens) == bool(found.log_probs[picture, rank] > NEVER)
            assert not tokens or rules.allow(tokens[:-1])


def test_where_no_caption_is_possible_there_is_none() -> None:
    found = drawn(rules=Rules(min_length=4, no_repeat_ngram=1, forbidden=(4,)))
    assert (found.log_probs == NEVER).all()
    assert found.tokens.shape == (3, 5, 0)


def test_attention_follows_its_sample() -> None:
    decoder = TableDecoder(7, attends=True)
    found = sample(decoder, features(3), num_captions=4, max_length=LENGTH, with_attention=True)
    check_attention(decoder, found)


def test_no_pictures_give_no_samples() -> None:
    assert drawn(0).tokens.shape[:2] == (0, 5)


def test_the_table_is_a_distribution() -> None:
    """That enumeration covers all that can be sampled."""
    decoder = TableDecoder(3)
    short = Rules(max_length=LENGTH - 1)
    total = sum(torch.tensor(s).exp().item() for s, _ in enumerate_all(decoder, 0, short, 0.0))
    assert 0 < total < 1
