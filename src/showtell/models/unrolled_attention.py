"""``RegionAttention`` over the steps of a recurrence, with the gradients that all steps share.

The same numbers as the module gives step by step. Left to autograd, each step makes gradients as
large as all regions and keys and adds them to the sum; here the regions' gradient is one product
over the steps, the keys' is summed in place, and the weights' are products over all steps.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F


class UnrolledAttention:
    """Looks at regions at each step of a recurrence over B captions.

    Call it with the queries (n, H) of the first n captions, n never more than before; it returns
    the context (n, C) and the weights (n, R) in fp32.

    Args:
        keys, regions: (P, R, A) and (P, R, C).
        mask: (P, R) True where a region is real; None where all are.
        query_weight, score_weight: (A, H) and (1, A).
        pictures: (B,) of each caption.
    """

    def __init__(
        self,
        keys: Tensor,
        regions: Tensor,
        mask: Tensor | None,
        query_weight: Tensor,
        score_weight: Tensor,
        pictures: Tensor,
    ) -> None:
        self.pictures, self.num_pictures = pictures, len(keys)
        self.keys = keys.detach().index_select(0, pictures)
        self.regions = regions.detach().index_select(0, pictures)
        self.mask = None if mask is None else mask.index_select(0, pictures)
        self.query_weight = query_weight.detach().to(keys.dtype)
        self.score_weight = score_weight.detach().to(keys.dtype)[0]
        self.steps: list[tuple[Tensor, ...]] = []  # what backward leaves, the last step first
        self.keys_gradient: Tensor | None = None
        self.score_gradient = score_weight.new_zeros(len(self.score_weight), dtype=torch.float32)
        self.root: Tensor = _Root.apply(self, keys, regions, query_weight, score_weight)  # type: ignore[no-untyped-call]

    def __call__(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """(n, H) -> (n, C), (n, R)."""
        context, weights = _Look.apply(self, query.to(self.keys.dtype), self.root)  # type: ignore[no-untyped-call]
        return context, weights


class _Root(Function):
    """Stands for all that the steps share; its backward runs after theirs."""

    @staticmethod
    def forward(ctx: Any, attention: UnrolledAttention, keys: Tensor, *_: Tensor) -> Tensor:
        """-> a scalar that every step depends on."""
        ctx.attention = attention
        return keys.new_zeros((), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor | None, ...]:
        """Of keys, regions, the query's and the score's weight."""
        attention: UnrolledAttention = ctx.attention
        queries, query_gradients, weights, context_gradients = zip(*attention.steps, strict=True)
        attention.steps = []
        query_weight = torch.cat(query_gradients).T @ torch.cat(queries)
        regions = torch.bmm(
            _stack(weights).transpose(1, 2).to(attention.regions.dtype), _stack(context_gradients)
        )
        assert attention.keys_gradient is not None
        return (
            None,
            _by_picture(attention.keys_gradient, attention),
            _by_picture(regions, attention),
            query_weight,
            attention.score_gradient[None],
        )


class _Look(Function):
    """One step."""

    @staticmethod
    def forward(
        ctx: Any, attention: UnrolledAttention, query: Tensor, root: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(n, H) -> (n, C), (n, R)."""
        size = len(query)
        asked = F.linear(query, attention.query_weight)
        met = (attention.keys[:size] + asked[:, None]).sigmoid_()
        scores = (met @ attention.score_weight).float()
        if attention.mask is not None:
            scores = scores.masked_fill(~attention.mask[:size], float("-inf"))
        weights = scores.softmax(dim=-1)
        context = torch.bmm(weights[:, None].to(met.dtype), attention.regions[:size])[:, 0]
        ctx.attention = attention
        ctx.save_for_backward(query, met, weights)
        return context, weights

    @staticmethod
    def backward(
        ctx: Any, context_gradient: Tensor, weights_gradient: Tensor
    ) -> tuple[None, Tensor, Tensor]:
        """Of the query; the rest is left with ``attention``."""
        attention: UnrolledAttention = ctx.attention
        query, met, weights = ctx.saved_tensors
        size = len(query)
        seen = torch.bmm(attention.regions[:size], context_gradient[:, :, None])[:, :, 0]
        seen = seen.float() + weights_gradient
        score = (weights * (seen - (weights * seen).sum(dim=1, keepdim=True))).to(met.dtype)
        attention.score_gradient += met.flatten(0, 1).T @ score.flatten()
        # sigmoid' = s (1 - s)
        met_gradient = torch.addcmul(met, met, met, value=-1)
        met_gradient.mul_(score[:, :, None] * attention.score_weight)
        if attention.keys_gradient is None:
            attention.keys_gradient = torch.zeros_like(attention.keys)
        attention.keys_gradient[:size] += met_gradient
        asked_gradient = met_gradient.sum(dim=1)
        attention.steps.append((query, asked_gradient, weights, context_gradient))
        root_gradient = weights.new_zeros(())
        return None, asked_gradient @ attention.query_weight, root_gradient


def _stack(steps: tuple[Tensor, ...]) -> Tensor:
    """T tensors (n, ...), the last the longest -> (B, T, ...), zero where there is none."""
    stacked = steps[-1].new_zeros(len(steps[-1]), len(steps), *steps[-1].shape[1:])
    for position, step in enumerate(steps):
        stacked[: len(step), position] = step
    return stacked


def _by_picture(values: Tensor, attention: UnrolledAttention) -> Tensor:
    """(B, ...) of the captions -> (P, ...), summed."""
    summed = values.new_zeros(attention.num_pictures, *values.shape[1:])
    return summed.index_add_(0, attention.pictures, values)
