"""A language model behind a prefix made of the picture: ClipCap.

Mokady et al. 2021, arXiv 2111.09734.

A mapping network F turns the picture's features x into k vectors as wide as word embeddings,
p_1 ... p_k = F(x), and a language model continues from there (section 3.1). The language model is
GPT-2, trained along or frozen (section 3.2). F is a multilayer perceptron with one hidden layer
(section 3.3; the paper's transformer for a frozen language model is not implemented). As in every
decoder here, captions begin with ``<start>``, and a batch norm removes what all pictures share.

GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3) is
written out here, and computes the same numbers as transformers' ``GPT2Model``. That one would copy
the prefix for each hypothesis at every step of a search, and takes seconds to import. Here a layer
takes the keys and values of a picture's prefix, once for all hypotheses, and those of the words.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from showtell.decoders.base import Decoder, HiddenStates, State
from showtell.decoders.layers import Dropout, FeatureEmbedding, drop_words
from showtell.decoders.transformer import attend, by_picture
from showtell.encoders.features import Features
from showtell.errors import ConfigError
from showtell.text.vocabulary import SPECIAL_WORDS


class KeysValues(NamedTuple):
    """Keys and values of one layer, each (B, heads, t, H / heads)."""

    keys: Tensor
    values: Tensor


class Block(nn.Module):
    """One layer of GPT-2; its parameters have transformers' names.

    Args:
        size: H.
        num_heads: of the attention.
        dropout: on the output of each sublayer.
    """

    def __init__(self, *, size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.ln_1 = nn.LayerNorm(size)
        self.attn = nn.ModuleDict(
            {"c_attn": nn.Linear(size, 3 * size), "c_proj": nn.Linear(size, size)}
        )
        self.ln_2 = nn.LayerNorm(size)
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(size, 4 * size), "c_proj": nn.Linear(4 * size, size)}
        )
        self.dropout = Dropout(dropout)

    def forward(
        self, words: Tensor, prefix: KeysValues | None = None, past: KeysValues | None = None
    ) -> tuple[Tensor, KeysValues]:
        """A layer over the words.

        Args:
            words: (B, T, H); T is 1 if there is a past.
            prefix: of the P pictures, B a multiple of P.
            past: of the t earlier words.

        Returns:
            (B, T, H), and the keys and values of these words and the past.
        """
        query, own = self._project(words)
        if past is not None:
            own = KeysValues(*(torch.cat(pair, dim=2) for pair in zip(past, own, strict=True)))
        seen = look_back(query, own, prefix, causal=past is None)
        words = words + self.dropout(self.attn["c_proj"](seen.transpose(1, 2).flatten(2)))
        inner = F.gelu(self.mlp["c_fc"](self.ln_2(words)), approximate="tanh")
        return words + self.dropout(self.mlp["c_proj"](inner)), own

    def keys_values(self, inputs: Tensor) -> KeysValues:
        """Keys and values of (B, T, H), without the rest of the layer."""
        return self._project(inputs)[1]

    def _project(self, inputs: Tensor) -> tuple[Tensor, KeysValues]:
        parts = self.attn["c_attn"](self.ln_1(inputs)).chunk(3, dim=-1)
        query, keys, values = (
            part.view(*part.shape[:2], self.num_heads, -1).transpose(1, 2) for part in parts
        )
        return query, KeysValues(keys, values)


class GPT2(nn.Module):
    """The layers between embedded words and the last hidden states.

    Args:
        hidden_size: H.
        num_layers: how many blocks.
        num_heads: of each.
        num_positions: the most tokens, including those of a prefix.
        dropout: on the words and on the output of each sublayer.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        num_positions: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.wpe = nn.Embedding(num_positions, hidden_size)
        self.h = nn.ModuleList(
            Block(size=hidden_size, num_heads=num_heads, dropout=dropout) for _ in range(num_layers)
        )
        self.ln_f = nn.LayerNorm(hidden_size)
        self.drop = Dropout(dropout)
        self.apply(_start_small)
        for name, weight in self.named_parameters():
            if name.endswith("c_proj.weight"):  # section 2.3: by the residual layers' number
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * num_layers))

    def forward(
        self,
        words: Tensor,
        first: int = 0,
        prefix: Sequence[KeysValues] | None = None,
        past: Sequence[KeysValues] | None = None,
    ) -> tuple[Tensor, list[KeysValues]]:
        """Read words.

        Args:
            words: (B, T, H) embedded, the first of them at position ``first``.
            prefix: each layer's keys and values of P pictures, B a multiple of P.
            past: each layer's keys and values of the earlier words; T is then 1.

        Returns:
            The last hidden states (B, T, H), and each layer's keys and values of the words.
        """
        hidden, presents = self._place(words, first), []
        for number, block in enumerate(self.h):
            hidden, present = block(
                hidden, prefix[number] if prefix else None, past[number] if past else None
            )
            presents.append(present)
        return self.ln_f(hidden), presents

    def read_prefix(self, prefix: Tensor) -> list[KeysValues]:
        """(P, k, H) -> each layer's keys and values of the prefix."""
        hidden, presents = self._place(prefix, 0), []
        *blocks, last = self.h
        for block in blocks:
            hidden, present = block(hidden)
            presents.append(present)
        assert isinstance(last, Block)
        return [*presents, last.keys_values(hidden)]  # its output has no use

    def _place(self, inputs: Tensor, first: int) -> Tensor:
        """Add the positions' embeddings."""
        places = self.wpe.weight[first : first + inputs.shape[1]]
        placed: Tensor = self.drop((inputs + places).to(inputs.dtype))
        return placed


def look_back(query: Tensor, own: KeysValues, prefix: KeysValues | None, *, causal: bool) -> Tensor:
    """Attention of words to a picture's prefix and to the words so far, with one softmax.

    Args:
        query: (B, heads, T, d).
        own: (B, heads, t, d).
        prefix: (P, heads, k, d), B a multiple of P; it is not copied for each of the B rows.
        causal: whether a word sees only itself and the words before it; then t = T.

    Returns:
        (B, heads, T, d).
    """
    if prefix is None:
        return attend(query, own.keys, own.values, None, causal=causal)
    query = query / math.sqrt(query.shape[-1])
    num_rows, _, num_steps, _ = query.shape
    num_pictures, _, size, _ = prefix.keys.shape
    scores = query @ own.keys.transpose(-1, -2)
    if causal:
        future = torch.ones(num_steps, num_steps, dtype=torch.bool, device=query.device).triu(1)
        scores = scores.masked_fill(future, float("-inf"))
    # (P, heads, K T, k) -> (B, heads, T, k)
    on_prefix = by_picture(query, num_pictures) @ prefix.keys.transpose(-1, -2)
    on_prefix = by_row(on_prefix, num_rows, num_steps)
    weights = torch.cat([on_prefix, scores], dim=-1).softmax(dim=-1).to(own.values.dtype)
    of_prefix = by_picture(weights[..., :size], num_pictures) @ prefix.values
    return weights[..., size:] @ own.values + by_row(of_prefix, num_rows, num_steps)


def by_row(values: Tensor, num_rows: int, num_steps: int) -> Tensor:
    """(P, heads, K T, d) -> (P K, heads, T, d): the inverse of ``by_picture``."""
    num_pictures, num_heads, _, size = values.shape
    if num_pictures == num_rows:
        return values
    parts = values.view(num_pictures, num_heads, -1, num_steps, size)
    return parts.transpose(1, 2).reshape(num_rows, num_heads, num_steps, size)


def _start_small(module: nn.Module) -> None:
    """GPT-2's first weights: normal with standard deviation 0.02, biases zero."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


NUM_SPECIAL = len(SPECIAL_WORDS)


class TiedWords(nn.Module):
    """One matrix that embeds and predicts words, as in GPT-2.

    ``<pad>``, ``<start>``, ``<end>`` and ``<unk>`` are not words of GPT-2. Their rows are a
    parameter of their own, which is trained even if the language model is frozen.

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
        num_layers, hidden_size, num_heads, num_positions: of the language model; those of the
            pretrained model if there is one.
        train_lm: whether the language model is trained. If not, only the mapping and the rows of
            the special tokens are.
        dropout: on features, on words and on the output of each sublayer.
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
        """Keep the dropout of a frozen language model off."""
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
        """Keys and values (P, layers, heads, k, H / heads) of the prefix, and of no words yet."""
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
        """The most tokens of a caption, not counting ``<start>`` and ``<end>``."""
        return self.num_positions - self.prefix_length - 1

    def _look(self, features: Features) -> list[KeysValues]:
        """Each layer's keys and values of the P pictures' prefixes."""
        inner = torch.tanh(self.image_embedding(features.pooled))
        prefix = self.prefix(inner).unflatten(1, (self.prefix_length, -1))
        return self.lm.read_prefix(prefix)

    def _embed(self, tokens: Tensor, num_before: int, prefix: Sequence[KeysValues]) -> Tensor:
        num_tokens = num_before + tokens.shape[1]
        if self.prefix_length + num_tokens > self.num_positions:
            raise ConfigError(
                f"decoder.num_positions = {self.num_positions} has room for a prefix of "
                f"{self.prefix_length} and {self.num_positions - self.prefix_length} tokens with "
                f"<start>, but a caption has {num_tokens}: lower decoding.max_length and "
                "data.max_caption_length"
            )
        return self.output.embed(tokens).to(prefix[0].keys.dtype)


def _stack(layers: Sequence[KeysValues]) -> KeysValues:
    """Stack the layers as dim 1."""
    keys, values = (torch.stack(parts, dim=1) for parts in zip(*layers, strict=True))
    return KeysValues(keys, values)


def _by_layer(keys: Tensor, values: Tensor) -> list[KeysValues]:
    return [
        KeysValues(*pair) for pair in zip(keys.unbind(dim=1), values.unbind(dim=1), strict=True)
    ]
