"""The losses against torch's own, in their plain form."""

import pytest
import torch
from decoder_cases import CASES, features, make, tokens
from torch.nn import functional as F

from showtell.text.vocabulary import PAD
from showtell.training.objectives import losses
from showtell.training.objectives.losses import cross_entropy, smoothed_cross_entropy


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


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_chunked_form_is_the_plain_one(
    smoothing: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In chunks of three rows; and where the loss is only a part of what is minimised."""
    monkeypatch.setattr(losses, "CPU_CHUNK", 3 * 11)
    start = torch.randn(8, 11, generator=torch.Generator().manual_seed(1)).to(dtype)
    targets = torch.arange(8)
    found = []
    for form in (smoothed_cross_entropy, losses._SmoothedCrossEntropy.apply):
        logits = start.clone().requires_grad_()
        objective, nll = form(logits.clone(), targets, smoothing)
        (0.25 * objective).backward()
        assert objective.dtype == nll.dtype == torch.float32
        assert not nll.requires_grad
        found.append((objective.detach(), nll, logits.grad))
    tolerance = (
        {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 1e-4}
    )
    for plain, chunked in zip(*found, strict=True):
        torch.testing.assert_close(chunked, plain, **tolerance)
