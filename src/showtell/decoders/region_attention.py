"""Soft attention over the regions of a picture, and what the recurrent decoders with it share.

Bahdanau et al. 2015 (arXiv 1409.0473), appendix A.1.2, as used by Xu et al. 2015 (arXiv 1502.03044,
section 3.1.2, equations 4-5) and by Anderson et al. 2018 (arXiv 1707.07998, section 3.2.1,
equations 3-5). What depends on the picture alone is computed once for each picture.
"""

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from showtell.decoders import fast_cpu
from showtell.decoders.base import Decoder, State
from showtell.decoders.fast_cpu.unrolled_attention import UnrolledAttention
from showtell.decoders.layers import Dropout, FeatureEmbedding
from showtell.encoders.features import Features
from showtell.text.vocabulary import PAD

Look = Callable[[Tensor], tuple[Tensor, Tensor]]


class RegionAttention(nn.Module):
    """Attention to regions: v_i = relu(norm(W f_i + b)), scored by w^T tanh(W_v v_i + W_q q).

    The norm is a batch norm, see ``FeatureEmbedding``.

    The tanh is computed as a sigmoid: tanh(x) = 2 sigmoid(2 x) - 1. The weights learn the factors,
    and the constant cancels in the softmax, so the model is the papers'; on a processor a sigmoid
    takes a third of the time of torch's tanh.

    Args:
        feature_size: D', width of a region f_i as the encoder gives it.
        hidden_size: H, width of v_i and of the query q.
        attention_size: A, width in which regions and query are compared.
        dropout: on v_i.
        feature_dropout: on f_i.
    """

    # Entries of the state that depend on the picture alone.
    entries = frozenset({"regions", "keys", "mask"})

    def __init__(
        self,
        *,
        feature_size: int,
        hidden_size: int,
        attention_size: int,
        dropout: float,
        feature_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.project = FeatureEmbedding(
            feature_size=feature_size, embed_size=hidden_size, dropout=feature_dropout
        )
        self.key = nn.Linear(hidden_size, attention_size)
        self.query = nn.Linear(hidden_size, attention_size, bias=False)
        self.score = nn.Linear(attention_size, 1, bias=False)
        self.dropout = Dropout(dropout)

    def look(self, features: Features) -> State:
        """What is attended to: regions (P, R, H), keys (P, R, A), and the mask (P, R) if any."""
        assert features.regions is not None, "this decoder needs grid features"
        regions = self.dropout(self.project(features.regions, features.mask).relu())
        memory = {"regions": regions, "keys": self.key(regions)}
        if features.mask is not None:
            memory["mask"] = features.mask
        return memory

    def forward(self, query: Tensor, memory: State) -> tuple[Tensor, Tensor]:
        """Attend once.

        Args:
            query: (B, H).
            memory: from ``look``, for P pictures, B a multiple of P.

        Returns:
            The regions' weighted mean (B, H), and the weights (B, R) in fp32.
        """
        keys, regions = memory["keys"], memory["regions"]
        num_pictures, _, size = keys.shape
        # K rows of one picture read its keys and regions together.
        queries = self.query(query).view(num_pictures, query.shape[0] // num_pictures, 1, size)
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
            pictures: (B,) the picture of each caption.

        Returns:
            A function of the queries (n, H) of the first n captions.
        """
        keys, regions, mask = memory["keys"], memory["regions"], memory.get("mask")
        if fast_cpu.takes("unrolled_attention", keys.device):
            return UnrolledAttention(
                keys, regions, mask, self.query.weight, self.score.weight, pictures
            )
        rows = {name: part.index_select(0, pictures) for name, part in memory.items()}
        return lambda query: self(query, {name: part[: len(query)] for name, part in rows.items()})

    @staticmethod
    def mean(memory: State) -> Tensor:
        """The mean of a picture's regions, (P, H)."""
        if "mask" not in memory:
            return memory["regions"].mean(dim=1)
        real = memory["mask"][:, :, None].to(memory["regions"].dtype)
        return (memory["regions"] * real).sum(dim=1) / real.sum(dim=1)


class RegionLSTM(Decoder):
    """What the decoders made of LSTMs and region attention share.

    Args:
        vocab_size: V.
        feature_size: D', width of a region.
        embed_size: width of word embeddings.
        hidden_size: H, width of each LSTM and of projected regions.
        attention_size: width in which regions and hidden state are compared.
        dropout: on words, on regions and before the last layer.
        feature_dropout: on regions as the encoder gives them.
        word_dropout: share of input words replaced by ``<unk>`` in training.
    """

    needs_regions = True
    picture_state = RegionAttention.entries

    def __init__(
        self,
        *,
        vocab_size: int,
        feature_size: int,
        embed_size: int,
        hidden_size: int,
        attention_size: int,
        dropout: float = 0.5,
        feature_dropout: float = 0.0,
        word_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.vocab_size, self.embed_size, self.hidden_size = vocab_size, embed_size, hidden_size
        self.attention = RegionAttention(
            feature_size=feature_size,
            hidden_size=hidden_size,
            attention_size=attention_size,
            dropout=dropout,
            feature_dropout=feature_dropout,
        )
        self.word_embedding = nn.Embedding(vocab_size, embed_size, padding_idx=PAD)
        self.dropout = Dropout(dropout)
        self.word_dropout = word_dropout

    def init_state(self, features: Features) -> State:
        """The recurrent state (P, H) before the first word, and what is attended to."""
        memory = self.attention.look(features)
        blank = memory["keys"].new_zeros(memory["keys"].shape[:2], dtype=torch.float32)
        return {**memory, **self._start(memory), "attention": blank}

    @abstractmethod
    def _start(self, memory: State) -> State:
        """The entries of the recurrent state before the first word.

        Args:
            memory: from ``RegionAttention.look``.
        """
