"""Show, Attend and Tell (Xu et al. 2015, arXiv 1502.03044), with soft attention.

Section 3.1.2: an LSTM whose input is the last word and the context z_t (equations 1-3), a mean
of the regions weighted by what the last hidden state asks for (4-6), from an initial state that
follows from the mean region; the word is predicted by a deep output layer (7). Section 4.2: the
mean is the deterministic one (13), scaled by a gate beta_t = sigmoid(f_beta(h_{t-1})), and
training asks that each region be looked at about as much as any other over a caption (14).

Otherwise than there, regions are projected to the width of the LSTM, once a picture.
"""

import torch
from torch import Tensor, nn

from showtell.models.base import Decoder, Features, HiddenStates, State
from showtell.models.recurrence import lstm_cell, pack, remember_at_first, unroll
from showtell.models.region_attention import RegionAttention
from showtell.models.words import drop_words
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
        word_dropout: share of input words replaced by ``<unk>`` in training.
        doubly_stochastic: lambda of equation 14.
    """

    needs_regions = True
    picture_state = RegionAttention.entries
    compiled_parts = ("_advance",)  # captions are packed step by step around it

    def __init__(
        self,
        *,
        vocab_size: int,
        feature_size: int,
        embed_size: int,
        hidden_size: int,
        attention_size: int,
        dropout: float = 0.5,
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
        )
        self.word_embedding = nn.Embedding(vocab_size, embed_size, padding_idx=PAD)
        self.initial_state = nn.Linear(hidden_size, 2 * hidden_size)
        self.context_gate = nn.Linear(hidden_size, 1)
        self.word_gates = nn.Linear(embed_size, 4 * hidden_size)
        self.recurrent_gates = nn.Linear(2 * hidden_size, 4 * hidden_size, bias=False)
        self.deep_output = nn.Linear(2 * hidden_size, embed_size)
        self.output = nn.Linear(embed_size, vocab_size)
        self.dropout = nn.Dropout(dropout)
        self.word_dropout = word_dropout
        self.doubly_stochastic = doubly_stochastic
        remember_at_first(self.word_gates.bias)

    def hidden_states(self, features: Features, tokens: Tensor) -> HiddenStates:
        """(B, T) tokens -> (B, T, embed_size), and the penalty of equation 14."""
        packed = pack(drop_words(tokens, self.word_dropout * self.training))
        words = self.dropout(self.word_embedding(packed.tokens))
        seen = unroll(
            self._advance,
            self.word_gates(words),
            packed,
            self.init_state(features),
            features,
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
        h, c = self.initial_state(self.attention.mean(memory)).tanh().chunk(2, dim=-1)
        blank = h.new_zeros(memory["keys"].shape[:2], dtype=torch.float32)
        return {
            **memory,
            "h": h,
            "c": c.float(),
            "context": torch.zeros_like(h),
            "attention": blank,
        }

    def step_hidden(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B,) tokens -> (B, embed_size)."""
        words = self.dropout(self.word_embedding(tokens))
        state = self._advance(self.word_gates(words), state)
        return self._deepen(words, state["h"], state["context"]), state

    def _advance(self, gates: Tensor, state: State) -> State:
        """Equations 1-6 and 13: look with h_{t-1}, then take the LSTM one step on."""
        h = state["h"]
        context, weights = self.attention(h, state)
        context = self.context_gate(h).sigmoid() * context
        gates = gates + self.recurrent_gates(torch.cat([h, context], dim=-1))
        h, c = lstm_cell(gates, state["c"])
        return {**state, "h": h, "c": c, "context": context, "attention": weights}

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
