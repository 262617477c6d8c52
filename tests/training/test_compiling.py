"""A compiled decoder against the same one as it is."""

import pytest
import torch
from decoder_cases import CASES, SMALL, features, make, tokens

from showtell.decoders.base import Decoder
from showtell.errors import ConfigError
from showtell.text.vocabulary import PAD
from showtell.training import step
from showtell.training.objectives.losses import cross_entropy
from showtell.training.step import compile_decoder

# Captions of other lengths than the first batch's make another graph: one kind shows that.
COMPILED = [
    ("attention", SMALL["attention"][0], 2),
    ("up_down", SMALL["up_down"][0], 3),
    ("transformer", SMALL["transformer"][1], 2),
    ("prefix_lm", SMALL["prefix_lm"][1], 2),
]


def losses(decoder: Decoder, num_batches: int) -> list[torch.Tensor]:
    """Of batches of several sizes and lengths, each with its gradients' sums."""
    found = []
    for num, length in ((5, 2), (6, 1), (4, 3))[:num_batches]:
        inputs = tokens(num, length)
        inputs[1, 1:] = PAD
        targets = inputs.roll(-1, dims=1).masked_fill(inputs == PAD, PAD)
        decoder.zero_grad()
        loss = cross_entropy(decoder, features(num), inputs, targets)
        loss.objective.backward()
        sums = [p.grad.abs().sum() for p in decoder.parameters() if p.grad is not None]
        found.append(torch.stack([loss.nll, *sums]))
    return found


@pytest.mark.slow(10)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of what it imports
@pytest.mark.parametrize(("kind", "options", "num_batches"), COMPILED)
def test_compiling_changes_neither_losses_nor_names(
    kind: str, options: dict, num_batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced as for the default backend, whose C++ takes minutes to compile on a processor.

    A recurrence is unrolled, and tracing takes time for each step: so few steps.
    """
    monkeypatch.setattr(step, "BUCKET", 2)
    decoder = make(kind, options)
    expected, names = losses(decoder, num_batches), list(decoder.state_dict())
    assert "is compiled" in compile_decoder(decoder, backend="aot_eager")
    for one, other in zip(losses(decoder, num_batches), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert list(decoder.state_dict()) == names


def test_padding_goes_no_further_than_a_decoders_positions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A prefix of 3 leaves 42 of 45 positions, and 42 tokens would be padded to 48."""
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    decoder = make("prefix_lm", {**SMALL["prefix_lm"][0], "num_positions": 45})
    inputs = tokens(2, 42)
    expected = decoder.hidden_states(features(2), inputs).states
    compile_decoder(decoder)
    torch.testing.assert_close(decoder.hidden_states(features(2), inputs).states, expected)
    with pytest.raises(ConfigError, match="num_positions = 45 has room for a prefix of 3 and 42"):
        decoder.hidden_states(features(2), tokens(2, 43))


def test_where_there_is_nothing_to_compile() -> None:
    assert "nothing to compile" in compile_decoder(make(*CASES[0]))
