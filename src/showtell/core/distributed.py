"""Several processes that train one model: one for each GPU, or several on a processor's cores.

``torchrun`` starts them and numbers them in environment variables. In a single process nothing here
has any effect. All processes make the same calls in the same order, because a call that concerns
all processes waits for the others: some minutes within a step, and up to days while one process
works for all.

Gradients are summed after the backward pass. torch's ``DistributedDataParallel`` sums them during
it. On two busy cores that took as much processor time and could at best hide the sums, which were
12 % of a step. It would also have to search for unused parameters at each step, because a process
may have no caption of a batch, and need a process group separate from that of the batch norms' sums
(docs/training.md).
"""

import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from showtell.errors import ConfigError, ProcessError, SaidElsewhereError

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist

T = TypeVar("T")

# A process that is gone is noticed at once, and one that hangs after this time.
STEP_LIMIT = timedelta(minutes=10)  # for what all do alike, as a step of training
WAIT_LIMIT = timedelta(days=3)  # while one works for all: it encodes all pictures, or scores
LARGE = 2**16  # numbers in a gradient that is summed where it lies; smaller ones go together
ERRORS = "showtell/errors"  # counts, in the store that all processes share, those that failed


@dataclass(frozen=True)
class Processes:
    """Which process this is, and of how many.

    Attributes:
        rank: from 0; the first one writes and speaks.
        size: how many there are, on all machines.
        local_rank, local_size: the same on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @classmethod
    def from_environment(cls) -> "Processes":
        """As ``torchrun`` says; one process where there is none."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        if not all(os.environ.get(name, "").isdecimal() for name in names):
            return cls()
        return cls(*(int(os.environ[name]) for name in names))

    @property
    def is_first(self) -> bool:
        """Whether it is this one that writes and speaks."""
        return self.rank == 0

    @property
    def are_many(self) -> bool:
        """Whether there is another one."""
        return self.size > 1

    def device(self, asked: str) -> str:
        """The device of this process: of many, each has a GPU of its own.

        Raises:
            ConfigError: ``asked`` cannot be shared out, or there are too few.
        """
        if not self.are_many:
            return asked
        if asked not in ("auto", "cpu", "cuda"):
            raise ConfigError(
                f"device {asked!r} with {self.size} processes: expected auto, cpu or cuda"
            )
        import torch

        num = torch.cuda.device_count()
        if asked == "cpu" or (asked == "auto" and not num):
            return "cpu"
        if self.local_rank >= num:
            raise ConfigError(
                f"{self.local_size} processes on a machine with {num} GPUs: give torchrun "
                f"--nproc-per-node {max(num, 1)}, or showtell train --device cpu"
            )
        return f"cuda:{self.local_rank}"

    @contextmanager
    def joined(self, device: str) -> Iterator[None]:
        """Within it, all processes are connected.

        Args:
            device: as ``device`` gave it.

        Raises:
            ProcessError: another process is gone.
            SaidElsewhereError: in place of any error, where another process failed before.
        """
        global _for_long_waits
        if not self.are_many:
            yield
            return
        import torch
        import torch.distributed as dist
        from torch.distributed.rendezvous import rendezvous

        store, _, _ = next(rendezvous("env://"))
        try:
            backend = "gloo"
            if device.startswith("cuda"):
                torch.cuda.set_device(device)
                backend = "cpu:gloo,cuda:nccl"  # small numbers go by gloo, and no GPU waits
            with _heeding_others():
                # torch's compiler, which batch norms of several processes bring: imported after the
                # group's threads have begun it leaves a process that aborts at its end.
                importlib.import_module("torch._dynamo")
                dist.init_process_group(
                    backend, store=store, rank=self.rank, world_size=self.size, timeout=STEP_LIMIT
                )
                _for_long_waits = dist.new_group(backend="gloo", timeout=WAIT_LIMIT)
            yield
        except Exception as error:
            if store.add(ERRORS, 1) > 1:
                raise SaidElsewhereError("another process failed before") from error
            raise
        finally:
            _for_long_waits = None
        dist.destroy_process_group()

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """All go through it, the first alone; then the first of each other machine; then the rest.

        So what one makes and leaves on a disk the others find there, be it a shared one or not.
        """
        turn = 0 if self.is_first else 1 if self.local_rank == 0 else 2
        for _ in range(turn):
            self.gather(None)
        yield
        for _ in range(turn, 2):
            self.gather(None)

    def part(self, num: int) -> range:
        """This process's part of so many; some may get nothing."""
        return range(num * self.rank // self.size, num * (self.rank + 1) // self.size)

    def any(self, flag: bool) -> bool:
        """Whether any of all processes says yes."""
        return self.sums([float(flag)])[0] > 0

    def sums(self, values: Sequence[float]) -> list[float]:
        """The sums over all processes, in double precision."""
        if not self.are_many:
            return list(values)
        import torch

        totals = torch.tensor(values, dtype=torch.float64)
        self.sum_(totals)
        summed: list[float] = totals.tolist()
        return summed

    def sum_(self, tensor: "torch.Tensor") -> None:
        """Add up the tensors of all processes, in place; all get the same bits."""
        if not self.are_many:
            return
        import torch.distributed as dist

        with _heeding_others():
            dist.all_reduce(tensor)

    def sum_gradients(self, parameters: Sequence["torch.Tensor"]) -> None:
        """Add up the gradients of all processes; a missing one counts as zero.

        Large ones are summed where they lie, small ones in one tensor, all of them at a time.
        """
        if not self.are_many:
            return
        import torch

        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        import torch.distributed as dist

        gradients = [p.grad for p in parameters if p.grad is not None]
        is_large = [g.numel() >= LARGE and g.is_contiguous() for g in gradients]
        small = [g for g, large in zip(gradients, is_large, strict=True) if not large]
        flat = torch.cat([g.flatten() for g in small]) if small else None
        sums = [g for g, large in zip(gradients, is_large, strict=True) if large]
        sums += [flat] if flat is not None else []
        with _heeding_others():
            for work in [dist.all_reduce(tensor, async_op=True) for tensor in sums]:
                work.wait()
        if flat is not None:
            parts = torch.split(flat, [g.numel() for g in small])
            for gradient, part in zip(small, parts, strict=True):
                gradient.copy_(part.view_as(gradient))

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank; waits for whoever works longer."""
        if not self.are_many:
            return [value]
        import torch.distributed as dist

        found: list[T | None] = [None] * self.size
        with _heeding_others():
            dist.all_gather_object(found, value, group=_for_long_waits)
        return found  # type: ignore[return-value]

    def from_first(self, compute: Callable[[], T]) -> T:
        """What the first process computes, for all, however long it takes."""
        if not self.are_many:
            return compute()
        import torch.distributed as dist

        found = [compute() if self.is_first else None]
        with _heeding_others():
            dist.broadcast_object_list(found, src=0, group=_for_long_waits)
        return found[0]  # type: ignore[return-value]

    def agree(self, values: Mapping[str, object]) -> None:
        """Make sure that all have the same.

        Args:
            values: what has to be equal, by a name for people.

        Raises:
            ConfigError: naming what is not.
        """
        first, *others = self.gather(dict(values))
        for rank, other in enumerate(others, start=1):
            if different := [name for name in first if first[name] != other[name]]:
                raise ConfigError(
                    f"process {rank} and process 0 differ in {' and '.join(different)}: "
                    "start all with the same command, data, store, run folder and versions"
                )


ALONE = Processes()
_for_long_waits: "dist.ProcessGroup | None" = None  # joined makes it; None: as for a step


@contextmanager
def _heeding_others() -> Iterator[None]:
    """torch says in many ways that another process is gone; here it is one."""
    try:
        yield
    except RuntimeError as error:
        raise ProcessError(
            "another process of this run has ended or hangs; continue with --resume"
        ) from error
