"""What each process of a test does; a module of its own, which new processes can import."""

from datetime import timedelta

import numpy as np
import pytest
import torch
import torch.distributed as dist
from decoder_cases import CASES, features, make
from torch import Tensor, nn

from showtell.config import Config
from showtell.core.device import choose_runtime
from showtell.core.distributed import ALONE, Processes
from showtell.decoders.base import Decoder
from showtell.decoders.layers import BatchNorm, no_rows, share_batch_norms
from showtell.encoders.features import Features
from showtell.errors import ConfigError
from showtell.training.corpus import Corpus
from showtell.training.objectives.beside import WithLessons
from showtell.training.objectives.cross_entropy import CrossEntropy
from showtell.training.objectives.losses import cross_entropy
from showtell.training.step import together


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
    _check_lesson(processes)
    _check_without_norm(processes)
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


class _Load:
    """Six pictures, by caption."""

    def part_of_captions(self, rows: np.ndarray, processes: Processes) -> np.ndarray:
        return np.array(processes.part(len(rows)), np.int64)

    def of_captions(self, rows: np.ndarray, step: int, part: np.ndarray) -> Features:
        return Features(features(6).pooled[rows[part]])


class _Lesson:
    figure, is_shown, weight = "old_kl", True, 0.5

    def __call__(self, decoder: Decoder, step: int) -> tuple[Tensor, Tensor]:
        ids = torch.tensor([[1, 5, 6], [1, 9, 4], [1, 7, 7]])
        loss = cross_entropy(decoder, Features(features(3, 1).pooled), ids, ids.roll(-1, 1))
        return loss.objective, loss.nll


def _check_lesson(processes: Processes) -> None:
    """Two captions among three processes, one of which has only the lesson beside them."""
    _check_two_captions(processes, *CASES[0], lessons=[_Lesson()])


def _check_without_norm(processes: Processes) -> None:
    """The same with nothing beside them, for a decoder without a batch norm."""
    kind, options = CASES[0]
    _check_two_captions(processes, kind, {**options, "image_norm": False}, lessons=[])


def _check_two_captions(
    processes: Processes, kind: str, options: dict, *, lessons: list[_Lesson]
) -> None:
    """The gradients of three processes, one of which has no caption, against those of one."""
    lengths = np.array([0, 3, 7])
    corpus = Corpus(np.arange(4, 11, dtype=np.int32), lengths, np.array([0, 4]))
    found = []
    for these in (ALONE, processes):
        decoder = make(kind, options).train()
        if these.are_many:
            share_batch_norms(decoder, these.sum_)
        inner = CrossEntropy(
            corpus=corpus,
            load=_Load(),
            runtime=choose_runtime("cpu", "fp32"),
            config=Config(),
            by_picture=False,
        )
        objective = WithLessons(inner, lessons)
        batch = np.arange(2)
        loss = objective(decoder, batch, objective.part(batch, these), epoch=1, step=0)
        loss, value = together(loss, objective.figures, these)
        loss.objective.backward()
        parameters = list(decoder.parameters())
        these.sum_gradients(parameters)
        figures = [float(loss.figures[name]) for name in objective.figures]
        found.append([torch.tensor([value, *figures]), *(p.grad for p in parameters)])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
