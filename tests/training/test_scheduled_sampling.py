"""Which words become the model's own, and which stay."""

import numpy as np
import pytest
import torch
from decoder_cases import CASES, SMALL, VOCAB, features, make, tokens

from showtell.config import Config, ObjectiveConfig
from showtell.core.device import choose_runtime
from showtell.encoders.features import Features
from showtell.text.vocabulary import END, PAD, START
from showtell.training.corpus import Corpus
from showtell.training.objectives.cross_entropy import (
    CrossEntropy,
    mix_in_samples,
    sampled_share,
)
from showtell.training.step import compile_decoder

DETECTING = ("transformer", SMALL["transformer"][3])


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


class _Load:
    """The same pictures for every batch."""

    def of_captions(self, rows: np.ndarray, step: int, part: np.ndarray) -> Features:
        return features(len(part))


@pytest.mark.parametrize("compiled", [False, True])
def test_a_detector_learns_the_captions_own_words(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not those that stand in their place in the decoder's input."""
    decoder = make(*DETECTING)
    if compiled:
        monkeypatch.setattr(torch, "compile", lambda function, **options: function)
        compile_decoder(decoder)
    corpus = Corpus(np.arange(4, 14, dtype=np.int32), np.array([0, 5, 10]), np.array([0, 1]))
    objective = CrossEntropy(
        corpus=corpus,
        load=_Load(),
        runtime=choose_runtime("cpu", "fp32"),
        config=Config.load(
            None,
            [
                "objective.scheduled_sampling_start=0",
                "objective.scheduled_sampling_increase_prob=1",
                "objective.scheduled_sampling_max_prob=1",
            ],
        ),
        by_picture=False,
    )
    batch = np.arange(2)
    loss = objective(decoder, batch, batch, epoch=1, step=0)
    inputs, _ = corpus.tensors(batch, "cpu")
    true = decoder.hidden_states(features(2), inputs).penalty.item()
    torch.manual_seed(1)
    mixed = decoder.hidden_states(features(2), mix_in_samples(decoder, features(2), inputs, 1.0))
    assert mixed.penalty.item() != pytest.approx(true, abs=1e-3)
    # What is minimised is the cross-entropy and the penalty.
    penalty = float(loss.figures["objective"]) - float(loss.figures["loss"])
    assert penalty == pytest.approx(true, abs=1e-5)


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
