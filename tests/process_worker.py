"""What each process of a test does; a module of its own, which new processes can import."""

from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch import nn

from showtell.core.distributed import Processes
from showtell.decoders.layers import BatchNorm, no_rows, share_batch_norms
from showtell.errors import ConfigError


def check_together(rank: int, size: int, port: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=120),
    )
    processes = Processes(rank, size, rank, size)
    assert processes.any(rank == 2) and not processes.any(False)
    assert processes.sums([rank, 1.0]) == [3.0, 3.0]
    assert processes.gather({"rank": rank}) == [{"rank": 0}, {"rank": 1}, {"rank": 2}]
    assert processes.from_first(lambda: f"from {rank}") == "from 0"
    processes.agree({"size": size})
    with pytest.raises(ConfigError, match="process 2 and process 0 differ in size"):
        processes.agree({"size": size + (rank == 2), "port": port})
    parameters = [nn.Parameter(torch.zeros(n)) for n in (3, 2**23, 1, 5)]
    for parameter in parameters[rank:]:
        parameter.grad = torch.full_like(parameter, 1.0 + rank)
    processes.sum_gradients(parameters)
    assert [float(p.grad.min()) for p in parameters] == [1, 3, 6, 6]
    assert [float(p.grad.max()) for p in parameters] == [1, 3, 6, 6]
    for num in (7, 2, 1):
        _check_norm(processes, num)
    dist.destroy_process_group()


def _check_norm(processes: Processes, num: int) -> None:
    """A batch norm of ``num`` rows that are shared out, against torch's of all of them."""
    torch.manual_seed(num)
    rows, weights = torch.randn(num, 4) + 10, torch.randn(num, 4)
    own, part = BatchNorm(4), list(processes.part(num))
    share_batch_norms(own, processes.sum_)
    mine = rows[part].requires_grad_()
    loss = (own(mine).square() * weights[part]).sum() if part else no_rows(own)
    loss.backward()
    gradients = [own.weight.grad, own.bias.grad]
    for gradient in gradients:
        processes.sum_(gradient)
    whole, expected = BatchNorm(4), rows.clone().requires_grad_()
    (whole(expected).square() * weights).sum().backward()
    close = {"rtol": 1e-4, "atol": 1e-4}
    if part:
        torch.testing.assert_close(mine.grad, expected.grad[part], **close)
    torch.testing.assert_close(gradients, [whole.weight.grad, whole.bias.grad], **close)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(own.state_dict()[name], value, rtol=1e-5, atol=1e-6)
