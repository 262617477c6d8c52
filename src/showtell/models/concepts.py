"""Words that the encoder's own classifier has for a picture, as something more to look at.

An ImageNet classifier tells a thousand things apart; captioned pictures of some one kind show few
of them. A decoder that gets the classifier's words beside the regions, and has learnt from
captions without pictures how people speak of them, can name what no picture of its training had
(the entities of Fei et al. 2023, arXiv 2307.16525, section 3.2; here the words come from a
classifier and not from a retrieval).
"""

from dataclasses import dataclass
from importlib import resources
from typing import NamedTuple

import torch
from torch import Tensor, nn

from showtell.text.vocabulary import PAD, UNK, Vocabulary

SMALLEST = 0.05  # a probability below which a word is not worth a look
MOST_WORDS = 2  # of a class


class Concepts(NamedTuple):
    """Words that may fit a picture.

    Attributes:
        words: (P, K) ids of the vocabulary, ``<pad>`` where there are fewer.
        scores: (P, K) how sure the classifier is of each, from 0 to 1.
    """

    words: Tensor
    scores: Tensor

    def to(self, device: torch.device | str) -> "Concepts":
        """The same on another device."""
        return Concepts(self.words.to(device), self.scores.to(device))


@dataclass(frozen=True)
class Classes:
    """A classifier's last layer, with words for its classes.

    Attributes:
        weight: (C, D), on pooled features.
        bias: (C,).
        words: for each class what captions call it; "" where they have no word for it.
    """

    weight: Tensor
    bias: Tensor
    words: tuple[str, ...]


def imagenet_words() -> tuple[str, ...]:
    """What captions call each of ImageNet's 1,000 classes, a word or two; "" for some.

    The classes' names are WordNet's; where captions have a more common word ("dog" for 118
    breeds), it is that.
    """
    text = resources.files("showtell.models").joinpath("imagenet_words.txt").read_text("utf-8")
    return tuple(text.split("\n")[:-1])


def class_ids(classes: Classes, vocabulary: Vocabulary) -> list[list[int]]:
    """For each class the words of it that are one id of the vocabulary, ``MOST_WORDS`` at most."""
    found = []
    for name in classes.words:
        ids = [pieces[0] for pieces in vocabulary.encode_each(name.split()) if len(pieces) == 1]
        found.append([index for index in ids if index != UNK][:MOST_WORDS])
    return found


class ConceptReader(nn.Module):
    """Pooled features to the likeliest words of their classes.

    Its weights are the encoder's and do not train; they are kept with the decoder, so that stored
    features are enough to caption from.

    Args:
        num_classes: C.
        feature_size: D.
        num_words: K words a picture.
        vocab_size: V.
    """

    def __init__(
        self, *, num_classes: int, feature_size: int, num_words: int, vocab_size: int
    ) -> None:
        super().__init__()
        self.num_words, self.vocab_size = num_words, vocab_size
        self.weight: Tensor
        self.bias: Tensor
        self.class_words: Tensor
        self.register_buffer("weight", torch.zeros(num_classes, feature_size))
        self.register_buffer("bias", torch.zeros(num_classes))
        self.register_buffer("class_words", torch.zeros(num_classes, MOST_WORDS, dtype=torch.int64))

    def fill(self, classes: Classes, vocabulary: Vocabulary) -> None:
        """Take over a classifier; of its words those that are one id of the vocabulary."""
        self.weight.copy_(classes.weight)
        self.bias.copy_(classes.bias)
        for number, known in enumerate(class_ids(classes, vocabulary)):
            self.class_words[number, : len(known)] = torch.tensor(known, dtype=torch.int64)

    @torch.no_grad()
    def forward(self, pooled: Tensor) -> Concepts:
        """(P, D) -> the ``num_words`` likeliest words; a word's classes add up."""
        with torch.autocast(pooled.device.type, enabled=False):
            logits = torch.addmm(self.bias, pooled.float(), self.weight.T)
            chances = logits.softmax(dim=1)
            totals = chances.new_zeros(len(pooled), self.vocab_size)
            for words in self.class_words.unbind(dim=1):
                totals = totals.scatter_add(1, words.expand_as(chances), chances)
        totals[:, PAD] = 0
        scores, words = totals.topk(self.num_words, dim=1)
        return Concepts(words.masked_fill(scores < SMALLEST, PAD), scores)
