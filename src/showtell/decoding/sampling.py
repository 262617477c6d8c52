"""Sampling: captions drawn at random, with temperature, top-k and top-p.

Top-k follows Fan et al. 2018 (arXiv 1805.04833, section 5.4), top-p (nucleus sampling) Holtzman et
al. 2020 (arXiv 1904.09751, section 3.1). The filters apply in the order temperature, top-k, top-p,
each to the renormalised result of the one before.

Random numbers are a function of the seed, the picture's number, the sample's number and the
position, instead of a stream. A picture's samples are therefore the same in any batch and on any
device.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from showtell.decoding.constraints import Constraint, build_constraints
from showtell.decoding.hypotheses import (
    ATTENTION,
    NEVER,
    Hypotheses,
    Steps,
    cut_to_longest,
    reorder,
)
from showtell.encoders.features import Features
from showtell.text.vocabulary import END, PAD, START

# SplitMix64's multipliers (Steele et al. 2014, "Fast Splittable Pseudorandom Number Generators",
# figure 16) as signed numbers.
_MIX_1, _MIX_2 = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_FIRST_NUCLEUS = 64  # most nuclei lie among so many of the likeliest tokens


@torch.no_grad()  # not inference_mode: see Runtime.inference
def sample(
    decoder: Steps,
    features: Features,
    *,
    num_captions: int,
    max_length: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    first: int = 0,
    length_penalty: float = 0.0,
    constraints: Sequence[Constraint] | None = None,
    with_attention: bool = False,
) -> Hypotheses:
    """Draw captions.

    Args:
        decoder: in eval mode.
        features: of ``B`` pictures.
        num_captions: K samples a picture, independent of each other; equal ones are kept.
        max_length: the most tokens before ``<end>``.
        temperature: log-probabilities are divided by it.
        top_k: draw from the k likeliest tokens only.
        top_p: draw from the smallest set of likeliest tokens that has this probability.
        seed: the same seed gives the same captions.
        first: the first picture's number; the others follow.
        length_penalty: alpha of the scores, which order a picture's samples.
        constraints: from ``build_constraints`` with ``max_tokens`` = ``max_length``. They apply
            before the filters. By default only the special tokens are forbidden.
        with_attention: whether to keep where the decoder looked for each token.
    """
    if constraints is None:
        constraints = build_constraints(max_tokens=max_length, device=features.pooled.device)
    device, num_pictures = features.pooled.device, features.pooled.shape[0]
    num = num_pictures * num_captions
    tokens = torch.full((num, max_length + 1), PAD, device=device)
    token_log_probs = torch.zeros((num, max_length + 1), device=device)
    attention: Tensor | None = None
    active = torch.arange(num, device=device)
    numbers = first * num_captions + active  # first picture's samples, second picture's ...
    keys = _mix(_mix(torch.full_like(numbers, seed)) + numbers * _GOLDEN)
    state = decoder.init_state(features)
    if not with_attention:
        state.pop(ATTENTION, None)
    state = reorder(state, active // num_captions)
    for position in range(max_length + 1):
        if not len(active):
            break
        prefixes = tokens[active, :position]
        last = prefixes[:, -1] if position else torch.full_like(active, START)
        log_probs, state = decoder.step(last, state)
        if with_attention and ATTENTION in state:
            weights = state[ATTENTION]
            if attention is None:
                attention = weights.new_zeros((*tokens.shape, weights.shape[1]))
            attention[active, position] = weights
        for constraint in constraints:
            log_probs = constraint(log_probs, prefixes, position)
        drawn = draw(
            log_probs,
            _uniform(keys[active] + _wrap((position + 1) * _GOLDEN)),
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
        )
        gained = log_probs.gather(1, drawn[:, None])[:, 0]
        tokens[active, position] = drawn
        token_log_probs[active, position] = gained
        goes_on = (drawn != END) & (gained > NEVER)
        if not bool(goes_on.all()):
            active = active[goes_on]
            state = reorder(state, goes_on.nonzero()[:, 0])
    return _best_first(
        tokens, token_log_probs, attention, num_captions=num_captions, penalty=length_penalty
    )


def _best_first(
    tokens: Tensor,
    token_log_probs: Tensor,
    attention: Tensor | None,
    *,
    num_captions: int,
    penalty: float,
) -> Hypotheses:
    """Order each picture's samples, (B K, T), by their scores."""
    log_probs = token_log_probs.sum(dim=1)
    # In fp64: the last bit of a power depends on its place in the batch, and must round away.
    lengths = (tokens != PAD).sum(dim=1).clamp(min=1).double()
    scores = log_probs / (lengths**penalty).float()
    order = scores.view(-1, num_captions).topk(num_captions, dim=1).indices
    first = torch.arange(len(order), device=tokens.device) * num_captions
    rows = first[:, None] + order
    found = Hypotheses(
        tokens=tokens[rows],
        token_log_probs=token_log_probs[rows],
        log_probs=log_probs[rows],
        scores=scores[rows],
        attention=None if attention is None else attention[rows],
    )
    return cut_to_longest(found)


def draw(
    log_probs: Tensor,
    uniform: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """Draw one token a row from what the filters leave, by inverting the cumulative distribution.

    Args:
        log_probs: (N, V), not necessarily normalised; -inf where a token may not come.
        uniform: (N,) in [0, 1).

    Returns:
        (N,) tokens; where all are -inf, any.
    """
    log_probs = log_probs.float() / temperature
    # The largest becomes 1; a row of -inf alone stays one.
    weights = (log_probs - log_probs.amax(dim=1, keepdim=True).clamp(min=-1e30)).exp()
    ids = None
    if top_k is not None or top_p is not None:
        weights, ids = _likeliest(weights, top_k, top_p)
    upto = weights.cumsum(dim=1)
    place = (upto <= uniform[:, None] * upto[:, -1:]).sum(dim=1, keepdim=True)
    # Rounding must not choose what has no probability.
    place = place.clamp(max=weights.shape[1] - 1)
    is_possible = weights.gather(1, place) > 0
    place = torch.where(is_possible, place, weights.argmax(dim=1, keepdim=True))
    return (place if ids is None else ids.gather(1, place))[:, 0]


def _likeliest(weights: Tensor, top_k: int | None, top_p: float | None) -> tuple[Tensor, Tensor]:
    """The largest of (N, V) weights and their ids; 0 for the tokens that a filter removes."""
    size = weights.shape[1]
    num = min(top_k or _FIRST_NUCLEUS, size)
    best, ids = weights.topk(num, dim=1)
    if top_p is None:
        return best, ids
    mass = top_p * (best if top_k else weights).sum(dim=1, keepdim=True)
    while top_k is None and num < size and bool((best.sum(dim=1, keepdim=True) < mass).any()):
        num = min(4 * num, size)
        best, ids = weights.topk(num, dim=1)
    before = best.cumsum(dim=1).roll(1, dims=1)
    before[:, 0] = 0.0
    outside = before >= mass
    outside[:, 0] = False
    return best.masked_fill(outside, 0.0), ids


def _wrap(number: int) -> int:
    """To 64 signed bits."""
    return (number + 2**63) % 2**64 - 2**63


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on (N,) 64-bit integers; products wrap."""
    x = (x ^ (x >> 30 & (1 << 34) - 1)) * _MIX_1
    x = (x ^ (x >> 27 & (1 << 37) - 1)) * _MIX_2
    return x ^ (x >> 31 & (1 << 33) - 1)


def _uniform(x: Tensor) -> Tensor:
    """(N,) integers -> (N,) numbers in [0, 1), of 24 bits."""
    return (_mix(x) >> 40 & (1 << 24) - 1).float() / 2**24
