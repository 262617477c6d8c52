"""Concepts: words from the encoder's own classifier, as something more for a decoder to attend to.

An ImageNet classifier distinguishes a thousand things; captioned pictures of one kind show few of
them. A decoder that gets the classifier's words beside the regions, and has learnt from captions
without pictures how people use the words, can name things that no training picture showed (the
entities of Fei et al. 2023, arXiv 2307.16525, section 3.2; here the words come from a classifier
instead of a retrieval).
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from showtell.core.fixed_rows import fixed_rows_for
from showtell.encoders.features import Closer, Concepts
from showtell.text.vocabulary import PAD, UNK, Vocabulary

LEAST_CHANCE = 0.004  # of a class; smaller ones of 118 breeds add up to a dog that is not there
SMALLEST = 0.05  # words of a smaller probability are left out
MOST_WORDS = 2  # of a class
RARE = 10  # a word with fewer training captions than this was not learnt from pictures
UNCOMMON = 50  # a word with fewer was learnt badly
WINDOW = 0.75  # share of the grid's side; a small thing fills more of a window than of the picture


@dataclass(frozen=True)
class Classes:
    """A classifier's last layer, with words for its classes.

    Attributes:
        weight: (C, D), on pooled features.
        bias: (C,).
        words: for each class, what captions call it; "" if they have no word for it.
    """

    weight: Tensor
    bias: Tensor
    words: tuple[str, ...]


def imagenet_words() -> tuple[str, ...]:
    """What captions call each of ImageNet's 1,000 classes, a word or two; "" for some.

    The classes' names are WordNet's, except where captions have a more common word ("dog" for 118
    breeds).
    """
    text = resources.files("showtell.encoders").joinpath("imagenet_words.txt").read_text("utf-8")
    return tuple(text.split("\n")[:-1])


def class_ids(classes: Classes, vocabulary: Vocabulary) -> list[list[int]]:
    """For each class, at most ``MOST_WORDS`` of its words that are one id of the vocabulary.

    The words are English; in a vocabulary of another language they would be other things ("rock" is
    a skirt in German), so there none is found.
    """
    if not vocabulary.segmentation.is_english:
        return [[] for _ in classes.words]
    found = []
    for name in classes.words:
        ids = [pieces[0] for pieces in vocabulary.encode_each(name.split()) if len(pieces) == 1]
        found.append([index for index in ids if index != UNK][:MOST_WORDS])
    return found


class ConceptReader(nn.Module):
    """From pooled features to the likeliest words of their classes.

    Its weights are those of the encoder's classifier and do not train. They are kept with the
    decoder, so that captioning needs only stored features.

    Args:
        num_classes: C.
        feature_size: D.
        num_words: K words a picture.
        vocab_size: V.

    Attributes:
        counts: (V,) how often the captions of the training pictures have each word.
    """

    def __init__(
        self, *, num_classes: int, feature_size: int, num_words: int, vocab_size: int
    ) -> None:
        super().__init__()
        self.num_words, self.vocab_size = num_words, vocab_size
        self.weight: Tensor
        self.bias: Tensor
        self.class_words: Tensor
        self.counts: Tensor
        self.register_buffer("weight", torch.zeros(num_classes, feature_size))
        self.register_buffer("bias", torch.zeros(num_classes))
        self.register_buffer("class_words", torch.zeros(num_classes, MOST_WORDS, dtype=torch.int64))
        self.register_buffer("counts", torch.zeros(vocab_size, dtype=torch.int64))

    def fill(self, classes: Classes, vocabulary: Vocabulary, counts: Tensor) -> None:
        """Copy a classifier, with those of its words that are one id of the vocabulary.

        Args:
            counts: (V,) how often the captions of the training pictures have each id.
        """
        self.weight.copy_(classes.weight)
        self.bias.copy_(classes.bias)
        self.counts.copy_(counts)
        self.name_classes(classes, vocabulary)

    def name_classes(self, classes: Classes, vocabulary: Vocabulary) -> None:
        """Set which ids of the vocabulary the classes' words are; as ``fill`` does."""
        for number, known in enumerate(class_ids(classes, vocabulary)):
            self.class_words[number, : len(known)] = torch.tensor(known, dtype=torch.int64)

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        """As torch has it; also refuse ids that are not of the vocabulary, before they are used."""
        super()._load_from_state_dict(state, prefix, *rest)
        words = state.get(f"{prefix}class_words")
        if words is not None and not ((words >= 0) & (words < self.vocab_size)).all():
            rest[-1].append(f"{prefix}class_words names words that the vocabulary does not have")

    @torch.no_grad()
    def forward(self, pooled: Tensor) -> Concepts:
        """(P, D) -> the ``num_words`` likeliest words; a word has the sum of its classes."""
        return self._likeliest(self._by_word(self._chances(pooled)))

    @torch.no_grad()
    def look_closer(self, pooled: Tensor, regions: Tensor) -> Closer | None:
        """Classify windows of a square grid (P, R, D), whose mean is the pooled features (P, D).

        Returns:
            None if the grid is not square or of another width.
        """
        side = math.isqrt(regions.shape[1])
        if side**2 != regions.shape[1] or regions.shape[2] != self.weight.shape[1]:
            return None
        views = _windows(side).to(regions) @ regions
        totals = self._by_word(self._chances(views).amax(dim=1)).clamp(max=1.0)
        score, word = (totals * (self.counts < RARE)).max(dim=1)
        whole = self._by_word(self._chances(pooled)).clamp(max=1.0)
        uncommon = (whole * (self.counts < UNCOMMON)).amax(dim=1)
        return Closer(word.masked_fill(score == 0, PAD), score, uncommon, self._likeliest(totals))

    def _chances(self, pooled: Tensor) -> Tensor:
        """(..., D) -> (..., C) probabilities, 0 where below ``LEAST_CHANCE``."""
        with torch.autocast(pooled.device.type, enabled=False), fixed_rows_for(pooled):
            chances = F.linear(pooled.float(), self.weight, self.bias).softmax(dim=-1)
        return chances.masked_fill(chances < LEAST_CHANCE, 0.0)

    def _by_word(self, chances: Tensor) -> Tensor:
        """(P, C) -> (P, V)."""
        totals = chances.new_zeros(chances.shape[0], self.vocab_size)
        for words in self.class_words.unbind(dim=1):
            totals = totals.scatter_add(1, words.expand_as(chances), chances)
        totals[:, PAD] = 0
        return totals

    def _likeliest(self, totals: Tensor) -> Concepts:
        scores, words = totals.topk(min(self.num_words, self.vocab_size), dim=1)
        return Concepts(words.masked_fill(scores < SMALLEST, PAD), scores)


@lru_cache(maxsize=8)
def _windows(side: int) -> Tensor:
    """(W, side ** 2) the mean over each square window of the grid."""
    size = max(round(WINDOW * side), 1)
    first = torch.arange(side - size + 1)[:, None]
    places = torch.arange(side)
    inside = ((first <= places) & (places < first + size)).float() / size
    return torch.einsum("ar,bc->abrc", inside, inside).reshape(-1, side**2)
