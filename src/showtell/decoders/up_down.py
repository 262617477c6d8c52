"""Bottom-Up and Top-Down Attention (Anderson et al. 2018, arXiv 1707.07998): the captioner.

Section 3.2: a first LSTM (section 3.2.1, equation 2) reads the mean region, the last word and
what the second LSTM said last, and asks where to look (3-5); the second (section 3.2.2, equation
6) reads what was seen there and says the word (7). The paper's regions are detected objects;
here they are the cells of the encoder's grid, projected once a picture. Otherwise than there, the
word is said from the sum of both hidden states, a residual connection (Wu et al. 2016, arXiv
1609.08144, section 3.1): without it the words reach the last layer only through two LSTMs that
are still silent, and it takes an epoch more to learn to speak.
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


class UpDown(Decoder):
    """Two LSTMs, one to look and one to speak.

    Args:
        vocab_size: V.
        feature_size: D', width of a region.
        embed_size: width of word embeddings.
        hidden_size: H, width of both LSTMs and of projected regions.
        attention_size: width in which regions and hidden state meet.
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
        self.attention = RegionAttention(
            feature_size=feature_size,
            region_size=hidden_size,
            query_size=hidden_size,
            attention_size=attention_size,
            dropout=dropout,
            feature_dropout=feature_dropout,
        )
        self.word_embedding = nn.Embedding(vocab_size, embed_size, padding_idx=PAD)
        # The first LSTM's input weights, apart for each part of equation 2.
        self.word_gates = nn.Linear(embed_size, 4 * hidden_size)
        self.picture_gates = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        self.look_gates = nn.Linear(2 * hidden_size, 4 * hidden_size, bias=False)
        self.speak_gates = nn.Linear(3 * hidden_size, 4 * hidden_size)
        self.output = nn.Linear(hidden_size, vocab_size)
        self.dropout = Dropout(dropout)
        self.word_dropout = word_dropout
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

    def init_state(self, features: Features) -> State:
        """h1, c1, h2, c2 (P, H) of zeros, the picture's part of the gates, what is looked at."""
        memory = self.attention.look(features)
        blank = memory["keys"].new_zeros(memory["keys"].shape[:2], dtype=torch.float32)
        return {**memory, **self._start(memory), "attention": blank}

    def step_hidden(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B,) tokens -> (B, H)."""
        look = partial(self.attention, memory=state)
        words = self._read(tokens)
        rest = words.new_zeros(())
        new = self._advance(look, self.look_gates, self.speak_gates, words, rest, state)
        return self.dropout(new["h1"] + new["h2"]), {**state, **new}

    def _start(self, memory: State) -> State:
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
        """Equations 1-6: one step of the first LSTM, a look, one step of the second.

        Args:
            look: at the regions, with a query (B, H).
            ask, hear: ``look_gates`` and ``speak_gates``, unrolled in training.
            words: (B, 4 H) from ``_read``, with what unrolling adds to ``ask``.
            rest: what unrolling adds to ``hear``.
        """
        asked = torch.cat([state["h1"], state["h2"]], dim=-1)
        h1, c1 = lstm_cell(words + state["picture"] + ask(asked), state["c1"])
        context, weights = look(h1)
        heard = torch.cat([context, h1, state["h2"]], dim=-1)
        h2, c2 = lstm_cell(rest + hear(heard), state["c2"])
        new = {"h1": h1, "c1": c1, "h2": h2, "c2": c2, "attention": weights}
        return {"picture": state["picture"], **new}
