"""A log-bilinear decoder: the picture and the last word predict the next word."""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from showtell import register_decoder
from showtell.config import DecoderSettings
from showtell.decoders.base import Decoder, HiddenStates, State
from showtell.decoders.layers import drop_words
from showtell.encoders.features import Features
from showtell.text.vocabulary import PAD


class LogBilinearSettings(DecoderSettings):
    """A simplified log-bilinear model (after Kiros et al. 2014)."""

    kind: Literal["log_bilinear"] = "log_bilinear"
    hidden_size: int = Field(64, ge=1, description="width of the hidden layer")


@register_decoder(LogBilinearSettings)
class LogBilinear(Decoder):
    """tanh(W x + e(word)), then a linear layer to the vocabulary."""

    def __init__(
        self,
        *,
        vocab_size: int,
        feature_size: int,
        hidden_size: int,
        dropout: float = 0.5,
        word_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.picture = nn.Linear(feature_size, hidden_size)
        self.words = nn.Embedding(vocab_size, hidden_size, padding_idx=PAD)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, vocab_size)
        self.word_dropout = word_dropout

    def hidden_states(self, features: Features, tokens: Tensor) -> HiddenStates:
        """(B, T) tokens -> (B, T, H), for training."""
        picture = features.by_caption(self.picture(features.pooled))
        tokens = drop_words(tokens, self.word_dropout * self.training)
        return HiddenStates(self._join(picture[:, None], tokens))

    def init_state(self, features: Features) -> State:
        """The state before the first word; every entry has a row for each picture."""
        return {"picture": self.picture(features.pooled)}

    def step_hidden(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B,) tokens -> (B, H), for search."""
        return self._join(state["picture"], tokens), state

    def _join(self, picture: Tensor, tokens: Tensor) -> Tensor:
        return self.dropout((picture + self.words(tokens)).tanh())
