"""The contract that every registered decoder keeps."""

from typing import get_args

import pytest
import torch
from torch.nn import functional as F

from showtell.config import DecoderConfig
from showtell.models.base import Decoder, Features
from showtell.models.decoders import DECODERS, build_decoder
from showtell.text.vocabulary import END, PAD, START
from showtell.training.losses import cross_entropy

VOCAB, WIDTH, REGIONS = 30, 24, 6

SMALL = {
    "show_tell": [
        {"embed_size": 32, "hidden_size": 48},
        {"embed_size": 16, "hidden_size": 24, "num_layers": 2, "cell": "gru"},
        {"embed_size": 16, "hidden_size": 24, "cell": "rnn"},
    ],
}
CASES = [(kind, options) for kind in DECODERS for options in SMALL[kind]]


def make(kind: str, options: dict, *, dropout: float = 0.0) -> Decoder:
    classes = get_args(DecoderConfig) or (DecoderConfig,)
    config_class = next(c for c in classes if c.model_fields["kind"].default == kind)
    torch.manual_seed(0)
    config = config_class(kind=kind, dropout=dropout, **options)
    return build_decoder(config, vocab_size=VOCAB, feature_size=WIDTH).eval()


def features(num: int, seed: int = 0) -> Features:
    generator = torch.Generator().manual_seed(seed)
    return Features(
        torch.randn(num, WIDTH, generator=generator),
        torch.randn(num, REGIONS, WIDTH, generator=generator),
    )


def tokens(num: int, length: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(4, VOCAB, (num, length), generator=generator)
    drawn[:, 0] = START
    return drawn


def test_every_decoder_is_visited() -> None:
    assert set(SMALL) == set(DECODERS)
    assert len(CASES) == 3


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_stepwise_equals_teacher_forcing(kind: str, options: dict) -> None:
    decoder, inputs = make(kind, options), tokens(5, 9)
    expected = decoder(features(5), inputs).log_softmax(-1)
    assert expected.shape == (5, 9, VOCAB)
    state = decoder.init_state(features(5))
    for position in range(9):
        log_probs, state = decoder.step(inputs[:, position], state)
        assert all(part.shape[0] == 5 for part in state.values())
        torch.testing.assert_close(log_probs, expected[:, position], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_padding_counts_for_nothing(kind: str, options: dict) -> None:
    """Neither the loss nor any gradient knows how far a caption was padded."""
    decoder = make(kind, options)
    inputs = tokens(3, 6)
    targets = torch.cat([inputs[:, 1:], torch.full((3, 1), END)], dim=1)
    padded_inputs = F.pad(inputs, (0, 4), value=PAD)
    padded_targets = F.pad(targets, (0, 4), value=PAD)
    gradients = []
    for one_inputs, one_targets in ((inputs, targets), (padded_inputs, padded_targets)):
        decoder.zero_grad()
        loss = cross_entropy(decoder, features(3), one_inputs, one_targets, label_smoothing=0.1)
        loss.objective.backward()
        assert loss.num_tokens == 18
        gradients.append([loss.objective.detach(), *(p.grad.clone() for p in decoder.parameters())])
    for plain, padded in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, padded, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_permuting_the_batch_permutes_the_results(kind: str, options: dict) -> None:
    decoder, inputs, given = make(kind, options), tokens(6, 7), features(6)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = Features(given.pooled[order], given.regions[order])
    torch.testing.assert_close(
        decoder(shuffled, inputs[order]), decoder(given, inputs)[order], atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_overfits_eight_pairs(kind: str, options: dict) -> None:
    decoder, given = make(kind, options).train(), features(8)
    inputs = tokens(8, 7)
    targets = torch.cat([inputs[:, 1:], torch.full((8, 1), END)], dim=1)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-2)
    for _ in range(300):
        loss = cross_entropy(decoder, given, inputs, targets)
        optimizer.zero_grad()
        loss.objective.backward()
        optimizer.step()
    assert loss.nll.exp() < 1.05


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_gradients_reach_every_parameter(kind: str, options: dict) -> None:
    decoder = make(kind, options).train()
    inputs = tokens(4, 6)
    cross_entropy(decoder, features(4), inputs, inputs.roll(-1, 1)).objective.backward()
    idle = [name for name, p in decoder.named_parameters() if not p.grad.abs().sum() > 0]
    assert idle == []


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_dropout_acts_in_training_alone(kind: str, options: dict) -> None:
    decoder, inputs = make(kind, options, dropout=0.5), tokens(4, 6)
    assert torch.equal(decoder(features(4), inputs), decoder(features(4), inputs))
    decoder.train()
    assert not torch.equal(decoder(features(4), inputs), decoder(features(4), inputs))


def test_show_tell_has_the_notebooks_parameters() -> None:
    """Counted by hand: linear and batch norm, embedding, LSTM (4 gates, 2 biases), linear."""
    decoder = make("show_tell", {"embed_size": 32, "hidden_size": 48})
    image, words = WIDTH * 32 + 32 + 2 * 32, VOCAB * 32
    lstm = 4 * 48 * (32 + 48 + 2)
    assert decoder.num_parameters() == image + words + lstm + 48 * VOCAB + VOCAB


def test_word_dropout_spares_start_and_padding() -> None:
    decoder = make("show_tell", {"embed_size": 8, "hidden_size": 8, "word_dropout": 0.99}).train()
    inputs = F.pad(tokens(50, 8), (0, 2), value=PAD)
    dropped = decoder._drop_words(inputs)
    assert (dropped[:, 0] == START).all()
    assert (dropped[:, 8:] == PAD).all()
    assert (dropped[:, 1:8] == 3).float().mean() > 0.9
    assert torch.equal(decoder.eval()._drop_words(inputs), inputs)


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_a_batch_of_one_can_be_trained_on(kind: str, options: dict) -> None:
    decoder, inputs = make(kind, options).train(), tokens(1, 5)
    cross_entropy(decoder, features(1), inputs, inputs.roll(-1, 1)).objective.backward()
    assert all(torch.isfinite(p.grad).all() for p in decoder.parameters())
