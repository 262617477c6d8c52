"""``RegionAttention`` over the steps of a recurrence, with the gradients that all steps share.

It gives the same numbers as the module does step by step. With autograd, each step makes gradients
as large as all regions and keys, and adds them up. Here the regions' gradient is one product over
the steps, the keys' gradient is summed in place, and the weights' gradients are products over all
steps. The captions of a picture read its regions together, once a step.

Without it a training step of up_down takes 1.24 times as long (benchmarks/up_down.py, one thread,
bf16, 150 captions of 81 regions; rounds 1.16 to 1.30).
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F


class UnrolledAttention:
    """Attention to regions at each step of a recurrence over B captions.

    Call it with the queries (n, H) of the first n captions, where n never grows. It returns the
    context (n, C) and the weights (n, R) in fp32.

    Args:
        keys, regions: (P, R, A) and (P, R, C).
        mask: (P, R) True where a region is real; None if all are.
        query_weight, score_weight: (A, H) and (1, A).
        pictures: (B,) the picture of each caption.
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
        # The graph's nodes hold what is shared. If that held the root as well, they would hold each
        # other, and a step's memory would be free only when the garbage collector comes by.
        self.shared = _Shared(
            groups=Groups(pictures, len(keys)),
            keys=keys.detach().index_select(0, pictures),
            regions=regions.detach(),
            mask=None if mask is None else mask.index_select(0, pictures),
            query_weight=query_weight.detach().to(keys.dtype),
            score_weight=score_weight.detach().to(keys.dtype),
            score_gradient=torch.zeros_like(score_weight, dtype=torch.float32),
        )
        self.root: Tensor = _Root.apply(self.shared, keys, regions, query_weight, score_weight)  # type: ignore[no-untyped-call]

    def __call__(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """(n, H) -> (n, C), (n, R)."""
        query = query.to(self.shared.keys.dtype)
        context, weights = _Look.apply(self.shared, query, self.root)  # type: ignore[no-untyped-call]
        return context, weights


@dataclass
class _Shared:
    """What all steps read, and what their backward passes add up.

    Attributes:
        keys: (B, R, A), of each caption.
        regions: (P, R, C).
        mask: (B, R), or None.
        query_weight, score_weight: in the keys' type.
        score_gradient: (1, A) in fp32.
        keys_gradient: (B, R, A), without the factor of the score's weight; None before the first.
        steps: what each step's backward pass leaves for the root's.
    """

    groups: "Groups"
    keys: Tensor
    regions: Tensor
    mask: Tensor | None
    query_weight: Tensor
    score_weight: Tensor
    score_gradient: Tensor
    keys_gradient: Tensor | None = None
    steps: list[tuple[Tensor, ...]] = field(default_factory=list)


class Groups:
    """Rows of captions grouped by picture: (P, K, ...), where K is the most captions of a picture.

    Args:
        pictures: (B,) the picture of each caption.
        num_pictures: P.
    """

    def __init__(self, pictures: Tensor, num_pictures: int) -> None:
        counts = torch.bincount(pictures, minlength=num_pictures)
        order = pictures.argsort(stable=True)
        rank = torch.empty_like(order)
        first = counts.cumsum(0) - counts
        rank[order] = torch.arange(len(order), device=order.device) - first[pictures[order]]
        self.shape = (num_pictures, int(counts.max()))
        self.places = pictures * self.shape[1] + rank

    def gather(self, rows: Tensor) -> Tensor:
        """(n, ...) of the first n captions -> (P, K, ...), zero where there is no caption."""
        placed = rows.new_zeros(self.shape[0] * self.shape[1], *rows.shape[1:])
        placed.index_copy_(0, self.places[: len(rows)], rows)
        return placed.view(*self.shape, *rows.shape[1:])

    def scatter(self, groups: Tensor, num_rows: int) -> Tensor:
        """(P, K, ...) -> (n, ...) of the first n captions."""
        return groups.flatten(0, 1).index_select(0, self.places[:num_rows])


class _Root(Function):
    """A node before all steps, so that its backward pass runs after theirs."""

    @staticmethod
    def forward(ctx: Any, attention: _Shared, keys: Tensor, *_: Tensor) -> Tensor:
        """Return a scalar that every step depends on."""
        ctx.attention = attention
        return keys.new_zeros((), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of keys, regions, the query's weight and the score's weight."""
        attention: _Shared = ctx.attention
        queries, query_gradients, weights, context_gradients = zip(*attention.steps, strict=True)
        attention.steps = []
        query_weight = torch.cat(query_gradients).T @ torch.cat(queries)
        # (P, T K, ...): a picture's captions at each of the steps.
        weights_by_picture = torch.cat([attention.groups.gather(part) for part in weights], dim=1)
        gradients = torch.cat([attention.groups.gather(part) for part in context_gradients], dim=1)
        regions = torch.bmm(weights_by_picture.transpose(1, 2), gradients)
        assert attention.keys_gradient is not None
        by_picture = attention.groups.gather(attention.keys_gradient).sum(dim=1)
        return (
            None,
            by_picture * attention.score_weight,
            regions,
            query_weight,
            attention.score_gradient,
        )


class _Look(Function):
    """One step of attention."""

    @staticmethod
    def forward(ctx: Any, attention: _Shared, query: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
        """(n, H) -> (n, C), (n, R)."""
        size = len(query)
        asked = F.linear(query, attention.query_weight)
        met = (attention.keys[:size] + asked[:, None]).sigmoid_()
        scores = (met @ attention.score_weight.T)[..., 0].float()
        if attention.mask is not None:
            scores = scores.masked_fill(~attention.mask[:size], float("-inf"))
        weights = scores.softmax(dim=-1)
        rounded = weights.to(met.dtype)
        groups = attention.groups
        contexts = torch.bmm(groups.gather(rounded), attention.regions)
        ctx.attention = attention
        ctx.save_for_backward(query, met, weights, rounded)
        return groups.scatter(contexts, size), weights

    @staticmethod
    def backward(
        ctx: Any, context_gradient: Tensor, weights_gradient: Tensor
    ) -> tuple[None, Tensor, Tensor]:
        """The query's gradient; what the others need is left in ``attention``."""
        attention: _Shared = ctx.attention
        query, met, weights, rounded = ctx.saved_tensors
        size, groups = len(query), attention.groups
        by_picture = torch.bmm(groups.gather(context_gradient), attention.regions.transpose(1, 2))
        seen = groups.scatter(by_picture, size).float() + weights_gradient
        score = (weights * (seen - (weights * seen).sum(dim=1, keepdim=True))).to(met.dtype)
        attention.score_gradient += torch.bmm(score[:, None], met).sum(dim=0)
        # sigmoid' = s (1 - s); the factor of the score's weight is applied to the sums.
        slope = torch.addcmul(met, met, met, value=-1)
        if attention.keys_gradient is None:
            attention.keys_gradient = torch.zeros_like(attention.keys)
        attention.keys_gradient[:size].addcmul_(slope, score[:, :, None])
        asked_gradient = torch.bmm(score[:, None], slope)[:, 0] * attention.score_weight
        attention.steps.append((query, asked_gradient, rounded, context_gradient))
        root_gradient = weights.new_zeros(())
        return None, asked_gradient @ attention.query_weight, root_gradient
