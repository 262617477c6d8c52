"""Losses over caption tokens: cross-entropy, and the policy gradient. Padding never counts."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from showtell.models.base import Decoder, Features
from showtell.text.vocabulary import PAD, START, UNK

NEVER_SAID = (PAD, START, UNK)  # a caption is drawn from the other words alone


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
    logits = decoder.output(hidden)
    objective, nll = _SmoothedCrossEntropy.apply(logits, targets, label_smoothing)  # type: ignore[no-untyped-call]
    if penalty is not None:
        objective = objective + penalty
    return CaptionLoss(objective, nll, num_tokens)


def policy_gradient(
    decoder: Decoder, features: Features, samples: Tensor, advantages: Tensor
) -> Tensor:
    """REINFORCE with a baseline (Rennie et al. 2017, arXiv 1612.00563, equations 5-7).

    Its gradient is that of minus the expected reward, summed over captions, as estimated from
    samples, over the number of tokens. A penalty of the decoder's own, which belongs to its
    cross-entropy, is left out.

    Args:
        samples: (N, T) ids without ``<start>``, drawn from the words that are not ``NEVER_SAID``;
            ``<pad>`` after ``<end>``.
        advantages: (N,) reward less baseline of each sample.

    Returns:
        Scalar: -(advantage) log p(token), averaged over all tokens.
    """
    real = samples != PAD
    start = torch.full_like(samples[:, :1], START)
    inputs = torch.cat([start, samples[:, :-1]], dim=1).masked_fill(~real, PAD)
    hidden = decoder.hidden_states(features, inputs).states[real]
    never = torch.tensor(NEVER_SAID, device=samples.device)
    logits = decoder.output(hidden).float().index_fill(1, never, float("-inf"))
    nll = F.cross_entropy(logits, samples[real], reduction="none")
    weights = advantages[:, None].expand_as(samples)[real]
    return (weights * nll).mean()


class _SmoothedCrossEntropy(Function):
    """Mean of E_q[-log p] for q = (1 - a) one-hot + a / V, and of -log p, over N tokens.

    Its gradient, (p - q) / N, is written down: derived step by step from the logits' mean and the
    targets' logits it takes three passes more over (N, V) numbers, a tenth of a decoder's step.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: Tensor, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """(N, V) logits in any type, (N,) targets -> two scalars in fp32."""
        log_probs = F.log_softmax(logits, dim=1, dtype=torch.float32)
        nll = -log_probs.gather(1, targets[:, None]).mean()
        objective = nll.clone()
        if smoothing:
            objective = (1 - smoothing) * nll - smoothing * log_probs.mean()
        ctx.save_for_backward(log_probs, targets)
        ctx.smoothing, ctx.dtype = smoothing, logits.dtype
        ctx.mark_non_differentiable(nll)
        return objective, nll

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        """Of the objective alone."""
        log_probs, targets = ctx.saved_tensors
        difference = log_probs.exp()
        if ctx.smoothing:
            difference -= ctx.smoothing / log_probs.shape[1]
        rows = torch.arange(len(targets), device=targets.device)
        difference[rows, targets] -= 1 - ctx.smoothing
        difference *= gradient / len(targets)
        return difference.to(ctx.dtype), None, None


def perplexity(nll: float) -> float:
    """The exponential of a loss in nats a token; beyond what a double can hold, e**700."""
    return math.exp(min(nll, 700.0))
