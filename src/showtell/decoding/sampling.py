"""Sampling: captions drawn at random, with temperature, top-k and top-p.

Top-k follows Fan et al. 2018 (arXiv 1805.04833, section 5.4), top-p (nucleus sampling) Holtzman et
al. 2020 (arXiv 1904.09751, section 3.1). The filters apply in the order temperature, top-k, top-p,
each to the renormalised result of the one before.

Random numbers are a function of the seed, the picture's number, the sample's number and the
position, instead of a stream. A picture's samples are therefore the same in any batch and on any
device.
"""

from collections.abc import Sequence

import numpy as np

from showtell.decoding.arrays import (
    NEVER,
    Array,
    Arrays,
    Floats,
    Ids,
    arrays_of,
)
from showtell.decoding.constraints import Constraint, build_constraints
from showtell.decoding.hypotheses import (
    ATTENTION,
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
    start: int = START,
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
        start: what captions begin with, unsaid.
    """
    if constraints is None:
        constraints = build_constraints(max_tokens=max_length)
    arrays, num_pictures = arrays_of(features.pooled), len(features.pooled)
    num = num_pictures * num_captions
    tokens = np.full((num, max_length + 1), PAD)
    token_log_probs = np.zeros((num, max_length + 1), np.float32)
    attention: Floats | None = None
    active = np.arange(num)
    numbers = first * num_captions + active  # first picture's samples, second picture's ...
    keys = _mix(_mix(np.full_like(numbers, seed)) + numbers * _GOLDEN)
    with arrays.no_grad():
        state = decoder.init_state(features)
        if not with_attention:
            state.pop(ATTENTION, None)
        state = reorder(arrays, state, active // num_captions)
        for position in range(max_length + 1):
            if not len(active):
                break
            prefixes = tokens[active, :position]
            last = prefixes[:, -1] if position else np.full_like(active, start)
            log_probs, state = decoder.step(arrays.from_host(last), state)
            if with_attention and ATTENTION in state:
                weights = arrays.to_host(state[ATTENTION])
                if attention is None:
                    attention = np.zeros((*tokens.shape, weights.shape[1]), weights.dtype)
                attention[active, position] = weights
            for constraint in constraints:
                log_probs = constraint(log_probs, prefixes, position)
            uniform = _uniform(keys[active] + _wrap((position + 1) * _GOLDEN))
            drawn = draw(
                log_probs,
                arrays.from_host(uniform),
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
            )
            gained = arrays.to_host(arrays.gather(log_probs, drawn[:, None]))[:, 0]
            tokens[active, position] = said = arrays.to_host(drawn)
            token_log_probs[active, position] = gained
            goes_on = (said != END) & (gained > NEVER)
            if not goes_on.all():
                active = active[goes_on]
                state = reorder(arrays, state, np.flatnonzero(goes_on))
    return _best_first(
        tokens, token_log_probs, attention, num_captions=num_captions, penalty=length_penalty
    )


def _best_first(
    tokens: Ids,
    token_log_probs: Floats,
    attention: Floats | None,
    *,
    num_captions: int,
    penalty: float,
) -> Hypotheses:
    """Order each picture's samples, (B K, T), by their scores."""
    # In fp64: the last bit must not depend on the longest caption of the batch.
    log_probs = token_log_probs.sum(axis=1, dtype=np.float64).astype(np.float32)
    lengths = (tokens != PAD).sum(axis=1).clip(min=1).astype(np.float64)
    scores = log_probs / (lengths**penalty).astype(np.float32)
    order = np.argsort(-scores.reshape(-1, num_captions), axis=1, kind="stable")
    rows = np.arange(len(order))[:, None] * num_captions + order
    found = Hypotheses(
        tokens=tokens[rows],
        token_log_probs=token_log_probs[rows],
        log_probs=log_probs[rows],
        scores=scores[rows],
        attention=None if attention is None else attention[rows],
    )
    return cut_to_longest(found)


def draw(
    log_probs: Array,
    uniform: Array,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Array:
    """Draw one token a row from what the filters leave, by inverting the cumulative distribution.

    Args:
        log_probs: (N, V), not necessarily normalised; -inf where a token may not come.
        uniform: (N,) in [0, 1).

    Returns:
        (N,) tokens; where all are -inf, any.
    """
    arrays = arrays_of(log_probs)
    xp = arrays.xp
    log_probs = arrays.cast(log_probs, "float32")
    # The largest becomes 1 at any temperature; a row of -inf alone stays one.
    largest = xp.clip(xp.amax(log_probs, axis=1, keepdims=True), -1e30, None)
    temperature = min(max(temperature, 1e-30), 1e30)  # fp32 would make 0 or inf of one far beyond
    weights = xp.exp((log_probs - largest) / temperature)
    ids = None
    if top_k is not None or top_p is not None:
        weights, ids = _likeliest(arrays, weights, top_k, top_p)
    upto = arrays.cumsum(weights)
    place = xp.sum(upto <= uniform[:, None] * upto[:, -1:], axis=1, keepdims=True)
    # Rounding must not choose what has no probability.
    place = xp.clip(place, None, weights.shape[1] - 1)
    is_possible = arrays.gather(weights, place) > 0
    place = xp.where(is_possible, place, xp.argmax(weights, axis=1, keepdims=True))
    return (place if ids is None else arrays.gather(ids, place))[:, 0]


def _likeliest(
    arrays: Arrays, weights: Array, top_k: int | None, top_p: float | None
) -> tuple[Array, Array]:
    """The largest of (N, V) weights and their ids; 0 for the tokens that a filter removes."""
    xp, size = arrays.xp, weights.shape[1]
    num = min(top_k or _FIRST_NUCLEUS, size)
    best, ids = arrays.top_k(weights, num)
    if top_p is None:
        return best, ids
    mass = top_p * xp.sum(best if top_k else weights, axis=1, keepdims=True)
    while top_k is None and num < size and bool((best.sum(axis=1, keepdims=True) < mass).any()):
        num = min(4 * num, size)
        best, ids = arrays.top_k(weights, num)
    before = xp.roll(arrays.cumsum(best), 1, 1)
    before[:, 0] = 0.0
    outside = before >= mass
    outside[:, 0] = False
    best[outside] = 0.0
    return best, ids


def _wrap(number: int) -> int:
    """To 64 signed bits."""
    return (number + 2**63) % 2**64 - 2**63


def _mix(x: Ids) -> Ids:
    """SplitMix64's finaliser on (N,) 64-bit integers; products wrap."""
    x = (x ^ (x >> 30 & (1 << 34) - 1)) * _MIX_1
    x = (x ^ (x >> 27 & (1 << 37) - 1)) * _MIX_2
    return x ^ (x >> 31 & (1 << 33) - 1)


def _uniform(x: Ids) -> Floats:
    """(N,) integers -> (N,) numbers in [0, 1), of 24 bits."""
    found: Floats = (_mix(x) >> 40 & (1 << 24) - 1).astype(np.float32) / np.float32(2**24)
    return found
