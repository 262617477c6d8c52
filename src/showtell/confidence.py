"""How sure a model is of a caption, as a number that means something.

The geometric mean of the words' probabilities orders captions, but is no probability of anything:
label smoothing lowers it, self-critical training raises it. A model may carry a calibration
(Platt 1999, "Probabilistic Outputs for Support Vector Machines", section 2): its confidence then
is the share of captions with that mean that are acceptable, which is that their own CIDEr-D
reaches a threshold. ``reliability.py`` fits it. Knows nothing of decoding.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

CALIBRATION = "calibration"  # its place in a checkpoint's metrics.json


@dataclass(frozen=True, slots=True)
class Calibration:
    """confidence = 1 / (1 + exp(-(slope * m + offset))), m a caption's mean log-probability.

    Attributes:
        slope: per nat; positive, so that the order of captions stays.
        cider: CIDEr-D, 0 to 10, from which on a caption counts as acceptable.
        num_captions: how many it was fitted on.
        data: which captions these were, for people.
    """

    slope: float
    offset: float
    cider: float
    num_captions: int = 0
    data: str = ""

    def __call__(self, mean_log_prob: float) -> float:
        """Confidence, 0 to 1, of a caption with this mean log-probability in nats."""
        value = self.slope * mean_log_prob + self.offset
        if value < 0:  # so that neither exp can overflow
            return math.exp(value) / (1 + math.exp(value))
        return 1 / (1 + math.exp(-value))

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint's ``metrics.json``."""
        return asdict(self)

    @classmethod
    def of(cls, metrics: Mapping[str, Any]) -> Self | None:
        """The calibration of a checkpoint with these ``metrics``; None where it has none.

        Raises:
            ValueError: it is none of ours.
        """
        values = metrics.get(CALIBRATION)
        if values is None:
            return None
        try:
            found = cls(**values)
            usable = found.slope > 0 and math.isfinite(found.slope + found.offset)
        except TypeError as error:
            raise ValueError(f"{CALIBRATION}: {error}") from None
        if not usable:
            raise ValueError(f"{CALIBRATION}: slope = {found.slope}, offset = {found.offset}")
        return found


def geometric_mean(log_probs: tuple[float, ...]) -> float:
    """Of the probabilities of a caption's words and end, 0 to 1; 0 where there are none."""
    return math.exp(sum(log_probs) / len(log_probs)) if log_probs else 0.0
