"""The layers of ``transformer.py``: pre-norm blocks around scaled dot-product attention.

Knows nothing of words and pictures but their vectors.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from showtell.models.dropout import Dropout


class Present(NamedTuple):
    """What a layer over the words leaves behind.

    Attributes:
        keys, values: (B, heads, t, H / heads) of the words so far.
        query: (B, heads, T, H / heads) what was asked of the regions.
        region_keys: (P, heads, R, H / heads) what it was compared with.
        mask: (P, R).
    """

    keys: Tensor
    values: Tensor
    query: Tensor
    region_keys: Tensor
    mask: Tensor | None

    def attention(self) -> Tensor:
        """(B, R) how the last word weighed the regions, the mean over the heads, in fp32."""
        query = by_picture(self.query[:, :, -1:], len(self.region_keys))
        scores = (query @ self.region_keys.transpose(-1, -2)).float() / math.sqrt(query.shape[-1])
        if self.mask is not None:
            scores = scores.masked_fill(~self.mask[:, None, None], float("-inf"))
        return scores.softmax(dim=-1).mean(dim=1).flatten(0, 1)


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2)."""

    def __init__(self, size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(size, size)
        self.memory = nn.Linear(size, 2 * size)
        self.out = nn.Linear(size, size)

    def project_query(self, inputs: Tensor) -> Tensor:
        """(B, T, H) -> (B, heads, T, H / heads)."""
        return self._split(self.query(inputs))

    def project_memory(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(B, R, H) -> keys and values, each (B, heads, R, H / heads)."""
        keys, values = self.memory(inputs).chunk(2, dim=-1)
        return self._split(keys), self._split(values)

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None = None,
        *,
        causal: bool = False,
    ) -> Tensor:
        """(B, heads, T, d) over (P, heads, R, d), B a multiple of P -> (B, T, H)."""
        num_rows, _, num_steps, _ = query.shape
        # K rows of one picture ask of its regions together.
        rows = None if mask is None else mask[:, None, None]
        seen = attend(by_picture(query, len(keys)), keys, values, rows, causal=causal)
        merged = seen.transpose(1, 2).reshape(num_rows, num_steps, -1)
        out: Tensor = self.out(merged)
        return out

    def _split(self, values: Tensor) -> Tensor:
        return values.view(*values.shape[:2], self.num_heads, -1).transpose(1, 2)


class FeedForward(nn.Sequential):
    """Two layers, position by position (section 3.3)."""

    def __init__(self, size: int, inner_size: int) -> None:
        super().__init__(nn.Linear(size, inner_size), nn.ReLU(), nn.Linear(inner_size, size))


class EncoderBlock(nn.Module):
    """Regions look at each other."""

    def __init__(self, size: int, num_heads: int, inner_size: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(2))
        self.attention = Attention(size, num_heads)
        self.feedforward = FeedForward(size, inner_size)
        self.dropout = Dropout(dropout)

    def forward(self, regions: Tensor, mask: Tensor | None) -> Tensor:
        """(P, R, H) -> (P, R, H)."""
        normed = self.norms[0](regions)
        memory = self.attention.project_memory(normed)
        seen = self.attention(self.attention.project_query(normed), *memory, mask)
        regions = regions + self.dropout(seen)
        added: Tensor = self.dropout(self.feedforward(self.norms[1](regions)))
        return regions + added


class DecoderBlock(nn.Module):
    """Words look at the words before them, then at the regions."""

    def __init__(self, size: int, num_heads: int, inner_size: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(3))
        self.self_attention = Attention(size, num_heads)
        self.cross_attention = Attention(size, num_heads)
        self.feedforward = FeedForward(size, inner_size)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        words: Tensor,
        region_keys: Tensor,
        region_values: Tensor,
        mask: Tensor | None,
        *,
        past: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Present]:
        """A layer over the words.

        Args:
            words: (B, T, H); T is 1 where there is a past.
            region_keys, region_values: (P, heads, R, H / heads).
            mask: (P, R).
            past: keys and values (B, heads, t, H / heads) of the words before.

        Returns:
            (B, T, H), and what the next word needs of these.
        """
        normed = self.norms[0](words)
        keys, values = self.self_attention.project_memory(normed)
        if past is not None:
            keys, values = torch.cat([past[0], keys], dim=2), torch.cat([past[1], values], dim=2)
        query = self.self_attention.project_query(normed)
        seen = self.self_attention(query, keys, values, causal=past is None)
        words = words + self.dropout(seen)
        query = self.cross_attention.project_query(self.norms[1](words))
        seen = self.cross_attention(query, region_keys, region_values, mask)
        words = words + self.dropout(seen)
        words = words + self.dropout(self.feedforward(self.norms[2](words)))
        return words, Present(keys, values, query, region_keys, mask)


def by_picture(query: Tensor, num_pictures: int) -> Tensor:
    """(P K, heads, T, d), K rows a picture -> (P, heads, K T, d)."""
    num_rows, num_heads, num_steps, size = query.shape
    if num_rows == num_pictures:
        return query
    grouped = query.view(num_pictures, -1, num_heads, num_steps, size)
    return grouped.transpose(1, 2).reshape(num_pictures, num_heads, -1, size)


def attend(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, *, causal: bool
) -> Tensor:
    """Scaled dot-product attention (section 3.2.1, equation 1).

    Training on a processor it is written out: there the gradient of torch's fused attention takes
    three times (16 words over 81 regions) to seven times (over 16 words) as long as the products.

    Args:
        query: (B, heads, T, d).
        keys, values: (B, heads, R, d).
        mask: (B, 1, 1, R) True where there is something to see.
        causal: whether a word sees those before it and itself alone; then R = T.
    """
    if query.device.type != "cpu" or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(query, keys, values, mask, is_causal=causal)
    scores = (query / math.sqrt(query.shape[-1])) @ keys.transpose(-1, -2)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(dim=-1).to(values.dtype) @ values
