"""A language model that is told of the picture by a prefix (ClipCap, Mokady et al. 2021, arXiv
2111.09734).

A mapping network F turns the picture's features x into k vectors as wide as word embeddings, p_1
... p_k = F(x), and a language model goes on from there (section 3.1). The language model is GPT-2,
trained along or left as it is (section 3.2). F is a multilayer perceptron with one hidden layer
(section 3.3; for a language model that is left as it is the paper has a transformer, too, which is
not here). As everywhere here the words begin with ``<start>``, and a batch norm takes from the
features what all pictures share.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from showtell.errors import ConfigError
from showtell.models.base import Decoder, Features, HiddenStates, State
from showtell.models.embedding import FeatureEmbedding
from showtell.models.gpt2 import GPT2, KeysValues
from showtell.models.words import drop_words
from showtell.text.vocabulary import SPECIAL_WORDS

NUM_SPECIAL = len(SPECIAL_WORDS)


class TiedWords(nn.Module):
    """One matrix that embeds and predicts, as GPT-2 has it.

    The rows of ``<pad>``, ``<start>``, ``<end>`` and ``<unk>``, which a language model does not
    have, are apart: they are learnt where it is left as it is, too.

    Args:
        vocab_size: V.
        hidden_size: H.
    """

    def __init__(self, *, vocab_size: int, hidden_size: int) -> None:
        super().__init__()
        self.special = nn.Parameter(torch.empty(NUM_SPECIAL, hidden_size))
        self.weight = nn.Parameter(torch.empty(vocab_size - NUM_SPECIAL, hidden_size))
        nn.init.normal_(self.special, std=0.02)
        nn.init.normal_(self.weight, std=0.02)

    def embed(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T, H)."""
        special = F.embedding(tokens.clamp(max=NUM_SPECIAL - 1), self.special)
        words = F.embedding((tokens - NUM_SPECIAL).clamp(min=0), self.weight)
        return torch.where((tokens < NUM_SPECIAL)[..., None], special, words)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., H) -> (..., V) logits."""
        return torch.cat([F.linear(hidden, self.special), F.linear(hidden, self.weight)], dim=-1)


class PrefixLm(Decoder):
    """GPT-2 behind a prefix that is mapped from the picture's pooled features.

    Args:
        vocab_size: V.
        feature_size: D.
        prefix_length: k.
        num_layers, hidden_size, num_heads, num_positions: of the language model; what a
            pretrained one has, or any.
        train_lm: whether the language model is trained, or the mapping and the rows of the
            special tokens alone.
        dropout: on features, words and what each sublayer adds.
        word_dropout: share of input words replaced by ``<unk>`` in training.
    """

    output: TiedWords
    picture_state = frozenset({"prefix_keys", "prefix_values"})

    def __init__(
        self,
        *,
        vocab_size: int,
        feature_size: int,
        prefix_length: int,
        num_layers: int,
        hidden_size: int,
        num_heads: int,
        num_positions: int,
        train_lm: bool = True,
        dropout: float = 0.1,
        word_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        inner_size = max(1, prefix_length * hidden_size // 2)  # as in the authors' program
        self.image_embedding = FeatureEmbedding(
            feature_size=feature_size, embed_size=inner_size, dropout=dropout
        )
        self.prefix = nn.Linear(inner_size, prefix_length * hidden_size)
        self.lm = GPT2(
            hidden_size=hidden_size,
            num_layers=num_layers,
            num_heads=num_heads,
            num_positions=num_positions,
            dropout=dropout,
        )
        self.output = TiedWords(vocab_size=vocab_size, hidden_size=hidden_size)
        self.prefix_length, self.num_positions = prefix_length, num_positions
        self.train_lm, self.word_dropout = train_lm, word_dropout
        self.lm.requires_grad_(train_lm)
        self.output.weight.requires_grad_(train_lm)

    def train(self, mode: bool = True) -> "PrefixLm":
        """A language model that is not trained keeps its dropout off."""
        super().train(mode)
        self.lm.train(mode and self.train_lm)
        return self

    def hidden_states(self, features: Features, tokens: Tensor) -> HiddenStates:
        """(B, T) tokens -> (B, T, H)."""
        prefix = [
            KeysValues(*(features.by_caption(part) for part in layer))
            for layer in self._look(features)
        ]
        words = self._embed(drop_words(tokens, self.word_dropout * self.training), 0, prefix)
        return HiddenStates(self.lm(words, self.prefix_length, prefix)[0])

    def init_state(self, features: Features) -> State:
        """Keys and values (P, layers, heads, k, H / heads) of the prefix, and none of words."""
        prefix = _stack(self._look(features))
        none = prefix.keys[:, :, :, :0]
        return {
            "prefix_keys": prefix.keys,
            "prefix_values": prefix.values,
            "keys": none,
            "values": none,
        }

    def step_hidden(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B,) tokens -> (B, H); keys and values (B, layers, heads, t, H / heads) grow by one."""
        prefix = _by_layer(state["prefix_keys"], state["prefix_values"])
        past = _by_layer(state["keys"], state["values"])
        num_before = state["keys"].shape[3]
        words = self._embed(tokens[:, None], num_before, prefix)
        hidden, presents = self.lm(words, self.prefix_length + num_before, prefix, past)
        grown = _stack(presents)
        return hidden[:, 0], {**state, "keys": grown.keys, "values": grown.values}

    @property
    def max_tokens(self) -> int:
        """Tokens of a caption for which there are positions, ``<start>`` and ``<end>`` aside."""
        return self.num_positions - self.prefix_length - 1

    def _look(self, features: Features) -> list[KeysValues]:
        """What each layer knows of the P pictures."""
        inner = torch.tanh(self.image_embedding(features.pooled))
        prefix = self.prefix(inner).unflatten(1, (self.prefix_length, -1))
        return self.lm.read_prefix(prefix)

    def _embed(self, tokens: Tensor, num_before: int, prefix: Sequence[KeysValues]) -> Tensor:
        num_tokens = num_before + tokens.shape[1]
        if self.prefix_length + num_tokens > self.num_positions:
            raise ConfigError(
                f"decoder.num_positions = {self.num_positions} hold a prefix of "
                f"{self.prefix_length} and {self.num_positions - self.prefix_length} tokens with "
                f"<start>; a caption has {num_tokens}: lower decoding.max_length and "
                "data.max_caption_length"
            )
        return self.output.embed(tokens).to(prefix[0].keys.dtype)


def _stack(layers: Sequence[KeysValues]) -> KeysValues:
    """Layers as dim 1."""
    keys, values = (torch.stack(parts, dim=1) for parts in zip(*layers, strict=True))
    return KeysValues(keys, values)


def _by_layer(keys: Tensor, values: Tensor) -> list[KeysValues]:
    return [
        KeysValues(*pair) for pair in zip(keys.unbind(dim=1), values.unbind(dim=1), strict=True)
    ]
