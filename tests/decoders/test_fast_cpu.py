"""Each fast form against the plain form that it stands for: values and gradients."""

import gc
from collections.abc import Callable

import pytest
import torch
from decoder_cases import CASES, REGIONS, features, make, tokens
from torch import Tensor
from torch.nn import functional as F

from showtell.decoders import fast_cpu
from showtell.decoders.layers import Dropout
from showtell.decoders.recurrence import lstm_cell, unrolled
from showtell.decoders.region_attention import RegionAttention
from showtell.decoders.transformer import attend
from showtell.text.vocabulary import PAD
from showtell.training.objectives.losses import cross_entropy

CPU = torch.device("cpu")


def both(form: str, compute: Callable[[], object]) -> tuple[object, object]:
    """What ``compute`` gives with the fast form and with the plain one."""
    assert fast_cpu.takes(form, CPU)
    fast = compute()
    with fast_cpu.plain_forms(form):
        assert not fast_cpu.takes(form, CPU)
        plain = compute()
    assert fast_cpu.takes(form, CPU)
    return fast, plain


def test_every_form_is_compared() -> None:
    compared = {
        "dropout": test_dropout_keeps_the_mean_and_follows_the_seed,
        "attention": test_attention,
        "lstm_cell": test_lstm_cell,
        "deferred_weight_grads": test_deferred_weight_grads,
        "unrolled_attention": test_unrolled_attention,
    }
    assert compared.keys() == fast_cpu.FORMS.keys()


def test_where_forms_run() -> None:
    gpu = torch.device("cuda")
    assert not fast_cpu.takes("dropout", gpu)
    assert not fast_cpu.takes("attention", gpu)
    with torch.no_grad():
        assert [name for name in fast_cpu.FORMS if fast_cpu.takes(name, CPU)] == ["dropout"]
    with fast_cpu.plain_forms():
        assert not any(fast_cpu.takes(name, CPU) for name in fast_cpu.FORMS)
        with fast_cpu.plain_forms("dropout"):
            pass
        assert not fast_cpu.takes("dropout", CPU)


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_a_step_leaves_no_memory_to_the_garbage_collector(kind: str, options: dict) -> None:
    """Else training grows by some megabytes a step, as it comes by seldom."""
    decoder = make(kind, options, dropout=0.1).train()
    inputs, targets = tokens(6, 5), tokens(6, 5, seed=1)

    def num_tensors(steps: int) -> int:
        for _ in range(steps):
            cross_entropy(
                decoder, features(6), inputs, targets, label_smoothing=0.1
            ).objective.backward()
            decoder.zero_grad(set_to_none=True)
        return sum(issubclass(type(found), Tensor) for found in gc.get_objects())

    num_tensors(2)
    gc.collect()
    gc.disable()
    try:
        assert num_tensors(1) == num_tensors(3)
    finally:
        gc.enable()


@pytest.mark.parametrize("p", [0.001, 0.1, 0.3, 0.999])
def test_dropout_drops_about_as_many_as_torch(p: float) -> None:
    dropout, ones = Dropout(p).train(), torch.ones(200_000)

    def share() -> Tensor:
        torch.manual_seed(1)
        return (dropout(ones) == 0).float().mean()

    fast, plain = both("dropout", share)
    torch.testing.assert_close(fast, plain, atol=0.006, rtol=0)


def test_dropout_keeps_the_mean_and_follows_the_seed() -> None:
    dropout, ones = Dropout(0.3).train(), torch.ones(100_003, requires_grad=True)
    torch.manual_seed(0)
    dropped = dropout(ones)
    dropped.sum().backward()
    assert torch.equal(ones.grad, dropped)
    share = (dropped == 0).float().mean().item()
    assert abs(share - 77 / 256) < 0.01
    assert abs(dropped.mean().item() - 1) < 0.01
    torch.manual_seed(0)
    assert torch.equal(dropout(ones), dropped)
    assert torch.equal(dropout.eval()(ones), ones)
    neighbours = torch.stack([dropped[i:100_000:8] == 0 for i in range(8)]).float()
    assert (torch.corrcoef(neighbours) - torch.eye(8)).abs().max() < 0.05  # of one draw


@pytest.mark.parametrize(("causal", "masked"), [(False, False), (False, True), (True, False)])
def test_attention(causal: bool, masked: bool) -> None:
    torch.manual_seed(0)
    given = [torch.randn(2, 3, 5, 8, requires_grad=True) for _ in range(3)]
    mask = (torch.arange(5) < 3).expand(2, 1, 1, 5) if masked else None

    def compute() -> list[Tensor]:
        seen = attend(*given, mask, causal=causal)
        return [seen, *torch.autograd.grad((seen * torch.arange(8)).sum(), given)]

    torch.testing.assert_close(*both("attention", compute))


def test_lstm_cell() -> None:
    torch.manual_seed(0)
    gates = torch.randn(5, 28, dtype=torch.float64, requires_grad=True)
    cell = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)

    def compute() -> tuple[Tensor, ...]:
        hidden, new = lstm_cell(gates, cell)
        loss = (hidden * torch.arange(7)).sum() + new.square().sum()
        return hidden, new, *torch.autograd.grad(loss, (gates, cell))

    torch.testing.assert_close(*both("lstm_cell", compute))


@pytest.mark.parametrize("bias", [True, False])
def test_deferred_weight_grads(bias: bool) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(4, 6, bias=bias)
    steps = [torch.randn(size, 4, requires_grad=True) for size in (3, 2, 2)]

    def compute() -> list[Tensor]:
        product, rest = unrolled(layer, 7)
        rows = rest.split([3, 2, 2])
        outputs = [product(x) + row for x, row in zip(steps, rows, strict=True)]
        loss = torch.cat(outputs).square().sum()
        return [*outputs, *torch.autograd.grad(loss, [*layer.parameters(), *steps])]

    torch.testing.assert_close(*both("deferred_weight_grads", compute))


@pytest.mark.parametrize("masked", [False, True])
def test_unrolled_attention(masked: bool) -> None:
    torch.manual_seed(0)
    attention = RegionAttention(feature_size=20, hidden_size=12, attention_size=8, dropout=0.0)
    queries = [torch.randn(size, 12, requires_grad=True) for size in (5, 3, 1)]
    given = features(3)
    if masked:
        mask = torch.arange(REGIONS) < torch.tensor([[REGIONS], [4], [5]])
        given = given._replace(mask=mask)
    trained = [*attention.parameters(), *queries]

    def compute() -> list[Tensor]:
        look = attention.over_steps(attention.look(given), torch.tensor([0, 0, 1, 2, 1]))
        seen = [part for query in queries for part in look(query)]
        weighted = [(part * torch.arange(part.shape[1])).square().sum() for part in seen]
        return [*seen, *torch.autograd.grad(torch.stack(weighted).sum(), trained)]

    torch.testing.assert_close(*both("unrolled_attention", compute), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("kind", "options"), CASES)
def test_a_decoders_loss_and_gradients(kind: str, options: dict, masked: bool) -> None:
    """All forms at once, in a step on captions of several lengths that share pictures."""
    inputs = tokens(5, 7)
    inputs[1, 5:] = inputs[3, 3:] = PAD
    targets = F.pad(inputs[:, 1:], (0, 1), value=PAD)
    given = features(3)._replace(picture_of=torch.tensor([0, 0, 1, 2, 1]))
    if masked:
        mask = torch.arange(REGIONS) < torch.tensor([[REGIONS], [4], [5]])
        given = given._replace(mask=mask)

    def compute() -> tuple[Tensor, dict[str, Tensor]]:
        decoder = make(kind, options).train()
        loss = cross_entropy(decoder, given, inputs, targets).objective
        loss.backward()
        return loss.detach(), {name: p.grad for name, p in decoder.named_parameters()}

    fast = compute()
    with fast_cpu.plain_forms():
        plain = compute()
    assert len(fast[1]) >= 7
    torch.testing.assert_close(fast, plain, atol=1e-6, rtol=1e-4)
