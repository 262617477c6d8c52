"""A detector of caption words in the regions of a picture, learnt from the captions alone.

A word is in a picture if any region shows it: the noisy-OR of Fang et al. 2015 (arXiv 1411.4952,
section 3, equation 1). The likeliest words are then something more for a decoder to attend to, as
the attributes of You et al. 2016 (arXiv 1603.03925), and captions without pictures can stand in for
them (``training/text_captions.py``).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from showtell.encoders.concepts import Concepts
from showtell.text.vocabulary import PAD

FEW_REGIONS = 64  # about as many as a grid has; sets only where the probabilities begin
LEAST = 0.05  # words of a smaller probability are left out
LEAST_EVIDENCE = 1e-6  # in nats; keeps the logarithm of a probability finite


class WordDetector(nn.Module):
    """Probabilities that captions of a picture have each of some words.

    Args:
        size: H, width of a region.
        num_detected: W, how many words it knows.
        num_words: K, how many of them it gives for a picture.
        vocab_size: V.

    Attributes:
        words: (W,) their ids.
        prior: (W,) the share of training pictures whose captions have each word.
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

    def loss(self, evidence: Tensor, present: Tensor) -> Tensor:
        """Cross-entropy of the words, summed over them, the mean over pictures.

        Args:
            evidence: (P, W).
            present: (P, W) True where captions of the picture have the word.
        """
        found = -torch.log(-torch.expm1(-evidence.clamp(min=LEAST_EVIDENCE)))
        return torch.where(present, found, evidence).sum(dim=1).mean()

    def present(self, tokens: Tensor, picture_of: Tensor | None, num_pictures: int) -> Tensor:
        """(B, T) captions of P pictures -> (P, W) which of the words they have."""
        if picture_of is None:
            picture_of = torch.arange(num_pictures, device=tokens.device)
        has = torch.zeros(num_pictures, self.vocab_size, dtype=torch.bool, device=tokens.device)
        has[picture_of[:, None].expand_as(tokens), tokens] = True
        return has[:, self.words]

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


def commonest(counts: Tensor, num_pictures: int, num: int) -> tuple[Tensor, Tensor]:
    """The ids that captions of most pictures have, and the share of pictures.

    Args:
        counts: (V,) pictures whose captions have each id.
        num: how many ids at most; those that no caption has are left out.
    """
    shares = counts.double() / max(num_pictures, 1)
    best = torch.argsort(shares, descending=True, stable=True)[:num]
    best = best[shares[best] > 0]
    return best, shares[best].float()
