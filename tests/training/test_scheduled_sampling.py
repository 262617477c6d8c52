"""Which words become the model's own, and which stay."""

import pytest
import torch
from decoder_cases import CASES, VOCAB, features, make, tokens

from showtell.config import ObjectiveConfig
from showtell.text.vocabulary import END, PAD, START
from showtell.training.objectives.cross_entropy import mix_in_samples, sampled_share


def test_the_share_rises_from_epoch_to_epoch_up_to_a_limit() -> None:
    """Off by default; with the names and the meaning of Luo's self-critical.pytorch."""
    assert {sampled_share(epoch, ObjectiveConfig()) for epoch in range(1, 30)} == {0.0}
    config = ObjectiveConfig(
        scheduled_sampling_max_prob=0.25,
        scheduled_sampling_start=2,
        scheduled_sampling_increase_prob=0.1,
    )
    shares = [sampled_share(epoch, config) for epoch in range(1, 8)]
    assert shares == pytest.approx([0, 0, 0.1, 0.2, 0.25, 0.25, 0.25])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_only_words_are_replaced_and_only_by_words(case: tuple[str, dict]) -> None:
    inputs = tokens(40, 9)
    inputs[::2, 6:] = PAD
    mixed = mix_in_samples(make(*case), features(40), inputs, 1.0)
    is_word = inputs != PAD
    is_word[:, 0] = False
    assert torch.equal(mixed[~is_word], inputs[~is_word])
    replaced = mixed[is_word]
    assert not torch.isin(replaced, torch.tensor([PAD, START, END])).any()
    assert (replaced != inputs[is_word]).float().mean() > 0.8
    styles = tuple(range(VOCAB // 2, VOCAB))
    mixed = mix_in_samples(make(*case), features(40), inputs, 1.0, styles)
    assert not torch.isin(mixed[is_word], torch.tensor([PAD, START, END, *styles])).any()
    half = mix_in_samples(make(*case), features(40), inputs, 0.5)
    assert 0.35 < (half != inputs)[is_word].float().mean() < 0.6


def test_a_word_follows_from_the_true_words_before_it() -> None:
    """A decoder that always says the same after a word says just that, one place further on."""
    decoder, inputs = make(*CASES[0]), tokens(200, 6)
    mixed = mix_in_samples(decoder, features(200), inputs, 1.0)
    probs = decoder(features(200), inputs).detach()
    probs[:, :, [PAD, START, END]] = -torch.inf
    probs = probs.softmax(dim=-1)
    for position in range(1, 6):
        expected = probs[:, position - 1].mean(dim=0)
        drawn = torch.bincount(mixed[:, position], minlength=VOCAB) / 200
        # Total variation of 200 draws from 27 words: about 0.15 by chance.
        assert (drawn - expected).abs().sum() / 2 < 0.25
