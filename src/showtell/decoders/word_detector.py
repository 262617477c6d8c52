"""A detector of caption words in the regions of a picture, learnt from the captions alone.

A word is said of a picture if any region shows it: the noisy-OR of Fang et al. 2015 (arXiv
1411.4952, section 3, equation 1). What is learnt is whether one caption has the word, not whether
any of a picture's five has it, since the decoder says one. The likeliest words are then something
more for a decoder to attend to, as the attributes of You et al. 2016 (arXiv 1603.03925), and
captions without pictures can stand in for them (``training/text_captions.py``).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from showtell.encoders.features import Concepts
from showtell.text.vocabulary import PAD

FEW_REGIONS = 64  # about as many as a grid has; sets only where the probabilities begin
LEAST = 0.05  # words of a smaller probability are left out
LEAST_EVIDENCE = 1e-6  # in nats; keeps the logarithm of a probability finite


class WordDetector(nn.Module):
    """Probabilities that a caption of a picture has each of some words.

    Args:
        size: H, width of a region.
        num_detected: W, how many words it knows.
        num_words: K, how many of them it gives for a picture.
        vocab_size: V.

    Attributes:
        words: (W,) their ids.
        prior: (W,) the share of training captions that have each word.
    """

    def __init__(self, *, size: int, num_detected: int, num_words: int, vocab_size: int) -> None:
        super().__init__()
        self.num_words, self.vocab_size = min(num_words, num_detected), vocab_size
        self.logits = nn.Linear(size, num_detected)
        self.words: Tensor
        self.prior: Tensor
        self.register_buffer("words", torch.zeros(num_detected, dtype=torch.int64))
        self.register_buffer("prior", torch.full((num_detected,), 0.5))
        nn.init.normal_(self.logits.weight, std=0.01)

    @torch.no_grad()
    def fill(self, words: Tensor, prior: Tensor) -> None:
        """Set what is detected; before anything is learnt each word has its prior probability.

        Args:
            words: (W,) ids; fewer than W where the captions have fewer words.
            prior: likewise.
        """
        num = len(words)
        self.words[:num], self.prior[:num] = words, prior
        evidence = -torch.log1p(-prior.clamp(1e-4, 1 - 1e-4)) / FEW_REGIONS
        self.logits.bias[:num] = torch.log(torch.expm1(evidence))
        self.logits.bias[num:] = -20.0

    def known(self) -> tuple[Tensor, Tensor]:
        """The ids of the words that it was filled with, and their priors."""
        is_filled = self.words != PAD
        return self.words[is_filled].cpu(), self.prior[is_filled].cpu()

    def evidence(self, regions: Tensor, mask: Tensor | None) -> Tensor:
        """(P, R, H) -> (P, W) in nats: minus the log-probability that no region shows the word.

        The noisy-OR is 1 - exp(-evidence), as log(1 - sigmoid(z)) = -softplus(z).
        """
        each = F.softplus(self.logits(regions).float())
        if mask is not None:
            each = each * mask[..., None]
        return each.sum(dim=1)

    def loss(self, evidence: Tensor, captions: Tensor, picture_of: Tensor | None) -> Tensor:
        """Cross-entropy of which words a caption has, summed over the words; the captions' mean.

        Args:
            evidence: (P, W).
            captions: (B, T) ids.
            picture_of: (B,) the picture of each; None if each picture has one, in their order.
        """
        has = torch.zeros(len(captions), self.vocab_size, dtype=torch.bool, device=captions.device)
        has = has.scatter(1, captions, True)[:, self.words].float()
        num = torch.ones(len(captions), 1, device=captions.device)
        if picture_of is not None:  # the sums over each picture's captions
            has = has.new_zeros(evidence.shape).index_add(0, picture_of, has)
            num = num.new_zeros(len(evidence), 1).index_add(0, picture_of, num)
        found = -torch.log(-torch.expm1(-evidence.clamp(min=LEAST_EVIDENCE)))
        losses = has * found + (num - has) * evidence
        return (losses * (self.words != PAD)).sum() / len(captions)

    @torch.no_grad()
    def concepts(self, evidence: Tensor) -> Concepts:
        """(P, W) -> the K words that say most."""
        probability = -torch.expm1(-evidence)
        worth = what_a_word_says(probability, self.prior)
        best = worth.topk(self.num_words, dim=1).indices
        scores = probability.gather(1, best)
        is_seen = (worth.gather(1, best) > 0) & (scores >= LEAST)
        words = self.words[best].masked_fill(~is_seen, PAD)
        return Concepts(words, scores.masked_fill(~is_seen, 0.0))

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        """As torch has it; also refuse ids that are not of the vocabulary, before they are used."""
        super()._load_from_state_dict(state, prefix, *rest)
        words = state.get(f"{prefix}words")
        if words is not None and not ((words >= 0) & (words < self.vocab_size)).all():
            rest[-1].append(f"{prefix}words names words that the vocabulary does not have")


def what_a_word_says(probability: Tensor, prior: Tensor) -> Tensor:
    """p log(p / prior): a word that most captions have says little, in any language.

    So "a" is never among the likeliest words, without a list of such words.
    """
    return probability * (torch.log(probability.clamp(min=1e-6)) - torch.log(prior))


def commonest(counts: Tensor, num_captions: int, num: int) -> tuple[Tensor, Tensor]:
    """The ids that most captions have, and the share of captions.

    Args:
        counts: (V,) captions that have each id.
        num: how many ids at most; those that no caption has are left out.
    """
    shares = counts.double() / max(num_captions, 1)
    best = torch.argsort(shares, descending=True, stable=True)[:num]
    best = best[shares[best] > 0]
    return best, shares[best].float()
