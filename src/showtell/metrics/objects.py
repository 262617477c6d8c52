"""Metrics as objects that collect captions batch by batch, and as one function of two lists.

The objects have torchmetrics' methods (``update``, ``compute``, ``reset``, ``merge_state``); the
function ``compute(predictions=..., references=...)`` is called like Hugging Face's ``evaluate``.
Both give what they have collected to ``showtell.metrics.evaluate``, which computes everything.

Nothing is computed before ``compute()``: corpus BLEU is not the mean of its batches, and CIDEr-D
weighs words by all images of the set.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, Self, runtime_checkable

from showtell.core.messages import respelled, some
from showtell.errors import ScoringError
from showtell.metrics.evaluate import Scores, evaluate

ImageId = str | int
Said = Iterable[str] | Mapping[ImageId, str]
People = Iterable[str | Iterable[str]] | Mapping[ImageId, str | Iterable[str]]


@runtime_checkable
class _Array(Protocol):
    """A NumPy array or a tensor."""

    def tolist(self) -> list[ImageId]:
        """What is in it."""
        ...


Ids = Iterable[ImageId] | _Array


class _Row(NamedTuple):
    """A caption, and what people said of the same image; the id is None where none was given."""

    image_id: str | None
    caption: str
    references: tuple[str, ...]


class _Collected:
    """Captions that came so far, with their references; pickles are small, without any score."""

    def __init__(self, metrics: Iterable[str] | None) -> None:
        self._metrics = None if metrics is None else tuple(metrics)
        self.reset()

    def reset(self) -> None:
        """Forget every caption."""
        self._rows: list[_Row] = []

    def update(
        self,
        predictions: Said,
        references: People,
        image_ids: Ids | None = None,
    ) -> None:
        """Add captions.

        Args:
            predictions: captions, or a caption for each image id.
            references: for each caption one reference, or a list of them; by image id if the
                predictions are.
            image_ids: of the captions; an array or a tensor (B,), too. With ids, an image that
                comes twice with the same caption and references counts once, as samplers of
                several processes repeat a few.

        Raises:
            ScoringError: lengths, ids or types do not fit.
        """
        said, people, names = _lists(predictions, references, image_ids)
        if not len(said) == len(people) == len(names):
            raise ScoringError(
                f"{len(said)} predictions, {len(people)} sets of references and {len(names)} image "
                "ids were given; each prediction needs one of each"
            )
        if wrong := [index for index, text in enumerate(said) if not isinstance(text, str)]:
            raise ScoringError(
                f"{len(wrong)} predictions are not strings: number {some(wrong)}, counted from 0"
            )
        if wrong := [index for index, each in enumerate(people) if not _is_said(each)]:
            raise ScoringError(
                f"{len(wrong)} references are neither a string nor a list of strings: number "
                f"{some(wrong)}, counted from 0"
            )
        for image_id, caption, each in zip(names, said, people, strict=True):
            texts = (each,) if isinstance(each, str) else tuple(each)
            self._rows.append(_Row(None if image_id is None else str(image_id), caption, texts))

    def merge_state(self, *others: Self) -> None:
        """Add what others of the same kind have collected, for instance in other processes.

        With torch: ``torch.distributed.all_gather_object(parts, metric)``, then
        ``CIDEr.merged(parts)`` gives every process the same score.
        """
        for other in others:
            if type(other) is not type(self) or other._metrics != self._metrics:
                raise ScoringError(f"{other!r} cannot be merged into {self!r}")
        for other in others:
            self._rows += other._rows

    @classmethod
    def merged(cls, parts: Sequence[Self]) -> Self:
        """A new object that has what all parts have, in their order."""
        whole = cls.__new__(cls)
        whole._metrics = parts[0]._metrics
        whole.reset()
        whole.merge_state(*parts)
        return whole

    def scores(self) -> Scores:
        """All that ``evaluate`` says: scores of each image, the signature to cite, warnings.

        Images without an id are named by their number, counted from 0.

        Raises:
            ScoringError: there are no captions, an image has two different ones or no references,
                or a metric is unknown or cannot run.
        """
        rows = _without_repeats(self._rows)
        return evaluate(
            {name: row.caption for name, row in rows.items()},
            {name: row.references for name, row in rows.items()},
            metrics=self._metrics,
        )

    def _figures(self) -> dict[str, float]:
        scores = self.scores()
        for warning in scores.warnings:
            warnings.warn(warning, stacklevel=3)
        return scores.metrics

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self._rows)} captions>"


class CaptionMetrics(_Collected):
    """Several metrics of the same captions.

    Args:
        metrics: names from ``METRICS``; default: all that run without Java.
    """

    def __init__(self, metrics: Iterable[str] | None = None) -> None:
        super().__init__(metrics)

    def compute(self) -> dict[str, float]:
        """The corpus's scores by name; raises as ``scores`` does."""
        return self._figures()


class _OneMetric(_Collected):
    def __init__(self, metric: str) -> None:
        super().__init__([metric])

    def compute(self) -> float:
        """The corpus's score; raises as ``scores`` does."""
        [value] = self._figures().values()
        return value


class CIDEr(_OneMetric):
    """CIDEr-D, which is what COCO calls CIDEr; 0 to 10."""

    def __init__(self) -> None:
        super().__init__("CIDEr-D")


class BLEU(_OneMetric):
    """Corpus BLEU of n-grams of 1 to ``order`` words (at most 4); 0 to 1."""

    def __init__(self, order: int = 4) -> None:
        super().__init__(f"BLEU-{order}")


class METEOR(_OneMetric):
    """METEOR 1.5 without Java; 0 to 1. It needs the extra ``meteor``, for its tables."""

    def __init__(self) -> None:
        super().__init__("METEOR")


class ROUGEL(_OneMetric):
    """ROUGE-L as COCO computes it; 0 to 1."""

    def __init__(self) -> None:
        super().__init__("ROUGE-L")


def compute(
    *,
    predictions: Said,
    references: People,
    metrics: Iterable[str] | None = None,
    image_ids: Ids | None = None,
) -> dict[str, float]:
    """The corpus's scores of captions, by name; arguments and errors are those of ``update``.

    Args:
        metrics: names from ``METRICS``; default: all that run without Java.
    """
    collected = CaptionMetrics(metrics)
    collected.update(predictions, references, image_ids)
    return collected.compute()


def _is_said(value: object) -> bool:
    """Whether it is a caption or several."""
    if isinstance(value, str):
        return True
    return isinstance(value, Iterable) and all(isinstance(text, str) for text in value)


def _lists(
    predictions: Said, references: People, image_ids: Ids | None
) -> tuple[list[str], list[str | list[str]], Sequence[ImageId | None]]:
    """Predictions, references and ids, each a list in the order of the predictions."""
    if isinstance(predictions, Mapping) and isinstance(references, Mapping):
        if image_ids is not None:
            raise ScoringError("image_ids were given, but the predictions already have them")
        if predictions.keys() != references.keys():
            only = [name for name in predictions if name not in references]
            bare = [name for name in references if name not in predictions]
            raise ScoringError(
                f"{len(only)} predictions have no references ({some(only)}), and "
                f"{len(bare)} references have no prediction ({some(bare)})"
                f"{respelled(only, bare)}"
            )
        # The references' order, which scores depend on as the official ones do.
        names = list(references)
        return [predictions[name] for name in names], _listed(references.values()), names
    if isinstance(predictions, str | Mapping) or isinstance(references, str | Mapping):
        kinds = f"{type(predictions).__name__} and {type(references).__name__}"
        raise ScoringError(
            f"predictions and references must be two lists, or two dicts by image id; got {kinds}"
        )
    said = list(predictions)
    if image_ids is None:
        return said, _listed(references), [None] * len(said)
    ids = image_ids.tolist() if isinstance(image_ids, _Array) else list(image_ids)
    return said, _listed(references), ids


def _listed(references: Iterable[str | Iterable[str]]) -> list[str | list[str]]:
    """Each a string or a list, whatever it was: a generator can be read only once."""
    return [
        each if isinstance(each, str) or not isinstance(each, Iterable) else list(each)
        for each in references
    ]


def _without_repeats(rows: Sequence[_Row]) -> dict[str, _Row]:
    """The rows by id, or by number where they have none; equal rows of one id are one."""
    found: dict[str, _Row] = {}
    if 0 < sum(row.image_id is None for row in rows) < len(rows):
        raise ScoringError("some captions came with an image id and some without; give all or none")
    twice: list[str] = []
    for index, row in enumerate(rows):
        name = str(index) if row.image_id is None else row.image_id
        if found.setdefault(name, row) != row:
            twice.append(name)
    if twice:
        raise ScoringError(
            f"{len(twice)} images came again with another caption or references: {some(twice)}"
        )
    if not found:
        raise ScoringError("no captions to score: call update() before compute()")
    return found
