"""Naming what no training picture showed: a word gains until said, or regions are hidden."""

import numpy as np
import pytest
import torch
from decoder_cases import VOCAB, WIDTH, classes, vocabulary
from tiny_decoder import TableDecoder
from torch import Tensor

from showtell.config import Config, DecodingConfig
from showtell.decoders.registry import build_decoder
from showtell.decoders.transformer import Transformer
from showtell.decoding.beam import beam_search
from showtell.decoding.ensemble import Ensemble
from showtell.decoding.generate import generate
from showtell.decoding.naming import SURE, SURE_OF_ALL, UNSAID, VERY_SURE, Naming, naming
from showtell.encoders.features import Closer, Concepts, Features
from showtell.errors import ConfigError
from showtell.text.vocabulary import PAD, START

SIDE = 4
GAIN = 3.0
WORD = 7


def make() -> Transformer:
    torch.manual_seed(0)
    options = ("kind=transformer", "hidden_size=24", "num_heads=2", "concepts=3", "dropout=0")
    config = Config.load(None, [f"decoder.{option}" for option in options])
    decoder = build_decoder(
        config.decoder, vocab_size=VOCAB, feature_size=WIDTH, region_size=WIDTH
    ).eval()
    decoder.concepts.fill(classes(), vocabulary(), torch.zeros(VOCAB))
    return decoder


def seen(num: int) -> Features:
    regions = torch.randn(num, SIDE**2, WIDTH, generator=torch.Generator().manual_seed(1))
    return Features(regions.mean(dim=1), regions)


class Told(Naming):
    """As if the classifier were so sure of ``WORD`` in each picture."""

    def __init__(
        self, decoder: Transformer, scores: Tensor, whole: Tensor | None = None, gain: float = GAIN
    ) -> None:
        super().__init__(decoder, decoder.concepts, gain)
        whole = torch.zeros_like(scores) if whole is None else whole
        words = torch.tensor([[WORD, 9, PAD]]).expand(len(scores), 3)
        decoder.concepts.look_closer = lambda *_: Closer(
            torch.full((len(scores),), WORD), scores, whole, Concepts(words, words.float() / VOCAB)
        )


def test_a_word_gains_until_it_is_said() -> None:
    decoder, features = make(), seen(3)
    named = Told(decoder, torch.tensor([SURE, SURE - 0.01, SURE + 0.1]))
    state, plain = named.init_state(features), decoder.init_state(features)
    assert state[UNSAID].tolist() == [WORD, PAD, WORD]
    given = torch.full((3,), START)
    for said in (torch.tensor([5, 5, WORD]), torch.tensor([6, 6, 6]), None):
        log_probs, state = named.step(given, state)
        usual, plain = decoder.step(given, plain)
        expected = usual.clone()
        for row in (state[UNSAID] == WORD).nonzero():
            expected[row, WORD] += GAIN
        torch.testing.assert_close(log_probs, expected.log_softmax(dim=-1))
        given = said
    assert state[UNSAID].tolist() == [WORD, PAD, PAD]  # the third has said it


@torch.no_grad()
def test_each_hypothesis_remembers_what_it_said() -> None:
    """All captions of a beam have the probability that teacher forcing gives them."""
    decoder, features = make(), seen(2)
    named = Told(decoder, torch.tensor([0.5, 0.0]))
    captions_with_it = 0
    found = beam_search(named, features, beam_size=4, max_length=6)
    for picture in range(2):
        for rank in range(4):
            tokens = [t for t in found.tokens[picture, rank].tolist() if t != PAD]
            state = named.init_state(features)
            total, last = 0.0, START
            for token in tokens:
                log_probs, state = named.step(torch.full((2,), last), state)
                total, last = total + float(log_probs[picture, token]), token
            assert float(found.log_probs[picture, rank]) == pytest.approx(total, abs=1e-4)
            captions_with_it += picture == 0 and WORD in tokens
    assert captions_with_it


@pytest.mark.parametrize(
    ("rare", "whole"), [((VERY_SURE, 0.0), (0.0, 0.0)), ((SURE, 0.0), (SURE_OF_ALL, 0.7))]
)
def test_where_it_is_surer_still_the_words_of_windows_tell_all(
    rare: tuple[float, float], whole: tuple[float, float]
) -> None:
    decoder, features = make(), seen(2)
    named = Told(decoder, torch.tensor(rare), torch.tensor(whole))
    state = named.init_state(features)
    assert state[UNSAID].tolist() == [PAD, PAD]
    given = torch.full((2,), START)
    log_probs, _ = named.step(given, state)
    usual, _ = decoder.step(given, decoder.init_state(features))
    told = named.reader.look_closer(features.pooled, features.regions).concepts
    blind = Features(features.pooled, concepts=told)
    without, _ = decoder.step(given, decoder.init_state(blind))
    torch.testing.assert_close(log_probs, torch.stack([without[0], usual[1]]))


def test_the_front_door_names_what_the_setting_asks_for() -> None:
    decoder, features = make(), seen(3)
    rare = decoder.concepts.look_closer(features.pooled, features.regions)
    assert bool((rare.rare_score < VERY_SURE).all())
    assert bool((rare.rare_score > 0).all())
    named = naming(decoder, 20.0)
    assert isinstance(named, Naming)
    off = generate(decoder, features, DecodingConfig(naming=0, max_length=8))
    plain = generate(decoder, features, DecodingConfig(max_length=8))
    assert np.array_equal(off.tokens, plain.tokens)
    on = generate(decoder, features, DecodingConfig(naming=20, max_length=8))
    for picture, word in enumerate(rare.rare_word.tolist()):
        sure = float(rare.rare_score[picture]) >= SURE
        assert (word in on.tokens[picture, 0].tolist()) or not sure


def test_features_without_a_grid_are_captioned_as_ever() -> None:
    decoder = make()
    pooled = seen(2)._replace(concepts=decoder.concepts(seen(2).pooled))
    for features in (pooled, pooled._replace(regions=None)):
        on = generate(decoder, features, DecodingConfig(naming=5, max_length=8))
        off = generate(decoder, features, DecodingConfig(max_length=8))
        assert np.array_equal(on.tokens, off.tokens)


def test_of_an_ensemble_those_name_that_can() -> None:
    decoder = make()
    both = naming(Ensemble([decoder, make()]), GAIN)
    assert isinstance(both, Ensemble)
    assert all(isinstance(member, Naming) for member in both.decoders)
    found = generate(Ensemble([decoder, make()]), seen(2), DecodingConfig(naming=2, max_length=5))
    assert np.isfinite(found.log_probs).all()


def test_a_decoder_that_reads_no_classifier_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"decoding.naming = 4.*leave it at 0"):
        generate(TableDecoder(0), seen(1), DecodingConfig(naming=4))
    with pytest.raises(ConfigError, match=r"decoding.naming"):
        naming(Ensemble([TableDecoder(0)]), 4)
