"""Bottom-Up and Top-Down Attention (Anderson et al. 2018, arXiv 1707.07998): the captioner.

Section 3.2: a first LSTM (section 3.2.1, equation 2) reads the mean region, the last word and
what the second LSTM said last, and asks where to look (3-5); the second (section 3.2.2, equation
6) reads what was seen there and says the word (7). The paper's regions are detected objects;
here they are the cells of the encoder's grid, projected once a picture.
"""

import torch
from torch import Tensor, nn

from showtell.models.base import Decoder, Features, HiddenStates, State
from showtell.models.recurrence import lstm_cell, pack, remember_at_first, unroll
from showtell.models.region_attention import RegionAttention
from showtell.models.words import drop_words
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
        word_dropout: share of input words replaced by ``<unk>`` in training.
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
        # The first LSTM's input weights, apart for each part of equation 2.
        self.word_gates = nn.Linear(embed_size, 4 * hidden_size)
        self.picture_gates = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        self.look_gates = nn.Linear(2 * hidden_size, 4 * hidden_size, bias=False)
        self.speak_gates = nn.Linear(3 * hidden_size, 4 * hidden_size)
        self.output = nn.Linear(hidden_size, vocab_size)
        self.dropout = nn.Dropout(dropout)
        self.word_dropout = word_dropout
        for gates in (self.word_gates, self.speak_gates):
            remember_at_first(gates.bias)

    def hidden_states(self, features: Features, tokens: Tensor) -> HiddenStates:
        """(B, T) tokens -> (B, T, H)."""
        packed = pack(drop_words(tokens, self.word_dropout * self.training))
        seen = unroll(
            self._advance,
            self._read(packed.tokens),
            packed,
            self.init_state(features),
            features,
            keep=("h2",),
        )
        return HiddenStates(packed.unpack(self.dropout(seen["h2"])))

    def init_state(self, features: Features) -> State:
        """h1, c1, h2, c2 (P, H) of zeros, the picture's part of the gates, what is looked at."""
        memory = self.attention.look(features)
        picture = self.picture_gates(self.attention.mean(memory))
        nothing = picture.new_zeros(picture.shape[0], picture.shape[1] // 4)
        return {
            **memory,
            "picture": picture,
            "h1": nothing,
            "c1": nothing.float(),
            "h2": nothing,
            "c2": nothing.float(),
            "attention": picture.new_zeros(memory["keys"].shape[:2], dtype=torch.float32),
        }

    def step_hidden(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B,) tokens -> (B, H)."""
        state = self._advance(self._read(tokens), state)
        return self.dropout(state["h2"]), state

    def _read(self, tokens: Tensor) -> Tensor:
        """The words' part of the first LSTM's gates: (N,) -> (N, 4 H)."""
        gates: Tensor = self.word_gates(self.dropout(self.word_embedding(tokens)))
        return gates

    def _advance(self, gates: Tensor, state: State) -> State:
        """Equations 1-6: one step of the first LSTM, a look, one step of the second."""
        asked = torch.cat([state["h1"], state["h2"]], dim=-1)
        h1, c1 = lstm_cell(gates + state["picture"] + self.look_gates(asked), state["c1"])
        context, weights = self.attention(h1, state)
        heard = torch.cat([context, h1, state["h2"]], dim=-1)
        h2, c2 = lstm_cell(self.speak_gates(heard), state["c2"])
        return {**state, "h1": h1, "c1": c1, "h2": h2, "c2": c2, "attention": weights}
