"""The states of every registered decoder, as search treats them.

Entries of ``picture_state`` keep a row a picture; every other entry is reordered after each step.
"""

import numpy as np
import pytest
import torch
from decoder_cases import CASES, VOCAB, features, make

from showtell.decoders.base import Decoder, State
from showtell.decoders.registry import DECODERS
from showtell.decoding.beam import beam_search
from showtell.encoders.features import Features
from showtell.text.vocabulary import START

PICTURES, BEAM, LENGTH = 3, 4, 6


class Copying:
    """The steps of a decoder that declares nothing, and returns a copy of every entry."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder

    def init_state(self, features: Features) -> State:
        return self.decoder.init_state(features)

    def step(self, tokens: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        log_probs, state = self.decoder.step(tokens, state)
        return log_probs, {name: part.clone() for name, part in state.items()}


def test_every_decoder_is_visited() -> None:
    assert {kind for kind, _ in CASES} == set(DECODERS)
    assert len(CASES) >= 11


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_reordered_states_are_those_of_the_reordered_captions(kind: str, options: dict) -> None:
    """After any reordering, a row's probabilities are those of its own caption."""
    decoder, given = make(kind, options), features(PICTURES)
    generator = torch.Generator().manual_seed(1)
    state = {
        name: part if name in decoder.picture_state else part.repeat_interleave(BEAM, dim=0)
        for name, part in decoder.init_state(given).items()
    }
    picture_of = torch.arange(PICTURES).repeat_interleave(BEAM)
    captions = torch.full((PICTURES * BEAM, 1), START)
    for _ in range(LENGTH):
        log_probs, state = decoder.step(captions[:, -1], state)
        forced = decoder(given._replace(picture_of=picture_of), captions)[:, -1].log_softmax(-1)
        torch.testing.assert_close(log_probs, forced, atol=1e-5, rtol=1e-5)
        parents = torch.randint(BEAM, (PICTURES * BEAM,), generator=generator) + picture_of * BEAM
        state = {
            name: part if name in decoder.picture_state else part[parents]
            for name, part in state.items()
        }
        words = torch.randint(4, VOCAB, (PICTURES * BEAM, 1), generator=generator)
        captions = torch.cat([captions[parents], words], dim=1)


@pytest.mark.parametrize(("kind", "options"), CASES)
@pytest.mark.parametrize("search", [{}, {"groups": 2, "diversity": 0.5}])
def test_search_needs_no_declaration(kind: str, options: dict, search: dict) -> None:
    """``picture_state`` saves copies; captions are the same without."""
    decoder, given = make(kind, options), features(PICTURES)
    settings = {"beam_size": BEAM, "max_length": LENGTH, "length_penalty": 0.7, **search}
    declared = beam_search(decoder, given, **settings)
    copied = beam_search(Copying(decoder), given, **settings)
    assert np.array_equal(declared.tokens, copied.tokens)
    np.testing.assert_allclose(declared.log_probs, copied.log_probs, atol=1e-5, rtol=1e-5)
