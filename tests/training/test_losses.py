"""The loss against torch's own."""

import pytest
import torch
from decoder_cases import CASES, features, make, tokens
from torch.nn import functional as F

from showtell.text.vocabulary import PAD
from showtell.training.objectives.losses import cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_and_its_gradients_are_torchs(smoothing: float) -> None:
    """torch.nn.functional.cross_entropy with the same label smoothing, on the padded logits."""
    decoder, inputs = make(*CASES[0]), tokens(5, 7)
    inputs[2, 4:] = PAD
    targets = F.pad(inputs[:, 1:], (0, 1), value=2)
    targets[2, 4:] = PAD
    loss = cross_entropy(decoder, features(5), inputs, targets, label_smoothing=smoothing)
    loss.objective.backward()
    found = [p.grad.clone() for p in decoder.parameters()]
    decoder.zero_grad()
    logits = decoder(features(5), inputs).flatten(0, 1)
    options = {"ignore_index": PAD, "label_smoothing": smoothing}
    expected = F.cross_entropy(logits, targets.flatten(), **options)
    expected.backward()
    torch.testing.assert_close(loss.objective, expected)
    torch.testing.assert_close(
        loss.nll, F.cross_entropy(logits, targets.flatten(), ignore_index=PAD)
    )
    assert not loss.nll.requires_grad
    for one, parameter in zip(found, decoder.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, atol=1e-6, rtol=1e-4)
