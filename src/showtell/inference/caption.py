"""What a model says of a picture: words, how sure it is of them, and where it looked.

MERGED: How sure a model is of a caption, as a number that means something.

The geometric mean of the words' probabilities orders captions, but is no probability of anything:
label smoothing lowers it, self-critical training raises it. A model may carry a calibration
(Platt 1999, "Probabilistic Outputs for Support Vector Machines", section 2): its confidence then
is the share of captions with that mean that are acceptable, which is that their own CIDEr-D
reaches a threshold. ``reliability.py`` fits it. Knows nothing of decoding.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Any, Self

from showtell.decoding.hypotheses import Hypotheses
from showtell.text.vocabulary import PAD, Vocabulary

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


@dataclass(frozen=True, slots=True)
class Caption:
    """What a model says of one picture.

    Attributes:
        text: the caption.
        words: its words; ``log_probs`` has one number more, that of ending there.
        log_probs: log-probability in nats of each word (the sum over its pieces, where the
            vocabulary has pieces of words) and of the end.
        confidence: 0 to 1; of a model with a calibration the share of captions like this one that
            are acceptable (``confidence.py``), else the geometric mean of these probabilities.
        alternatives: the picture's other captions, the next best first, where ``num_captions``
            asks for more than one; they have none of their own.
        attention: for each word (the mean over its pieces) and for the end, how much the decoder
            looked at each region of the grid, row by row; None unless asked for.
        withheld: what the text would be, where ``min_confidence`` left it empty; else None.

    Where no caption meets the decoding settings, ``log_probs`` is empty, the text too, and the
    confidence is 0.
    """

    text: str
    words: tuple[str, ...]
    log_probs: tuple[float, ...]
    confidence: float
    alternatives: tuple["Caption", ...] = ()
    attention: tuple[tuple[float, ...], ...] | None = field(default=None, repr=False)
    withheld: str | None = None

    @property
    def log_prob(self) -> float:
        """Log-probability of the whole caption in nats."""
        return sum(self.log_probs) if self.log_probs else -math.inf

    @property
    def mean_log_prob(self) -> float:
        """The same for each of its words and the end."""
        return self.log_prob / max(len(self.log_probs), 1)


def captions_of(
    found: Hypotheses,
    vocabulary: Vocabulary,
    *,
    calibration: Calibration | None = None,
    min_confidence: float = 0.0,
) -> list[Caption]:
    """The captions of ``B`` pictures, each with its alternatives.

    Args:
        calibration: gives the confidence; by default it is the geometric mean of probabilities.
        min_confidence: captions that are less sure have no text.
    """

    def finished(caption: Caption) -> Caption:
        if not caption.log_probs:
            return caption
        if calibration is not None:
            caption = replace(caption, confidence=calibration(caption.mean_log_prob))
        if caption.confidence < min_confidence:
            caption = replace(caption, text="", withheld=caption.text)
        return caption

    captions = []
    real = found.log_probs.isfinite().tolist()
    attention = None if found.attention is None else found.attention.tolist()
    columns = zip(found.tokens.tolist(), found.token_log_probs.tolist(), real, strict=True)
    for picture, (tokens, log_probs, is_real) in enumerate(columns):
        best, *others = (
            finished(
                _caption(vocabulary, ids, row, attention[picture][rank] if attention else None)
            )
            for rank, (ids, row) in enumerate(zip(tokens, log_probs, strict=True))
            if rank == 0 or is_real[rank]
        )
        captions.append(replace(best, alternatives=tuple(others)))
    return captions


def caption_record(caption: Caption) -> dict[str, Any]:
    """A caption as JSON has it, everywhere; with ``alternatives`` where there are some."""
    record: dict[str, Any] = {
        "caption": caption.text,
        "confidence": round(caption.confidence, 4),
        "log_prob": round(caption.log_prob, 4),
        "words": list(caption.words),
        "log_probs": [round(log_prob, 4) for log_prob in caption.log_probs],
    }
    if caption.withheld is not None:
        record["withheld"] = caption.withheld
    if caption.attention is not None:
        side = math.isqrt(len(caption.attention[0]))  # every encoder's grid is a square
        weights = [[round(weight, 5) for weight in row] for row in caption.attention]
        record["attention"] = {"grid": [side, side], "weights": weights}
    if caption.alternatives:
        record["alternatives"] = [caption_record(other) for other in caption.alternatives]
    return record


def _caption(
    vocabulary: Vocabulary,
    ids: list[int],
    log_probs: list[float],
    attention: list[list[float]] | None,
) -> Caption:
    length = sum(index != PAD for index in ids)
    parts = vocabulary.split(ids)
    # The tokens of each word, and the end.
    ends = [0, *accumulate(count for _, count in parts), length]
    spans = list(pairwise(ends)) if length else []
    kept = tuple(sum(log_probs[start:end]) for start, end in spans)
    return Caption(
        text=" ".join(word for word, _ in parts),
        words=tuple(word for word, _ in parts),
        log_probs=kept,
        confidence=geometric_mean(kept),
        attention=_mean_rows(attention, spans) if attention is not None else None,
    )


def _mean_rows(
    rows: list[list[float]], spans: list[tuple[int, int]]
) -> tuple[tuple[float, ...], ...]:
    """The mean of the rows of each span."""
    return tuple(
        tuple(sum(column) / (end - start) for column in zip(*rows[start:end], strict=True))
        for start, end in spans
    )
