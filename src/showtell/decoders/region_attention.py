"""Soft attention over the regions of a picture, for the recurrent decoders.

Bahdanau et al. 2015 (arXiv 1409.0473), appendix A.1.2, as Xu et al. 2015 (arXiv 1502.03044,
section 3.1.2, equations 4-5) and Anderson et al. 2018 (arXiv 1707.07998, section 3.2.1,
equations 3-5) have it. What follows from the picture alone is computed once a picture.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from showtell.decoders.base import State
from showtell.decoders.fast_cpu.unrolled_attention import UnrolledAttention
from showtell.decoders.layers import Dropout, FeatureEmbedding
from showtell.decoders.recurrence import puts_off_gradients
from showtell.encoders.features import Features

Look = Callable[[Tensor], tuple[Tensor, Tensor]]


class RegionAttention(nn.Module):
    """Looks at regions: v_i = relu(norm(W f_i + b)), scored by w^T tanh(W_v v_i + W_q q).

    The norm is a batch norm, see ``FeatureEmbedding``.

    The tanh is written as a sigmoid, tanh(x) = 2 sigmoid(2 x) - 1: the factors are the
    weights' to learn, and the constant drops out of the softmax. On a processor it takes a third
    of the time, and it is the part that grows with captions, words, regions and width.

    Args:
        feature_size: D', width of a region f_i as the encoder gives it.
        region_size: width of v_i.
        query_size: width of the query q.
        attention_size: A, width in which regions and query meet.
        dropout: on v_i.
        feature_dropout: on f_i.
    """

    # Entries of the state that follow from the picture alone.
    entries = frozenset({"regions", "keys", "mask"})

    def __init__(
        self,
        *,
        feature_size: int,
        region_size: int,
        query_size: int,
        attention_size: int,
        dropout: float,
        feature_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.project = FeatureEmbedding(
            feature_size=feature_size, embed_size=region_size, dropout=feature_dropout
        )
        self.key = nn.Linear(region_size, attention_size)
        self.query = nn.Linear(query_size, attention_size, bias=False)
        self.score = nn.Linear(attention_size, 1, bias=False)
        self.dropout = Dropout(dropout)

    def look(self, features: Features) -> State:
        """What is attended to: regions (P, R, region_size), keys (P, R, A), and any mask (P, R)."""
        assert features.regions is not None, "this decoder needs grid features"
        regions = self.dropout(self.project(features.regions, features.mask).relu())
        memory = {"regions": regions, "keys": self.key(regions)}
        if features.mask is not None:
            memory["mask"] = features.mask
        return memory

    def forward(self, query: Tensor, memory: State) -> tuple[Tensor, Tensor]:
        """Look once.

        Args:
            query: (B, query_size).
            memory: from ``look``, for P pictures, B a multiple of P.

        Returns:
            The regions' weighted mean (B, region_size), and the weights (B, R) in fp32.
        """
        keys, regions = memory["keys"], memory["regions"]
        num_pictures, _, size = keys.shape
        # K rows of one picture read its keys and regions together.
        queries = self.query(query).view(num_pictures, len(query) // num_pictures, 1, size)
        scores = self.score(torch.sigmoid(keys[:, None] + queries)).squeeze(-1)
        if "mask" in memory:
            scores = scores.masked_fill(~memory["mask"][:, None], float("-inf"))
        weights = scores.float().softmax(dim=-1)
        mean = torch.bmm(weights.to(regions.dtype), regions)
        return mean.flatten(0, 1), weights.flatten(0, 1)

    def over_steps(self, memory: State, pictures: Tensor) -> Look:
        """``forward`` for every step of a recurrence over captions.

        Args:
            memory: from ``look``.
            pictures: (B,) of the captions.

        Returns:
            What is to be called with the queries (n, query_size) of the first n captions.
        """
        keys, regions, mask = memory["keys"], memory["regions"], memory.get("mask")
        if puts_off_gradients():
            return UnrolledAttention(
                keys, regions, mask, self.query.weight, self.score.weight, pictures
            )
        rows = {name: part.index_select(0, pictures) for name, part in memory.items()}
        return lambda query: self(query, {name: part[: len(query)] for name, part in rows.items()})

    @staticmethod
    def mean(memory: State) -> Tensor:
        """The mean of a picture's regions, (P, region_size)."""
        if "mask" not in memory:
            return memory["regions"].mean(dim=1)
        real = memory["mask"][:, :, None].to(memory["regions"].dtype)
        return (memory["regions"] * real).sum(dim=1) / real.sum(dim=1)
