"""From a hundred thousand noisy steps to a curve that a page can show.

Knows nothing of drawing.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from showtell.report.reading import Log, Values

MAX_POINTS = 250
STEPS_A_POINT = 8  # fewer leave a curve as noisy as it was


class Curve(NamedTuple):
    """A curve (P,), and where 80 % of what it sums up lies (P,)."""

    x: Values
    y: Values
    low: Values
    high: Values


def smooth(x: Values, y: Values) -> Curve:
    """Means over up to ``MAX_POINTS`` pieces of the steps, with their 10th and 90th percentile.

    Args:
        x: (S,) steps, rising.
        y: (S,) figures.
    """
    pieces = _pieces(len(x))
    bands = [np.quantile(y[piece], (0.1, 0.9)) for piece in pieces]
    low, high = np.array(bands).reshape(-1, 2).T
    return Curve(_means(x, pieces), _means(y, pieces), low, high)


def speed(log: Log) -> tuple[Values, Values]:
    """Tokens a second over the steps, smoothed; validation and saving between epochs left out.

    Returns:
        steps (P,) and tokens a second (P,); empty where the log has no times.
    """
    steps, tokens, seconds = _timed_steps(log)
    pieces = _pieces(len(steps))
    rates = [tokens[piece].sum() / seconds[piece].sum() for piece in pieces]
    return _means(steps, pieces), np.array(rates)


def mean_speed(log: Log) -> float | None:
    """Tokens a second over the whole run, as in ``speed``."""
    _, tokens, seconds = _timed_steps(log)
    return float(tokens.sum() / seconds.sum()) if len(tokens) else None


def _timed_steps(log: Log) -> tuple[Values, Values, Values]:
    """Steps, tokens and seconds of those steps whose time is known: all but an epoch's first."""
    if not {"epoch", "tokens", "seconds"} <= log.steps.keys():
        return np.empty(0), np.empty(0), np.empty(0)
    taken = np.diff(log.steps["seconds"])
    with np.errstate(invalid="ignore"):
        known = (np.diff(log.steps["epoch"]) == 0) & (taken > 0)
    known &= np.isfinite(log.steps["tokens"][1:])
    return log.steps["step"][1:][known], log.steps["tokens"][1:][known], taken[known]


def _pieces(length: int) -> list[slice]:
    """Neighbouring slices that cover ``length`` entries, none empty."""
    wanted = max(min(length, 20), length // STEPS_A_POINT)
    edges = np.linspace(0, length, min(wanted, MAX_POINTS) + 1).astype(int)
    return [slice(a, b) for a, b in pairwise(edges.tolist())]


def _means(values: Values, pieces: list[slice]) -> Values:
    return np.array([values[piece].mean() for piece in pieces])
