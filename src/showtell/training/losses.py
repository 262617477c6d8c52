"""Cross-entropy over caption tokens; padding never counts."""

import math
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from showtell.models.base import Decoder, Features
from showtell.text.vocabulary import PAD


class CaptionLoss(NamedTuple):
    """Losses of one batch, in nats a token.

    Attributes:
        objective: what is minimised, label smoothing and the decoder's own penalty included.
        nll: negative log-likelihood, detached; its exponential is the perplexity.
        num_tokens: how many tokens were predicted, ``<end>`` counted.
    """

    objective: Tensor
    nll: Tensor
    num_tokens: int


def cross_entropy(
    decoder: Decoder,
    features: Features,
    inputs: Tensor,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
) -> CaptionLoss:
    """Teacher forcing (Vinyals et al. 2015, equation 13), averaged over the real tokens.

    Args:
        inputs: (B, T) ids, ``<start>`` first.
        targets: (B, T) the id after each input, ``<pad>`` where there is none.
        label_smoothing: share of the target given to all words alike (Szegedy et al. 2016,
            arXiv 1512.00567, section 7).
    """
    states, penalty = decoder.hidden_states(features, inputs)
    hidden = states.flatten(0, 1)
    targets = targets.flatten()
    real = targets != PAD
    num_tokens = int(real.sum())
    if num_tokens < len(targets):
        # Padding is dropped before the product with the vocabulary, the step's largest.
        hidden, targets = hidden[real], targets[real]
    logits = decoder.output(hidden).float()
    nll = F.cross_entropy(logits, targets)
    objective = nll
    if label_smoothing:
        # E_q[-log p] for q = (1 - a) one-hot + a / V, without a second pass over the logits' exp.
        mean_logit = logits.mean()
        target_logit = logits.gather(1, targets[:, None]).mean()
        objective = objective + label_smoothing * (target_logit - mean_logit)
    if penalty is not None:
        objective = objective + penalty
    return CaptionLoss(objective, nll.detach(), num_tokens)


def perplexity(nll: float) -> float:
    """The exponential of a loss in nats a token; beyond what a double can hold, e**700."""
    return math.exp(min(nll, 700.0))
