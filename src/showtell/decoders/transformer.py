"""An encoder-decoder transformer over regions (Vaswani et al. 2017, arXiv 1706.03762).

Section 3.1 with the norms before each sublayer and one after the last (Xiong et al. 2020, arXiv
2002.04745, figure 1b); attention as in section 3.2, positions as in 3.5, and one matrix for input
and output words as in 3.4. Regions have no positions: they are a set, as in Cornia et al. 2020
(arXiv 1912.08226, section 3.1). The layers over the regions run once a picture. Search keeps the
keys and values of earlier words, so that a step costs the same at any length.

The blocks come first, then attention itself (``attend``), then the decoder.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from showtell.decoders import fast_cpu
from showtell.decoders.base import Decoder, HiddenStates, State
from showtell.decoders.fast_cpu import layers as fast
from showtell.decoders.layers import Dropout, FeatureEmbedding, drop_words
from showtell.decoders.word_detector import WordDetector
from showtell.encoders.concepts import ConceptReader
from showtell.encoders.features import Concepts, Features
from showtell.text.vocabulary import PAD


class Sight(NamedTuple):
    """What a decoder makes of the regions before anything else.

    Attributes:
        regions: (P, R, H) projected; None for a caption without a picture.
        evidence: (P, W) of the detector's words; None without a detector.
    """

    regions: Tensor | None
    evidence: Tensor | None


class Present(NamedTuple):
    """Intermediate results of a layer over the words that later steps need.

    Attributes:
        keys, values: (B, heads, t, H / heads) of the words so far.
        query: (B, heads, T, H / heads) queries to the regions.
        region_keys: (P, heads, R, H / heads) the regions' keys.
        mask: (P, R) True where a region is real.
    """

    keys: Tensor
    values: Tensor
    query: Tensor
    region_keys: Tensor
    mask: Tensor | None

    def attention(self) -> Tensor:
        """(B, R) the last word's attention weights, the mean over the heads, in fp32."""
        query = by_picture(self.query[:, :, -1:], self.region_keys.shape[0])
        scores = (query @ self.region_keys.transpose(-1, -2)).float() / math.sqrt(query.shape[-1])
        if self.mask is not None:
            scores = scores.masked_fill(~self.mask[:, None, None], float("-inf"))
        return scores.softmax(dim=-1).mean(dim=1).flatten(0, 1)


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2)."""

    def __init__(self, size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(size, size)
        self.memory = nn.Linear(size, 2 * size)
        self.out = nn.Linear(size, size)

    def project_query(self, inputs: Tensor) -> Tensor:
        """(B, T, H) -> (B, heads, T, H / heads)."""
        return self._split(self.query(inputs))

    def project_memory(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(B, R, H) -> keys and values, each (B, heads, R, H / heads)."""
        keys, values = self.memory(inputs).chunk(2, dim=-1)
        return self._split(keys), self._split(values)

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None = None,
        *,
        causal: bool = False,
    ) -> Tensor:
        """(B, heads, T, d) over (P, heads, R, d), B a multiple of P -> (B, T, H)."""
        num_rows, _, num_steps, _ = query.shape
        # The queries of K rows of one picture go to its regions together.
        rows = None if mask is None else mask[:, None, None]
        seen = attend(by_picture(query, keys.shape[0]), keys, values, rows, causal=causal)
        merged = seen.transpose(1, 2).reshape(num_rows, num_steps, -1)
        out: Tensor = self.out(merged)
        return out

    def _split(self, values: Tensor) -> Tensor:
        return values.view(*values.shape[:2], self.num_heads, -1).transpose(1, 2)


class FeedForward(nn.Sequential):
    """Two linear layers, applied to each position (section 3.3)."""

    def __init__(self, size: int, inner_size: int) -> None:
        super().__init__(nn.Linear(size, inner_size), nn.ReLU(), nn.Linear(inner_size, size))


class EncoderBlock(nn.Module):
    """Self-attention of the regions."""

    def __init__(self, size: int, num_heads: int, inner_size: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(2))
        self.attention = Attention(size, num_heads)
        self.feedforward = FeedForward(size, inner_size)
        self.dropout = Dropout(dropout)

    def forward(self, regions: Tensor, mask: Tensor | None) -> Tensor:
        """(P, R, H) -> (P, R, H)."""
        normed = self.norms[0](regions)
        memory = self.attention.project_memory(normed)
        seen = self.attention(self.attention.project_query(normed), *memory, mask)
        regions = regions + self.dropout(seen)
        added: Tensor = self.dropout(self.feedforward(self.norms[1](regions)))
        return regions + added


class DecoderBlock(nn.Module):
    """Attention of each word to the words before it, then to the regions."""

    def __init__(self, size: int, num_heads: int, inner_size: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(3))
        self.self_attention = Attention(size, num_heads)
        self.cross_attention = Attention(size, num_heads)
        self.feedforward = FeedForward(size, inner_size)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        words: Tensor,
        region_keys: Tensor,
        region_values: Tensor,
        mask: Tensor | None,
        *,
        past: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Present]:
        """A layer over the words.

        Args:
            words: (B, T, H); T is 1 if there is a past.
            region_keys, region_values: (P, heads, R, H / heads).
            mask: (P, R).
            past: keys and values (B, heads, t, H / heads) of the earlier words.

        Returns:
            (B, T, H), and what the next step needs.
        """
        normed = self.norms[0](words)
        keys, values = self.self_attention.project_memory(normed)
        if past is not None:
            keys, values = torch.cat([past[0], keys], dim=2), torch.cat([past[1], values], dim=2)
        query = self.self_attention.project_query(normed)
        seen = self.self_attention(query, keys, values, causal=past is None)
        words = words + self.dropout(seen)
        query = self.cross_attention.project_query(self.norms[1](words))
        seen = self.cross_attention(query, region_keys, region_values, mask)
        words = words + self.dropout(seen)
        words = words + self.dropout(self.feedforward(self.norms[2](words)))
        return words, Present(keys, values, query, region_keys, mask)


def by_picture(query: Tensor, num_pictures: int) -> Tensor:
    """(P K, heads, T, d), K rows for each picture -> (P, heads, K T, d)."""
    num_rows, num_heads, num_steps, size = query.shape
    if num_rows == num_pictures:
        return query
    grouped = query.view(num_pictures, -1, num_heads, num_steps, size)
    return grouped.transpose(1, 2).reshape(num_pictures, num_heads, -1, size)


def attend(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, *, causal: bool
) -> Tensor:
    """Scaled dot-product attention (section 3.2.1, equation 1).

    Args:
        query: (B, heads, T, d).
        keys, values: (B, heads, R, d).
        mask: (B, 1, 1, R) True where there is something to see.
        causal: whether a word sees only itself and the words before it; then R = T.

    Returns:
        (B, heads, T, d).
    """
    if fast_cpu.takes("attention", query.device):
        return fast.attention(query, keys, values, mask, causal=causal)
    return F.scaled_dot_product_attention(query, keys, values, mask, is_causal=causal)


NUM_CLASSES = 1000  # of ImageNet's classifiers


class Transformer(Decoder):
    """Self-attention over the words, attention from the words to the regions.

    Args:
        vocab_size: V.
        feature_size: D', width of a region.
        hidden_size: H, width of every layer; even, and a multiple of ``num_heads``.
        num_heads: of every attention.
        num_layers: over the words.
        num_encoder_layers: over the regions; 0: only a projection.
        feedforward_size: inner width of the feed-forward sublayers.
        dropout: on words, on regions and on what each sublayer adds.
        feature_dropout: on regions as the encoder gives them.
        word_dropout: share of input words replaced by ``<unk>`` in training.
        concepts: number of words, likely to be in the picture, that words attend to beside the
            regions; from the encoder's classifier, or from a detector.
        detected: number of words that a detector learns to see in the regions; 0: no detector.
        detector_weight: of the detector's loss, a caption, beside the cross-entropy of a token.
        pooled_size: D, width of the pooled features that the classifier reads; default: D'.
        blind: share of pictures whose regions are hidden in training, so that the decoder learns
            to use the concepts.
    """

    output: nn.Linear
    needs_regions = True
    takes_captions = True
    needs_pooled_size = True

    def __init__(
        self,
        *,
        vocab_size: int,
        feature_size: int,
        hidden_size: int,
        num_heads: int,
        num_layers: int,
        num_encoder_layers: int,
        feedforward_size: int,
        dropout: float = 0.3,
        feature_dropout: float = 0.0,
        word_dropout: float = 0.0,
        concepts: int = 0,
        detected: int = 0,
        detector_weight: float = 0.0,
        blind: float = 0.0,
        pooled_size: int | None = None,
    ) -> None:
        super().__init__()
        shape = (hidden_size, num_heads, feedforward_size, dropout)
        self.project = FeatureEmbedding(
            feature_size=feature_size, embed_size=hidden_size, dropout=feature_dropout
        )
        self.encoder = nn.ModuleList(EncoderBlock(*shape) for _ in range(num_encoder_layers))
        self.encoder_norm = nn.LayerNorm(hidden_size)
        self.decoder = nn.ModuleList(DecoderBlock(*shape) for _ in range(num_layers))
        self.decoder_norm = nn.LayerNorm(hidden_size)
        self.output = nn.Linear(hidden_size, vocab_size)  # its weight embeds the words as well
        self.dropout = Dropout(dropout)
        self.hidden_size, self.word_dropout, self.blind = hidden_size, word_dropout, blind
        seen = (name for layer in range(num_layers) for name in _seen(layer))
        self.picture_state = frozenset({"mask", *seen})
        self.concepts: ConceptReader | None = None
        self.detector: WordDetector | None = None
        self.detector_weight = detector_weight
        if concepts and detected:
            self.detector = WordDetector(
                size=hidden_size,
                num_detected=detected,
                num_words=concepts,
                vocab_size=vocab_size,
            )
        elif concepts:
            self.concepts = ConceptReader(
                num_classes=NUM_CLASSES,
                feature_size=pooled_size or feature_size,
                num_words=concepts,
                vocab_size=vocab_size,
            )
        if concepts:
            self.concept_embedding = nn.Linear(hidden_size, hidden_size)
            self.concept_score = nn.Linear(1, hidden_size)
        nn.init.normal_(self.output.weight, std=hidden_size**-0.5)
        nn.init.zeros_(self.output.bias)

    def hidden_states(
        self, features: Features, tokens: Tensor, captions: Tensor | None = None
    ) -> HiddenStates:
        """(B, T) tokens -> (B, T, H); the penalty is the detector's loss.

        Args:
            captions: (B, T) the true ids, of which the detector learns; default: ``tokens``.
        """
        sight = self._see(features)
        looked = self._look(features, sight)
        memory = {name: features.by_caption(part) for name, part in looked.items()}
        hidden = self._embed(drop_words(tokens, self.word_dropout * self.training), 0, memory)
        for layer, block in enumerate(self.decoder):
            regions = (memory[name] for name in _seen(layer))
            hidden, _ = block(hidden, *regions, memory.get("mask"))
        penalty = None
        if self.detector is not None and sight.evidence is not None:
            said = tokens if captions is None else captions
            loss = self.detector.loss(sight.evidence, said, features.picture_of)
            penalty = self.detector_weight * loss
        return HiddenStates(self.dropout(self.decoder_norm(hidden)), penalty)

    def init_state(self, features: Features) -> State:
        """Each layer's keys and values of the regions (P, heads, R, H / heads), no words yet."""
        memory = self._look(features, self._see(features))
        none = memory[_seen(0)[0]][:, :, :0]
        num_regions = 0 if features.regions is None else features.regions.shape[1]
        blank = none.new_zeros(none.shape[0], num_regions, dtype=torch.float32)
        words = {name: none for layer in range(len(self.decoder)) for name in _said(layer)}
        return {**memory, **words, "attention": blank}

    def step_hidden(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """(B,) tokens -> (B, H); each layer's keys and values (B, heads, t, H / heads) grow."""
        hidden = self._embed(tokens[:, None], state[_said(0)[0]].shape[2], state)
        grown: State = {}
        for layer, block in enumerate(self.decoder):
            regions = (state[name] for name in _seen(layer))
            words = tuple(state[name] for name in _said(layer))
            hidden, present = block(hidden, *regions, state.get("mask"), past=words)
            grown.update(zip(_said(layer), (present.keys, present.values), strict=True))
        if "attention" in state:
            num_regions = state["attention"].shape[1]
            grown["attention"] = present.attention()[:, :num_regions]  # without concepts
        return self.dropout(self.decoder_norm(hidden[:, 0])), {**state, **grown}

    def _see(self, features: Features) -> "Sight":
        """The regions as the decoder has them, and what the detector says of them."""
        if features.regions is None:
            return Sight(None, None)
        regions = self.project(features.regions, features.mask)
        if self.detector is None:
            return Sight(regions, None)
        return Sight(regions, self.detector.evidence(regions, features.mask))

    def _look(self, features: Features, sight: "Sight") -> State:
        """Every layer's keys and values of regions and concepts, and the mask if there is one."""
        regions, mask = self._memory(features, sight)
        for block in self.encoder:
            regions = block(regions, mask)
        regions = self.encoder_norm(regions)
        memory: State = {} if mask is None else {"mask": mask}
        for layer, block in enumerate(self.decoder):
            assert isinstance(block, DecoderBlock)
            pair = block.cross_attention.project_memory(regions)
            # Contiguous, as every step reads them.
            memory.update(zip(_seen(layer), (part.contiguous() for part in pair), strict=True))
        return memory

    def _memory(self, features: Features, sight: "Sight") -> tuple[Tensor, Tensor | None]:
        """Regions, then concepts: (P, R, H), and a mask (P, R) of what is real."""
        seen, mask = sight.regions, features.mask
        concepts = features.concepts or self._concepts(features, sight)
        if concepts is None:
            assert seen is not None, "this decoder needs grid features"
            return self.dropout(seen), mask
        said = self.dropout(self._embed_concepts(concepts))
        is_said = concepts.words != PAD
        if seen is None:
            is_said[:, 0] = True  # attention needs at least one entry; <pad> stands for none
            return said, is_said
        seen = self.dropout(seen)
        if mask is None:
            mask = torch.ones(seen.shape[:2], dtype=torch.bool, device=seen.device)
        if self.training and self.blind:
            sees = torch.rand(len(seen), 1, device=seen.device) >= self.blind
            mask = mask & (sees | ~is_said.any(dim=1, keepdim=True))
        return torch.cat([seen, said.to(seen.dtype)], dim=1), torch.cat([mask, is_said], dim=1)

    def _concepts(self, features: Features, sight: "Sight") -> Concepts | None:
        """The words that the pictures are likely to show; None for a decoder without concepts."""
        if self.detector is not None:
            assert sight.evidence is not None, "this decoder needs grid features"
            return self.detector.concepts(sight.evidence)
        return None if self.concepts is None else self.concepts(features.pooled)

    def _embed_concepts(self, concepts: Concepts) -> Tensor:
        """(P, K) -> (P, K, H): the word and the classifier's score of it."""
        words = F.embedding(concepts.words, self.output.weight) * math.sqrt(self.hidden_size)
        embedded: Tensor = self.concept_embedding(words)
        certainty: Tensor = self.concept_score(concepts.scores[..., None])
        return embedded + certainty

    def _embed(self, tokens: Tensor, first: int, memory: State) -> Tensor:
        """(B, T) tokens, the first at position ``first`` -> (B, T, H)."""
        words = F.embedding(tokens, self.output.weight, padding_idx=PAD)
        words = words * math.sqrt(self.hidden_size)
        words = words + positions(first, tokens.shape[1], self.hidden_size, tokens.device)
        embedded: Tensor = self.dropout(words.to(memory[_seen(0)[0]].dtype))
        return embedded


def positions(first: int, count: int, size: int, device: torch.device) -> Tensor:
    """Sinusoids (count, size) of the positions from ``first`` on (Vaswani et al., section 3.5)."""
    place = torch.arange(first, first + count, device=device, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, size, 2, device=device) * (-math.log(10_000.0) / size))
    return torch.stack([(place * rate).sin(), (place * rate).cos()], dim=-1).flatten(1)


def _said(layer: int) -> tuple[str, str]:
    """The state's names for a layer's keys and values of the words.

    Each layer has its own entries, so that adding a word copies only that layer's.
    """
    return f"keys.{layer}", f"values.{layer}"


def _seen(layer: int) -> tuple[str, str]:
    """The state's names for a layer's keys and values of regions and concepts."""
    return f"region_keys.{layer}", f"region_values.{layer}"
