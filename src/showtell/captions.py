"""What a model says of a picture: words, how sure it is of them, and where it looked."""

import math
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Any

from showtell.confidence import Calibration, geometric_mean
from showtell.decoding.hypotheses import Hypotheses
from showtell.text.vocabulary import PAD, Vocabulary


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
