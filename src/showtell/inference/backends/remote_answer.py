"""What a server's answer says, whatever is missing or odd beside the caption."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MOST_TOKENS = 2**31  # of one answer; a larger count is none


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server says of a picture.

    Attributes:
        text: as it came.
        tokens: each token's text with its log-probability in nats; empty where the server does not
            tell.
        is_cut: whether it reached the most tokens that were asked for.
        tokens_in, tokens_out: as the server counts them; 0 where it does not.
    """

    text: str
    tokens: tuple[tuple[str, float], ...] = ()
    is_cut: bool = False
    tokens_in: int = 0
    tokens_out: int = 0


def word_log_probs(tokens: Sequence[tuple[str, float]]) -> tuple[float, ...]:
    """The log-probability of each word, the sum over its tokens; servers do not tell the end's.

    Args:
        tokens: text and log-probability of each; a token that begins with a space, or follows one,
            begins a word.

    Returns:
        In nats; empty where any value is not a log-probability.
    """
    if any(not (math.isfinite(value) and value <= 1e-6) for _, value in tokens):
        return ()
    words: list[float] = []
    is_within = False
    for text, value in tokens:
        if not text.strip():  # a space, or what ends the answer
            is_within = False
            if words:
                words[-1] += min(value, 0.0)
            continue
        if is_within and not text[0].isspace():
            words[-1] += min(value, 0.0)
        else:
            words.append(min(value, 0.0))
        is_within = not text[-1].isspace()
    return tuple(words)


def tokens_of(listed: Any) -> tuple[tuple[str, float], ...]:
    """The tokens that an answer lists, as ``Answer.tokens``; empty where any is none.

    What stands beside a caption is never the reason for which it is lost.
    """
    try:
        return tuple((str(one["token"]), float(one["logprob"])) for one in listed)
    except (KeyError, TypeError, ValueError, OverflowError):
        return ()


def count_of(usage: Any, name: str) -> int:
    """How many tokens an answer says were used; 0 where it says no number."""
    try:
        found = int(usage[name])
    except (KeyError, TypeError, ValueError, OverflowError):
        return 0
    return found if 0 <= found < MOST_TOKENS else 0
