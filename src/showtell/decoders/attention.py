"""Show, Attend and Tell (Xu et al. 2015, arXiv 1502.03044), with soft attention.

Section 3.1.2: an LSTM reads the last word and the context z_t (equations 1-3), a mean of the
regions weighted by the last hidden state (4-6). Its initial state comes from the mean region, and a
deep output layer predicts the word (7). Section 4.2: the mean is the deterministic one (13), scaled
by a gate beta_t = sigmoid(f_beta(h_{t-1})). A penalty asks that over a caption each region gets
about the same attention as any other (14).

Unlike in the paper, regions are projected to the width of the LSTM, once for each picture.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from showtell.decoders.base import HiddenStates, State
from showtell.decoders.layers import drop_words
from showtell.decoders.recurrence import Product, init_gates, lstm_cell, pack, unroll, unrolled
from showtell.decoders.region_attention import Look, RegionLSTM
from showtell.encoders.features import Features
from showtell.text.vocabulary import PAD


class ShowAttendTell(RegionLSTM):
    """An LSTM that attends to the regions before each word.

    Args:
        doubly_stochastic: lambda of equation 14.
        settings: those of ``RegionLSTM``; ``embed_size`` is also the width of the deep output.
    """

    def __init__(self, *, doubly_stochastic: float = 1.0, **settings: Any) -> None:
        super().__init__(**settings)
        vocab_size, embed_size, hidden_size = self.vocab_size, self.embed_size, self.hidden_size
        self.doubly_stochastic = doubly_stochastic
        self.initial_state = nn.Linear(hidden_size, 2 * hidden_size)
        self.context_gate = nn.Linear(hidden_size, 1)
        self.word_gates = nn.Linear(embed_size, 4 * hidden_size)
        self.recurrent_gates = nn.Linear(2 * hidden_size, 4 * hidden_size, bias=False)
        self.deep_output = nn.Linear(2 * hidden_size, embed_size)
        self.output = nn.Linear(embed_size, vocab_size)
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

    def step_hidden(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B,) tokens -> (B, embed_size)."""
        words = self.dropout(self.word_embedding(tokens))
        look = partial(self.attention, memory=state)
        new = self._advance(look, self.recurrent_gates, self.word_gates(words), state)
        return self._deepen(words, new["h"], new["context"]), {**state, **new}

    def _start(self, memory: State) -> State:
        """h and c (P, H) from the mean region, and a context (P, H) of zeros."""
        h, c = self.initial_state(self.attention.mean(memory)).tanh().chunk(2, dim=-1)
        return {"h": h, "c": c.float(), "context": torch.zeros_like(h)}

    def _advance(self, look: Look, recur: Product, words: Tensor, state: State) -> State:
        """Equations 1-6 and 13: attend with h_{t-1}, then one step of the LSTM.

        Args:
            look: attention to the regions with a query (B, H).
            recur: ``recurrent_gates``, unrolled in training.
            words: (B, 4 H) the words' part of the gates, plus what ``unrolled`` adds.
        """
        h = state["h"]
        context, weights = look(h)
        context = self.context_gate(h).sigmoid() * context
        h, c = lstm_cell(words + recur(torch.cat([h, context], dim=-1)), state["c"])
        return {"h": h, "c": c, "context": context, "attention": weights}

    def _deepen(self, words: Tensor, h: Tensor, context: Tensor) -> Tensor:
        """Equation 7 without L_o; the tanh is from the authors' code, the paper has none."""
        deep = words.to(h.dtype) + self.deep_output(torch.cat([h, context], dim=-1))
        hidden: Tensor = self.dropout(deep.tanh())
        return hidden

    def _penalty(self, attention: Tensor, tokens: Tensor, features: Features) -> Tensor:
        """The second term of equation 14, for each token: lambda sum_i (1 - sum_t alpha_ti)^2.

        Args:
            attention: (B, T, R).
            tokens: (B, T).
        """
        real = tokens != PAD
        missed = (1 - (attention * real[:, :, None]).sum(dim=1)).square()
        if features.mask is not None:
            missed = missed * features.by_caption(features.mask)
        return self.doubly_stochastic * missed.sum() / real.sum()
