"""Show and Tell: A Neural Image Caption Generator (Vinyals et al. 2015, arXiv 1411.4555).

Section 3.1, equations 10-12: the picture enters the LSTM once, before the first word
(x_{-1} = CNN(I)), then the words (x_t = W_e S_t); each output predicts the next word.
"""

import torch
from torch import Tensor, nn

from showtell.decoders.base import Decoder, HiddenStates, State
from showtell.decoders.layers import Dropout, FeatureEmbedding, drop_words
from showtell.encoders.features import Features
from showtell.text.vocabulary import PAD

CELLS: dict[str, type[nn.LSTM] | type[nn.GRU] | type[nn.RNN]] = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "rnn": nn.RNN,
}


class ShowTell(Decoder):
    """A recurrent decoder whose first input is the picture.

    Args:
        vocab_size: V.
        feature_size: D, width of the pooled picture vector.
        embed_size: width of word and picture embeddings.
        hidden_size: H, width of the recurrent state.
        num_layers: recurrent layers.
        cell: "lstm", "gru" or "rnn".
        dropout: on the word embeddings, between layers and before the last layer.
        feature_dropout: on the picture's features.
        word_dropout: share of input words replaced by ``<unk>`` in training.
        image_norm: whether a batch norm follows the picture's embedding; the course notebook's
            model has none.
        predict_start: whether the loss counts the word after the picture, which is always
            ``<start>``, as the course notebook's loss does.
    """

    gains_by_compiling = False  # torch's recurrent layers are single kernels already

    def __init__(
        self,
        *,
        vocab_size: int,
        feature_size: int,
        embed_size: int,
        hidden_size: int,
        num_layers: int = 1,
        cell: str = "lstm",
        dropout: float = 0.5,
        feature_dropout: float = 0.0,
        word_dropout: float = 0.0,
        image_norm: bool = True,
        predict_start: bool = False,
    ) -> None:
        super().__init__()
        self.image_embedding = FeatureEmbedding(
            feature_size=feature_size,
            embed_size=embed_size,
            dropout=feature_dropout,
            norm=image_norm,
        )
        self.word_embedding = nn.Embedding(vocab_size, embed_size, padding_idx=PAD)
        self.rnn = CELLS[cell](
            embed_size,
            hidden_size,
            num_layers,
            batch_first=True,
            dropout=dropout if num_layers > 1 else 0.0,
        )
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(hidden_size, vocab_size)
        self.word_dropout = word_dropout
        self.predict_start = predict_start

    def hidden_states(self, features: Features, tokens: Tensor) -> HiddenStates:
        """(B, T) tokens -> (B, T, H)."""
        image = features.by_caption(self.image_embedding(features.pooled))[:, None]
        words = self.word_embedding(drop_words(tokens, self.word_dropout * self.training))
        inputs = torch.cat([image, self.dropout(words).to(image.dtype)], dim=1)
        outputs, _ = self.rnn(inputs)
        if not self.predict_start:  # what is not predicted takes no part in dropout's draws
            return HiddenStates(self.dropout(outputs[:, 1:]))
        outputs = self.dropout(outputs)
        return HiddenStates(outputs[:, 1:], first=outputs[:, :1])

    def init_state(self, features: Features) -> State:
        """h (P, layers, H), and c of the same shape for an LSTM, after reading the picture."""
        image = self.image_embedding(features.pooled)
        _, state = self.rnn(image[:, None])
        return _pack(state)

    def step_hidden(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B,) tokens -> (B, H)."""
        # In the state's type, as `hidden_states` has it in the picture's: under autocast to bf16
        # torch (2.13) gives an fp32 input to oneDNN's LSTM, which fails without AVX-512.
        words = self.dropout(self.word_embedding(tokens)).to(state["h"].dtype)
        outputs, new_state = self.rnn(words[:, None], _unpack(state))
        return self.dropout(outputs[:, 0]), _pack(new_state)


def _pack(state: Tensor | tuple[Tensor, Tensor]) -> State:
    """(layers, B, H), torch's order -> (B, layers, H), which search can reorder."""
    names = ("h", "c")
    parts = state if isinstance(state, tuple) else (state,)
    return {
        name: part.transpose(0, 1).contiguous() for name, part in zip(names, parts, strict=False)
    }


def _unpack(state: State) -> Tensor | tuple[Tensor, Tensor]:
    h = state["h"].transpose(0, 1).contiguous()
    return (h, state["c"].transpose(0, 1).contiguous()) if "c" in state else h
