"""A compiled decoder against the same one as it is."""

import pytest
import torch
from decoder_cases import CASES, features, make, tokens

from showtell.decoders.base import Decoder
from showtell.text.vocabulary import PAD
from showtell.training.objectives.losses import cross_entropy
from showtell.training.step import compile_decoder

COMPILED = [
    next(c for c in CASES if c[0] == kind) for kind in ("attention", "up_down", "transformer")
]


def losses(decoder: Decoder) -> list[torch.Tensor]:
    """Of batches of several sizes and lengths, each with its gradients' sums."""
    found = []
    for num, length in ((5, 7), (6, 9), (4, 5)):
        inputs = tokens(num, length)
        inputs[1, 3:] = PAD
        targets = inputs.roll(-1, dims=1).masked_fill(inputs == PAD, PAD)
        decoder.zero_grad()
        loss = cross_entropy(decoder, features(num), inputs, targets)
        loss.objective.backward()
        sums = [p.grad.abs().sum() for p in decoder.parameters() if p.grad is not None]
        found.append(torch.stack([loss.nll, *sums]))
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of what it imports
@pytest.mark.parametrize("case", COMPILED, ids=str)
def test_compiling_changes_neither_losses_nor_names(case: tuple[str, dict]) -> None:
    """Traced as for the default backend, whose C++ takes minutes to compile on a processor."""
    decoder = make(*case)
    expected, names = losses(decoder), list(decoder.state_dict())
    assert "is compiled" in compile_decoder(decoder, backend="aot_eager")
    for one, other in zip(losses(decoder), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert list(decoder.state_dict()) == names


def test_where_there_is_nothing_to_compile() -> None:
    assert "nothing to compile" in compile_decoder(make(*CASES[0]))
