"""Show, Attend and Tell (Xu et al. 2015, arXiv 1502.03044), with soft attention.

Section 3.1.2: an LSTM whose input is the last word and the context z_t (equations 1-3), a mean
of the regions weighted by what the last hidden state asks for (4-6), from an initial state that
follows from the mean region; the word is predicted by a deep output layer (7). Section 4.2: the
mean is the deterministic one (13), scaled by a gate beta_t = sigmoid(f_beta(h_{t-1})), and
training asks that each region be looked at about as much as any other over a caption (14).

Otherwise than there, regions are projected to the width of the LSTM, once a picture.
"""

from functools import partial

import torch
from torch import Tensor, nn

from showtell.decoders.base import Decoder, HiddenStates, State
from showtell.decoders.layers import Dropout, drop_words
from showtell.decoders.recurrence import Product, init_gates, lstm_cell, pack, unroll, unrolled
from showtell.decoders.region_attention import Look, RegionAttention
from showtell.encoders.features import Features
from showtell.text.vocabulary import PAD


class ShowAttendTell(Decoder):
    """An LSTM that looks at the regions before each word.

    Args:
        vocab_size: V.
        feature_size: D', width of a region.
        embed_size: width of word embeddings and of the deep output layer.
        hidden_size: H, width of the LSTM and of projected regions.
        attention_size: width in which regions and hidden state meet.
        dropout: on words, on regions and before the last layer.
        feature_dropout: on regions as the encoder gives them.
        word_dropout: share of input words replaced by ``<unk>`` in training.
        doubly_stochastic: lambda of equation 14.
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
        doubly_stochastic: float = 1.0,
    ) -> None:
        super().__init__()
        self.attention = RegionAttention(
            feature_size=feature_size,
            region_size=hidden_size,
            query_size=hidden_size,
            attention_size=attention_size,
            dropout=dropout,
            feature_dropout=feature_dropout,
        )
        self.word_embedding = nn.Embedding(vocab_size, embed_size, padding_idx=PAD)
        self.initial_state = nn.Linear(hidden_size, 2 * hidden_size)
        self.context_gate = nn.Linear(hidden_size, 1)
        self.word_gates = nn.Linear(embed_size, 4 * hidden_size)
        self.recurrent_gates = nn.Linear(2 * hidden_size, 4 * hidden_size, bias=False)
        self.deep_output = nn.Linear(2 * hidden_size, embed_size)
        self.output = nn.Linear(embed_size, vocab_size)
        self.dropout = Dropout(dropout)
        self.word_dropout = word_dropout
        self.doubly_stochastic = doubly_stochastic
        init_gates(self.recurrent_gates, self.word_gates)

    def hidden_states(self, features: Features, tokens: Tensor) -> HiddenStates:
        """(B, T) tokens -> (B, T, embed_size), and the penalty of equation 14."""
        packed = pack(drop_words(tokens, self.word_dropout * self.training), features)
        words = self.dropout(self.word_embedding(packed.tokens))
        memory = self.attention.look(features)
        look = self.attention.over_steps(memory, packed.pictures)
        recur, rest = unrolled(self.recurrent_gates, len(packed.tokens))
        seen = unroll(
            partial(self._advance, look, recur),
            (self.word_gates(words) + rest,),
            packed,
            self._start(memory),
            keep=("h", "context", "attention"),
        )
        hidden = self._deepen(words, seen["h"], seen["context"])
        states = packed.unpack(hidden)
        if self.doubly_stochastic == 0:
            return HiddenStates(states)
        attention = packed.unpack(seen["attention"])
        return HiddenStates(states, self._penalty(attention, tokens, features))

    def init_state(self, features: Features) -> State:
        """h and c (P, H) from the mean region, and what is looked at."""
        memory = self.attention.look(features)
        blank = memory["keys"].new_zeros(memory["keys"].shape[:2], dtype=torch.float32)
        start = self._start(memory)
        return {**memory, **start, "context": torch.zeros_like(start["h"]), "attention": blank}

    def step_hidden(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B,) tokens -> (B, embed_size)."""
        words = self.dropout(self.word_embedding(tokens))
        look = partial(self.attention, memory=state)
        new = self._advance(look, self.recurrent_gates, self.word_gates(words), state)
        return self._deepen(words, new["h"], new["context"]), {**state, **new}

    def _start(self, memory: State) -> State:
        h, c = self.initial_state(self.attention.mean(memory)).tanh().chunk(2, dim=-1)
        return {"h": h, "c": c.float()}

    def _advance(self, look: Look, recur: Product, words: Tensor, state: State) -> State:
        """Equations 1-6 and 13: look with h_{t-1}, then take the LSTM one step on.

        Args:
            look: at the regions, with a query (B, H).
            recur: ``recurrent_gates``, unrolled in training.
            words: (B, 4 H) the words' part of the gates, with what unrolling adds.
        """
        h = state["h"]
        context, weights = look(h)
        context = self.context_gate(h).sigmoid() * context
        h, c = lstm_cell(words + recur(torch.cat([h, context], dim=-1)), state["c"])
        return {"h": h, "c": c, "context": context, "attention": weights}

    def _deepen(self, words: Tensor, h: Tensor, context: Tensor) -> Tensor:
        """Equation 7 without L_o; the tanh is in the authors' code, not in the paper."""
        deep = words.to(h.dtype) + self.deep_output(torch.cat([h, context], dim=-1))
        hidden: Tensor = self.dropout(deep.tanh())
        return hidden

    def _penalty(self, attention: Tensor, tokens: Tensor, features: Features) -> Tensor:
        """Equation 14's second term, a token: lambda sum_i (1 - sum_t alpha_ti)^2 over captions.

        Args:
            attention: (B, T, R).
            tokens: (B, T).
        """
        real = tokens != PAD
        missed = (1 - (attention * real[:, :, None]).sum(dim=1)).square()
        if features.mask is not None:
            missed = missed * features.by_caption(features.mask)
        return self.doubly_stochastic * missed.sum() / real.sum()
