"""A caption: its words, how confident the model is of it, and where the model looked.

Without a calibration, confidence is the geometric mean of the words' probabilities. That mean
orders captions, but it is not the probability of anything: label smoothing lowers it,
self-critical training raises it. A model may carry a calibration (Platt 1999, "Probabilistic
Outputs for Support Vector Machines", section 2). Its confidence then is the share of captions
with the same mean that are acceptable: whose own CIDEr-D reaches a threshold.
``evaluation/calibration.py`` fits it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Any, Self

import numpy as np

from showtell.decoding.hypotheses import Hypotheses
from showtell.decoding.reranking import SIGNS
from showtell.text.clean import Cleaning, first_sentences
from showtell.text.details import without_doubted
from showtell.text.neutral import neutral, neutral_words
from showtell.text.vocabulary import PAD, Vocabulary

CALIBRATION = "calibration"  # its place in a checkpoint's metrics.json


@dataclass(frozen=True, slots=True)
class Calibration:
    """confidence = 1 / (1 + exp(-(slope * m + offset + signs . s))).

    m is a caption's mean log-probability, and s are its signs where the model has a reranker.

    Attributes:
        slope: per nat; positive where there are no signs, so captions keep their order.
        cider: CIDEr-D, 0 to 10, from which on a caption counts as acceptable.
        num_captions: how many captions it was fitted on.
        data: the name of the data set and split they are from, for people.
        signs: weights of ``decoding.reranking.SIGNS``; none where there is no reranker.
    """

    slope: float
    offset: float
    cider: float
    num_captions: int = 0
    data: str = ""
    signs: tuple[float, ...] = ()

    def __call__(self, mean_log_prob: float, signs: Sequence[float] = ()) -> float:
        """Confidence, 0 to 1, of a caption with this mean log-probability in nats."""
        value = self.slope * mean_log_prob + self.offset
        value += sum(weight * sign for weight, sign in zip(self.signs, signs, strict=True))
        if value < 0:  # so that neither exp can overflow
            return math.exp(value) / (1 + math.exp(value))
        return 1 / (1 + math.exp(-value))

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint's ``metrics.json``."""
        return asdict(self)

    @classmethod
    def of(cls, metrics: Mapping[str, Any]) -> Self | None:
        """The calibration in a checkpoint's ``metrics``; None if there is none.

        Raises:
            ValueError: its values are not those of a calibration.
        """
        values = metrics.get(CALIBRATION)
        if values is None:
            return None
        try:
            found = cls(**{**values, "signs": tuple(map(float, values.get("signs", ())))})
            usable = len(found.signs) in (0, len(SIGNS)) and (found.slope > 0 or found.signs)
            usable = usable and math.isfinite(found.slope + found.offset + sum(found.signs))
        except (TypeError, OverflowError) as error:
            raise ValueError(f"{CALIBRATION}: {error}") from None
        if not usable:
            raise ValueError(f"{CALIBRATION}: slope = {found.slope}, offset = {found.offset}")
        return found


def confidence_of(calibration: Calibration, caption: "Caption") -> float:
    """A caption's calibrated confidence, 0 to 1."""
    return calibration(caption.mean_log_prob, caption.signs if calibration.signs else ())


def geometric_mean(log_probs: tuple[float, ...]) -> float:
    """The geometric mean, 0 to 1, of the probabilities of words and end; 0 if there are none."""
    return math.exp(sum(log_probs) / len(log_probs)) if log_probs else 0.0


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption of one picture.

    If no caption meets the decoding settings, ``text`` and ``log_probs`` are empty and the
    confidence is 0.

    Attributes:
        text: the caption.
        words: its words.
        log_probs: log-probability in nats of each word, and one more of the end. A word in several
            pieces has the sum over its pieces. A server may tell no end, or nothing at all.
        confidence: 0 to 1; NaN where the model does not tell how sure it is. For a calibrated
            model it is the share of captions like this one that are acceptable, otherwise the
            geometric mean of the words' and the end's probabilities.
        alternatives: the picture's other captions, the next best first, if ``num_captions`` asks
            for more than one. They have no alternatives of their own.
        attention: for each word (the mean over its pieces) and for the end, how much the decoder
            looked at each region of the grid, row by row; None unless asked for.
        withheld: the text that ``min_confidence`` removed; None if it removed none.
        raw: what the model said, where ``Captioner.cleaning`` changed it; ``words`` and
            ``log_probs`` are of this then.
        signs: by which a reranker compares captions (``decoding.reranking.SIGNS``); none where the
            model has none.
        is_cut: whether the model reached the most tokens that it was allowed before it ended, as
            far as that is known; of showtell's own models it is not.
        thumbnail: a small JPEG of the picture, for notebooks; only ``Captioner.caption`` makes it.
    """

    text: str
    words: tuple[str, ...]
    log_probs: tuple[float, ...]
    confidence: float
    alternatives: tuple["Caption", ...] = ()
    attention: tuple[tuple[float, ...], ...] | None = field(default=None, repr=False)
    withheld: str | None = None
    raw: str | None = None
    signs: tuple[float, ...] = field(default=(), repr=False, compare=False)
    is_cut: bool = field(default=False, repr=False)
    thumbnail: bytes | None = field(default=None, repr=False, compare=False)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from showtell.inference.notebook import html_of

        return html_of(self)

    @property
    def is_missing(self) -> bool:
        """Whether no caption meets the decoding settings."""
        return not (self.log_probs or self.text or self.withheld)

    @property
    def log_prob(self) -> float:
        """Log-probability of the whole caption in nats."""
        return sum(self.log_probs) if self.log_probs else -math.inf

    @property
    def mean_log_prob(self) -> float:
        """The mean over the words and the end, in nats."""
        return self.log_prob / max(len(self.log_probs), 1)


def captions_of(
    found: Hypotheses,
    vocabulary: Vocabulary,
    *,
    calibration: Calibration | None = None,
    min_confidence: float = 0.0,
    neutral: bool = False,
    allows: Callable[[Sequence[str]], bool] = lambda words: True,
) -> list[Caption]:
    """The captions of ``B`` pictures, each with its alternatives, without what is doubted of them.

    An alternative that says without it what an earlier caption says is left out.

    Args:
        calibration: gives the confidence; by default it is the geometric mean of probabilities.
        min_confidence: the text of captions with a lower confidence is withheld.
        neutral: as ``neutral_caption``.
        allows: whether a caption may be these words, where some that are doubted were left out.
    """

    def finished(caption: Caption, doubted: Sequence[bool]) -> Caption:
        if not caption.log_probs:
            return caption
        if calibration is not None:
            caption = replace(caption, confidence=confidence_of(calibration, caption))
        if any(doubted):
            pairs = without_doubted(caption.words, doubted)
            words = [word for word, _ in pairs]
            if allows(words):
                text = vocabulary.segmentation.join(words)
                caption = _reworded(caption, pairs, text)
        if neutral:
            caption = neutral_caption(caption)
        if caption.confidence < min_confidence:
            caption = replace(caption, text="", withheld=caption.text)
        return caption

    captions = []
    real = np.isfinite(found.log_probs).tolist()
    attention = None if found.attention is None else found.attention.tolist()
    signs = None if found.signs is None else found.signs.tolist()
    doubted = None if found.doubted is None else found.doubted.tolist()
    columns = zip(found.tokens.tolist(), found.token_log_probs.tolist(), real, strict=True)
    for picture, (tokens, log_probs, is_real) in enumerate(columns):
        said = [
            _caption(
                vocabulary,
                ids,
                row,
                attention[picture][rank] if attention else None,
                tuple(signs[picture][rank]) if signs else (),
            )
            for rank, (ids, row) in enumerate(zip(tokens, log_probs, strict=True))
            if rank == 0 or is_real[rank]
        ]
        marks = doubted[picture] if doubted else [()] * len(said)
        best, *others = _without_new_repeats(
            said, [finished(*pair) for pair in zip(said, marks, strict=False)]
        )
        captions.append(replace(best, alternatives=tuple(others)))
    return captions


def _without_new_repeats(before: Sequence[Caption], after: Sequence[Caption]) -> list[Caption]:
    """The captions after a change, but for those that only now say what an earlier one says."""
    kept: dict[tuple[str, ...], tuple[str, ...]] = {}  # what each of them said before
    return [
        caption
        for said, caption in zip(before, after, strict=True)
        if kept.setdefault(caption.words, said.words) == said.words
    ]


def cleaned(caption: Caption, cleaning: Cleaning) -> Caption:
    """A caption, and its alternatives, with what is wanted of their texts.

    Of one that was cut, ``tidy`` leaves out the sentence without an end, unless it is the only one.
    """
    if cleaning.is_nothing:
        return caption
    text = whole_sentences(caption.text) if caption.is_cut and cleaning.tidy else caption.text
    text = cleaning(text) if text else ""
    return replace(
        caption,
        text=text,
        raw=caption.text if text != caption.text else None,
        alternatives=tuple(cleaned(other, cleaning) for other in caption.alternatives),
    )


def whole_sentences(text: str) -> str:
    """A text without the sentence at its end that has no end, unless that is the only one."""
    text = text.strip()
    if text.rstrip("\"'”’)*").endswith((".", "!", "?", "…", "。", "！", "？")):
        return text
    whole, num = text, 1
    while (said := first_sentences(text, num)) != text:
        whole, num = said, num + 1
    return whole


def neutral_caption(caption: Caption) -> Caption:
    """A caption without words that say a gender (``text/neutral.py``); its confidence stays."""
    others = tuple(map(neutral_caption, caption.alternatives))
    pairs = neutral_words(caption.words)
    if caption.words and [word for word, _ in pairs] == [*caption.words]:
        return replace(caption, alternatives=others)
    is_plain = caption.text == " ".join(caption.words)  # else it is written as a person would
    text = " ".join(word for word, _ in pairs) if is_plain else neutral(caption.text)
    return replace(_reworded(caption, pairs, text), alternatives=others)


def _reworded(caption: Caption, pairs: Sequence[tuple[str, int]], text: str) -> Caption:
    """A caption in other words, each with the place of the word that it stems from.

    A new word has the log-probability and the attention of the word in whose place it stands. If
    several stand there, the first has the log-probability and the others add nothing to it; what
    was left out is left out with its own.
    """
    sources = [source for _, source in pairs]
    log_probs, attention = caption.log_probs, caption.attention
    if len(log_probs) == len(caption.words) + 1:
        first = {source: place for place, source in reversed([*enumerate(sources)])}
        said = (log_probs[s] if first[s] == p else 0.0 for p, s in enumerate(sources))
        log_probs = (*said, log_probs[-1])
    if attention is not None:
        attention = (*(attention[source] for source in sources), attention[-1])
    words = tuple(word for word, _ in pairs)
    return replace(caption, text=text, words=words, log_probs=log_probs, attention=attention)


def caption_record(caption: Caption) -> dict[str, Any]:
    """A caption as every JSON output has it; with ``alternatives`` if there are any."""
    is_known = not math.isnan(caption.confidence)
    record: dict[str, Any] = {
        "caption": caption.text,
        "confidence": round(caption.confidence, 4) if is_known else None,
        "log_prob": round(caption.log_prob, 4) if is_known else None,
        "words": list(caption.words),
        "log_probs": [round(log_prob, 4) for log_prob in caption.log_probs],
    }
    if caption.withheld is not None:
        record["withheld"] = caption.withheld
    if caption.raw is not None:
        record["raw"] = caption.raw
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
    signs: tuple[float, ...],
) -> Caption:
    length = sum(index != PAD for index in ids)
    parts = vocabulary.split(ids)
    # The tokens of each word, and the end.
    ends = [0, *accumulate(count for _, count in parts), length]
    spans = list(pairwise(ends)) if length else []
    kept = tuple(sum(log_probs[start:end]) for start, end in spans)
    return Caption(
        text=vocabulary.segmentation.join([word for word, _ in parts]),
        words=tuple(word for word, _ in parts),
        log_probs=kept,
        confidence=geometric_mean(kept),
        attention=_mean_rows(attention, spans) if attention is not None else None,
        signs=signs,
    )


def _mean_rows(
    rows: list[list[float]], spans: list[tuple[int, int]]
) -> tuple[tuple[float, ...], ...]:
    """The mean of the rows of each span."""
    return tuple(
        tuple(sum(column) / (end - start) for column in zip(*rows[start:end], strict=True))
        for start, end in spans
    )
