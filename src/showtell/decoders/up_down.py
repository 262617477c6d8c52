"""Bottom-Up and Top-Down Attention (Anderson et al. 2018, arXiv 1707.07998): the captioner.

Section 3.2: a first LSTM (section 3.2.1, equation 2) reads the mean region, the last word and the
second LSTM's last output, and its hidden state is the query of the attention (3-5). The second LSTM
(section 3.2.2, equation 6) reads the attended regions and predicts the word (7).

Two things differ from the paper. Its regions are detected objects; here they are the cells of the
encoder's grid, projected once a picture. And the word is predicted from the sum of both hidden
states, a residual connection (Wu et al. 2016, arXiv 1609.08144, section 3.1). Without it, words
reach the last layer only through two LSTMs whose outputs start near zero, and learning takes an
epoch longer.
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


class UpDown(RegionLSTM):
    """Two LSTMs: one decides where to look, one predicts the words.

    Args:
        settings: those of ``RegionLSTM``.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        vocab_size, embed_size, hidden_size = self.vocab_size, self.embed_size, self.hidden_size
        # The first LSTM's input weights, one layer for each part of equation 2.
        self.word_gates = nn.Linear(embed_size, 4 * hidden_size)
        self.picture_gates = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        self.look_gates = nn.Linear(2 * hidden_size, 4 * hidden_size, bias=False)
        self.speak_gates = nn.Linear(3 * hidden_size, 4 * hidden_size)
        self.output = nn.Linear(hidden_size, vocab_size)
        init_gates(self.picture_gates, self.look_gates, self.word_gates)
        init_gates(self.speak_gates)

    def hidden_states(self, features: Features, tokens: Tensor) -> HiddenStates:
        """(B, T) tokens -> (B, T, H)."""
        packed = pack(drop_words(tokens, self.word_dropout * self.training), features)
        memory = self.attention.look(features)
        look = self.attention.over_steps(memory, packed.pictures)
        ask, ask_rest = unrolled(self.look_gates, len(packed.tokens))
        hear, hear_rest = unrolled(self.speak_gates, len(packed.tokens))
        seen = unroll(
            partial(self._advance, look, ask, hear),
            (self._read(packed.tokens) + ask_rest, hear_rest),
            packed,
            self._start(memory),
            keep=("h1", "h2"),
        )
        return HiddenStates(packed.unpack(self.dropout(seen["h1"] + seen["h2"])))

    def step_hidden(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B,) tokens -> (B, H)."""
        look = partial(self.attention, memory=state)
        words = self._read(tokens)
        rest = words.new_zeros(())
        new = self._advance(look, self.look_gates, self.speak_gates, words, rest, state)
        return self.dropout(new["h1"] + new["h2"]), {**state, **new}

    def _start(self, memory: State) -> State:
        """h1, c1, h2, c2 (P, H) of zeros, and the picture's part of the first gates (P, 4 H)."""
        picture = self.picture_gates(self.attention.mean(memory))
        nothing = picture.new_zeros(picture.shape[0], picture.shape[1] // 4)
        cell = nothing.float()
        return {"picture": picture, "h1": nothing, "c1": cell, "h2": nothing, "c2": cell}

    def _read(self, tokens: Tensor) -> Tensor:
        """The words' part of the first LSTM's gates: (N,) -> (N, 4 H)."""
        gates: Tensor = self.word_gates(self.dropout(self.word_embedding(tokens)))
        return gates

    def _advance(
        self, look: Look, ask: Product, hear: Product, words: Tensor, rest: Tensor, state: State
    ) -> State:
        """Equations 1-6: one step of the first LSTM, attention, one step of the second LSTM.

        Args:
            look: attention to the regions with a query (B, H).
            ask, hear: ``look_gates`` and ``speak_gates``, unrolled in training.
            words: (B, 4 H) from ``_read``, plus what ``unrolled`` adds to ``ask``.
            rest: what ``unrolled`` adds to ``hear``.
        """
        asked = torch.cat([state["h1"], state["h2"]], dim=-1)
        h1, c1 = lstm_cell(words + state["picture"] + ask(asked), state["c1"])
        context, weights = look(h1)
        heard = torch.cat([context, h1, state["h2"]], dim=-1)
        h2, c2 = lstm_cell(rest + hear(heard), state["c2"])
        new = {"h1": h1, "c1": c1, "h2": h2, "c2": c2, "attention": weights}
        return {"picture": state["picture"], **new}
