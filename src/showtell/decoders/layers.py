"""Layers that several decoders share: dropout, batch norm, the embedding of features, word dropout.

The batch norm can norm a batch whose rows are spread over several processes. torch's
``SyncBatchNorm`` does that on GPUs only, and fails where a process has no rows.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from showtell.decoders import fast_cpu
from showtell.decoders.fast_cpu import layers as fast
from showtell.text.vocabulary import PAD, UNK

Sum = Callable[[Tensor], None]  # adds up a tensor over all processes, in place


class BatchNorm(nn.BatchNorm1d):
    """Batch norm (Ioffe and Szegedy 2015, arXiv 1502.03167) of (N, E) rows.

    A single row has no variance, so the running averages norm it.

    Attributes:
        sum_over_parts: adds up over processes, if other processes have rows of each batch too.
            Mean and variance are then of all rows. Every process must call the module, and go
            backward through it, as often as the others, with (0, E) if it has no rows.
        is_frozen: whether the running averages norm every batch, and stay as they are. A model
            that is trained on with few pictures keeps what it learnt of many.
    """

    sum_over_parts: Sum | None = None
    is_frozen: bool = False

    def forward(self, rows: Tensor) -> Tensor:
        """(N, E) -> (N, E)."""
        if self.training and self.is_frozen:
            return self.by_averages(rows)
        if self.training and self.sum_over_parts is not None:
            normed: Tensor = _uncompiled()(self, rows, self.sum_over_parts)
        elif self.training and len(rows) == 1:
            normed = self.by_averages(rows)
        else:
            normed = super().forward(rows)
        return normed

    def by_averages(self, rows: Tensor) -> Tensor:
        """(N, E) -> (N, E), normed by the running mean and variance."""
        return F.batch_norm(
            rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


@cache
def _uncompiled() -> Callable[[BatchNorm, Tensor, Sum], Tensor]:
    """``_of_all_parts``, which torch.compile does not trace.

    Made when it is first needed: importing torch's compiler takes seconds.
    """
    return torch.compiler.disable(_of_all_parts)  # type: ignore[no-any-return, no-untyped-call]


def _of_all_parts(norm: BatchNorm, rows: Tensor, sum_: Sum) -> Tensor:
    """Batch norm over the rows of all processes.

    The mean comes first, then the variance around it: rows far from zero would lose digits in a sum
    of their squares.
    """
    assert norm.running_mean is not None and norm.running_var is not None
    assert norm.num_batches_tracked is not None and norm.momentum is not None
    values = rows.float()
    own = torch.cat([values.sum(dim=0), values.new_full((1,), len(values))])
    sums: Tensor = _Sum.apply(own, sum_)  # type: ignore[no-untyped-call]
    count = sums[-1].detach()
    centred = values - sums[:-1] / count
    squares: Tensor = _Sum.apply(centred.square().sum(dim=0), sum_)  # type: ignore[no-untyped-call]
    variance = squares / count
    if count == 1:
        normed = norm.by_averages(values)
        # The backward pass makes the same sums in every process, so that none waits for ever.
        return (normed + 0 * (centred + variance)).to(rows.dtype)
    with torch.no_grad():
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(sums[:-1] / count, norm.momentum)
        norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)
    normed = centred * (variance + norm.eps).rsqrt() * norm.weight + norm.bias
    return normed.to(rows.dtype)


def share_batch_norms(model: nn.Module, sum_: Sum) -> None:
    """Make a model's batch norms norm the rows of all processes together."""
    for norm in _norms(model):
        norm.sum_over_parts = sum_


def freeze_batch_norms(model: nn.Module) -> None:
    """Make a model's batch norms keep their running averages, in training too."""
    for norm in _norms(model):
        norm.is_frozen = True


def no_rows(model: nn.Module) -> Tensor:
    """Take part in each batch norm of a step, for a process that has no rows of the batch.

    Returns:
        The scalar 0, to call ``backward`` on, also where ``model`` has no batch norm.
    """
    trained = next(p for p in model.parameters() if p.requires_grad)
    total = 0 * trained.flatten()[:1].sum()
    for norm in _norms(model):
        nothing = norm.weight.new_zeros((0, norm.num_features), requires_grad=True)
        total = total + norm(nothing).sum()
    return total


def _norms(model: nn.Module) -> list[BatchNorm]:
    return [module for module in model.modules() if isinstance(module, BatchNorm)]


class _Sum(Function):
    """The sum over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, sum_: Sum) -> Tensor:
        """A tensor of any shape, the same in every process."""
        ctx.sum_ = sum_
        total = tensor.clone()
        sum_(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """The gradient of the sum of all processes' objectives."""
        total = gradient.clone()
        ctx.sum_(total)
        return total, None


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014, section 4), in training alone.

    On a processor the share is rounded to a multiple of 1/256 (see ``fast_cpu/layers.py``).

    Args:
        p: share of elements that become zero, 0 <= p < 1.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: Tensor) -> Tensor:
        """Values of any shape."""
        if not self.training or self.p == 0:
            return values
        if fast_cpu.takes("dropout", values.device):
            return fast.dropout(values, self.p)
        return F.dropout(values, self.p)

    def extra_repr(self) -> str:
        """As torch shows its own."""
        return f"p={self.p}"


class FeatureEmbedding(nn.Module):
    """Features (..., D) to (..., E), on one scale in every dimension.

    What the features of all pictures share is much larger than what distinguishes them. A batch
    norm removes the shared part, and a decoder then learns to use the picture several times sooner.

    Args:
        feature_size: D.
        embed_size: E.
        dropout: on the features, before the linear layer.
        norm: whether a batch norm comes after the linear layer.
    """

    def __init__(
        self, *, feature_size: int, embed_size: int, dropout: float = 0.0, norm: bool = True
    ) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(feature_size, embed_size)
        self.norm: nn.Module = BatchNorm(embed_size) if norm else nn.Identity()

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """(..., D) -> (..., E); zero where a mask (...) is False, and not in the statistics."""
        embedded: Tensor = self.linear(self.dropout(features))
        if mask is None or not self.training:
            normed: Tensor = self.norm(embedded.flatten(0, -2)).view_as(embedded)
            return normed if mask is None else normed.masked_fill(~mask[..., None], 0)
        real = self.norm(embedded[mask])
        return embedded.new_zeros(embedded.shape, dtype=real.dtype).masked_scatter(
            mask[..., None], real
        )


def drop_words(tokens: Tensor, share: float) -> Tensor:
    """Replace a random share of the words by ``<unk>``.

    The decoder then has to use the picture more than the earlier words (Bowman et al. 2016, arXiv
    1511.06349, section 3.1). What a caption begins with, ``<start>`` or a style, and padding stay.

    Args:
        tokens: (B, T) ids of captions from their beginning.
        share: 0 to 1.
    """
    if share == 0:
        return tokens
    drop = torch.rand(tokens.shape, device=tokens.device) < share
    drop[:, 0] = False
    return tokens.masked_fill(drop & (tokens != PAD), UNK)
