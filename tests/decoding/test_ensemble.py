import itertools

import numpy as np
import pytest
import torch
from tiny_decoder import EVERYTHING, LENGTH, WORDS, TableDecoder, caption, features

from showtell.decoding.beam import beam_search
from showtell.decoding.ensemble import Ensemble
from showtell.decoding.sampling import sample
from showtell.errors import CheckpointError
from showtell.text.vocabulary import END


def test_an_ensemble_of_one_is_its_decoder() -> None:
    decoder = TableDecoder(0)
    for beam_size in (1, 3):
        one, two = (
            beam_search(steps, features(3), beam_size=beam_size, max_length=LENGTH)
            for steps in (decoder, Ensemble([decoder]))
        )
        assert np.array_equal(one.tokens, two.tokens)
        assert np.array_equal(one.log_probs, two.log_probs)


def test_an_ensemble_averages_probabilities() -> None:
    decoders = TableDecoder(0), TableDecoder(1)
    ensemble = Ensemble(decoders)
    found = beam_search(ensemble, features(2), beam_size=EVERYTHING, max_length=LENGTH)
    for picture in range(2):
        expected = []
        for length in range(LENGTH + 1):
            for words in itertools.product(WORDS, repeat=length):
                p = torch.ones((), dtype=torch.double)
                for i, token in enumerate((*words, END)):
                    rows = [d.log_probs(picture, words[:i]).double().exp() for d in decoders]
                    p *= (rows[0][token] + rows[1][token]) / 2
                expected.append((float(p.log()), (*words, END)))
        for rank, (log_p, tokens) in enumerate(sorted(expected, reverse=True)):
            assert found.log_probs[picture, rank].item() == pytest.approx(log_p, abs=1e-4)
            if rank < 20:
                assert caption(found, picture, rank) == tokens


def test_attention_is_averaged_over_those_that_attend() -> None:
    attends = TableDecoder(0, attends=True)
    ensemble = Ensemble([attends, TableDecoder(1), attends])
    found = beam_search(ensemble, features(2), beam_size=2, max_length=LENGTH, with_attention=True)
    assert found.attention is not None
    tokens = caption(found, 1, 1)
    codes = torch.tensor([attends.code(tokens[:i]) for i in range(len(tokens))])
    expected = attends.attention(torch.ones_like(codes), codes)
    np.testing.assert_allclose(found.attention[1, 1, : len(tokens)], expected, rtol=1e-5)
    drawn = sample(ensemble, features(2), num_captions=2, max_length=3, with_attention=True)
    assert drawn.attention is not None


def test_vocabularies_of_different_sizes_are_an_error() -> None:
    small = TableDecoder(1)
    small.table = small.table[:, :, :-1]
    with pytest.raises(CheckpointError, match="one has 8 words, another 7"):
        beam_search(Ensemble([TableDecoder(0), small]), features(1), beam_size=1, max_length=LENGTH)
