"""The interface of training objectives, which is all that the loop uses of them.

An objective defines an epoch, cuts it into batches and turns a batch into a loss.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from showtell.core.distributed import Processes
from showtell.decoders.base import Decoder
from showtell.decoders.layers import no_rows

Batch = NDArray[np.int64]


@dataclass(frozen=True)
class Loss:
    """The loss of one batch.

    Attributes:
        objective: scalar, what is minimised.
        num_tokens: how many tokens it is of.
        figures: what is logged of it, by name: means over the tokens; scalars, detached.
        over: of how many a figure is the mean, where that is not the tokens.
        seconds: time spent on parts of it that are worth watching, by name.
    """

    objective: Tensor
    num_tokens: int
    figures: Mapping[str, float | Tensor]
    over: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


class Objective(Protocol):
    """Batches and their losses.

    Attributes:
        unit: what an epoch is made of, "captions" or "pictures".
        num_items: how many of them; each comes once an epoch.
        figures: those of its losses, by name.
        shown: the figures that the log line has, in order; with ``loss`` there is ``perplexity``.
    """

    @property
    def unit(self) -> str: ...
    @property
    def num_items(self) -> int: ...
    @property
    def figures(self) -> tuple[str, ...]: ...
    @property
    def shown(self) -> tuple[str, ...]: ...

    def batches(self, epoch: int) -> list[Batch]:
        """The batches of an epoch, which counts from 1; they follow from the seed and it."""

    def part(self, batch: Batch, processes: Processes) -> Batch:
        """This process's part of a batch, as places in it; perhaps none."""

    def expect(self, batches: Sequence[Batch], step: int) -> None:
        """Steps ``step``, ``step`` + 1, ... will be of these batches; so it may read ahead."""

    def close(self) -> None:
        """Let go of what it reads with."""

    def __call__(
        self, decoder: Decoder, batch: Batch, part: Batch, *, epoch: int, step: int
    ) -> Loss:
        """The loss of a decoder in training mode on a part of a batch; ``nothing`` of an empty one.

        Args:
            epoch: from 1.
            step: from 0, over all epochs; random numbers follow from it, or from torch's generator.
        """


def nothing(decoder: Decoder) -> Loss:
    """Of a part without captions: it takes part in what the others norm together."""
    return Loss(no_rows(decoder), 0, {})


@contextmanager
def in_eval_mode(decoder: Decoder) -> Iterator[None]:
    """Within it the decoder is as it is measured: no dropout, batch norm by its averages."""
    decoder.eval()
    try:
        yield
    finally:
        decoder.train()
