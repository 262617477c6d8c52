"""Score captions against references with COCO's metrics.

The figures equal those of the official scorer. ``Scores`` has them, for the corpus and for each
image, with a signature that makes them repeatable. ``FAMILIES`` lists the metrics; each gives
``Statistics``, from which intervals and comparisons follow (``bootstrap.py``). ``coco_io.py``
scores files.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from showtell.core.memory import paused_collector
from showtell.core.messages import some
from showtell.errors import ScoringError, unknown_name
from showtell.metrics import bleu, cider, meteor, rouge, spice
from showtell.metrics.bootstrap import Interval, Resampling, intervals
from showtell.metrics.references import Captions, References, broken_lines, is_caption
from showtell.metrics.statistics import Statistics
from showtell.text.tokenizer import BAD_ENDINGS, TOKENIZER


@dataclass(frozen=True)
class Family:
    """Metrics that are computed together.

    Attributes:
        name: in signatures, with the version.
        names: of the figures, in the order of ``compute``'s.
        version: changes whenever a figure does.
        compute: the statistics of one caption an image.
        is_default: whether its figures are computed where none are named.
        better: which values are better: "higher", "lower", or None where neither is.
    """

    name: str
    names: tuple[str, ...]
    version: str
    compute: Callable[[Captions], Statistics]
    is_default: bool = True
    better: Literal["higher", "lower"] | None = "higher"


FAMILIES = (
    Family("BLEU", bleu.NAMES, bleu.VERSION, bleu.statistics),
    Family("METEOR", ("METEOR",), meteor.VERSION, meteor.statistics),
    Family("ROUGE-L", ("ROUGE-L",), rouge.VERSION, rouge.statistics),
    Family("CIDEr-D", ("CIDEr-D",), cider.VERSION, cider.statistics),
    Family("SPICE", ("SPICE",), spice.VERSION, spice.statistics, is_default=False),
)
"""Every metric that needs captions and references alone, in the order of tables."""

METRICS = tuple(name for family in FAMILIES for name in family.names)
"""The names of their figures. All run from 0 to 1, CIDEr-D from 0 to 10."""


@dataclass(frozen=True)
class Scores:
    """Scores of a set of captions.

    Attributes:
        metrics: corpus scores by name, in ``METRICS``' order.
        per_image: the same for each image id.
        num_images: how many captions were scored.
        bad_endings: share of captions whose last word is one like "with" or "a".
        signature: tokeniser, numbers of references and images, versions; cite it with the scores.
        warnings: sentences about what to keep in mind when reading the scores.
        statistics: what the scores were computed from, of the images in ``per_image``'s order.
        intervals: of each score, by name; empty until ``with_intervals``.
    """

    metrics: dict[str, float]
    per_image: dict[str, dict[str, float]]
    num_images: int
    bad_endings: float
    signature: str
    warnings: list[str] = field(default_factory=list)
    statistics: tuple[Statistics, ...] = field(default=(), compare=False, repr=False)
    intervals: dict[str, Interval] = field(default_factory=dict)

    def statistics_by_id(self) -> list[Statistics]:
        """The statistics with the images sorted by id.

        A seed then gives the same resamples of the same images, whatever order they were scored in.
        """
        ids = list(self.per_image)
        order = np.array(sorted(range(len(ids)), key=ids.__getitem__))
        return [one.at(order) for one in self.statistics]

    def with_intervals(self, resampling: Resampling | None = None) -> "Scores":
        """The same scores with an interval of each, found by resampling the images."""
        resampling = resampling or Resampling()
        found = intervals(
            self.statistics_by_id(),
            resampling.num_resamples,
            resampling.confidence,
            resampling.seed,
        )
        warnings = list(self.warnings)
        if self.num_images == 1:
            warnings.append("an interval of a single image has no width and says nothing")
        return replace(
            self,
            intervals={name: found[name] for name in self.metrics if name in found},
            signature=f"{self.signature}|{resampling.signature}",
            warnings=warnings,
        )

    def to_dict(self, *, per_image: bool = False) -> dict[str, Any]:
        """The scores as JSON has them; ``per_image`` adds the scores of each image."""
        values: dict[str, Any] = {"metrics": self.metrics}
        if self.intervals:
            values["intervals"] = {name: list(ends) for name, ends in self.intervals.items()}
        values |= {
            "num_images": self.num_images,
            "bad_endings": self.bad_endings,
            "signature": self.signature,
            "warnings": self.warnings,
        }
        if per_image:
            values["per_image"] = self.per_image
        return values

    def table(self, *, per_image: bool = False) -> str:
        """A table for people: one line a metric, then the rest."""
        lines = [self._line(name, value) for name, value in self.metrics.items()]
        lines.append(f"{'bad endings':<12}{self.bad_endings:8.2%}")
        lines.append(f"{'images':<12}{self.num_images:8d}")
        lines.append(self.signature)
        if per_image:
            width = max(map(len, self.per_image), default=0)
            lines += ["", " " * width + "".join(f"{name:>9}" for name in self.metrics)]
            lines += [
                f"{image_id:<{width}}" + "".join(f"{value:9.4f}" for value in values.values())
                for image_id, values in self.per_image.items()
            ]
        return "\n".join(lines)

    def _line(self, name: str, value: float) -> str:
        """With an interval, one digit less: the fourth is within it."""
        if name not in self.intervals:
            return f"{name:<12}{value:8.4f}"
        return f"{name:<12}{value:8.3f} {self.intervals[name]}"


@paused_collector()  # a tenth faster: millions of words and counts, and no cycle among them
def evaluate(
    candidates: Mapping[str, str | Sequence[str]],
    references: Mapping[str, Sequence[str | Sequence[str]]] | References,
    *,
    metrics: Iterable[str] | None = None,
    families: Sequence[Family] = (),
    cache: Path | None = None,
) -> Scores:
    """Score one caption an image.

    Args:
        candidates: a caption for each image id: a text, or the list of its words where it is
            tokenised already; likewise the references.
        references: captions by people for the same image ids. Make a ``References`` of them when
            they are scored against more than once.
        metrics: names from ``METRICS``. Default: all except SPICE, which needs Java, and except
            METEOR where its extra is not installed.
        families: metrics that need more than captions and references, as the caller made them; all
            of their figures are computed.
        cache: a folder where tokenised references are kept by content hash.

    Raises:
        ScoringError: the image ids of the two differ, a caption is not a string, an image has no
            references, or a metric is unknown or cannot run.
        MissingExtraError: METEOR was asked for by name and its extra is not installed.
    """
    wanted, notes = _wanted(metrics)
    if not isinstance(references, References):
        _check(candidates, list(references))
        references = References(references, cache=cache)
    else:
        _check(candidates, references.image_ids)
    captions = Captions([candidates[image_id] for image_id in references.image_ids], references)
    chosen = [family for family in FAMILIES if wanted & set(family.names)] + list(families)
    wanted.update(name for family in families for name in family.names)
    statistics = tuple(family.compute(captions).only(wanted) for family in chosen)
    names = [name for one in statistics for name in one.names]
    figures = [value for one in statistics for value in one.figures().tolist()]
    columns = [column.tolist() for one in statistics for column in one.per_image.T]
    words = captions.words
    return Scores(
        metrics=dict(zip(names, figures, strict=True)),
        per_image={
            image_id: dict(zip(names, row, strict=True))
            for image_id, row in zip(references.image_ids, zip(*columns, strict=True), strict=True)
        },
        num_images=len(words),
        bad_endings=sum(said[-1] in BAD_ENDINGS for said in words if said) / len(words),
        signature=_signature(references, chosen),
        warnings=[*notes, *_warnings(captions, names)],
        statistics=statistics,
    )


def _wanted(metrics: Iterable[str] | None) -> tuple[set[str], list[str]]:
    """The metrics to compute, and a warning where METEOR is installed but cannot run."""
    if metrics is not None:
        wanted = set(metrics)
        for name in sorted(wanted - set(METRICS)):
            raise ScoringError(unknown_name("metric", name, METRICS))
        return wanted, []
    wanted = {name for family in FAMILIES if family.is_default for name in family.names}
    if not meteor.is_installed():
        return wanted - {"METEOR"}, []
    try:
        meteor.prepare()
    except ScoringError as error:
        return wanted - {"METEOR"}, [f"METEOR is left out: {error}"]
    return wanted, []


def _check(candidates: Mapping[str, str | Sequence[str]], image_ids: Sequence[str]) -> None:
    known = set(image_ids)
    if missing := [image_id for image_id in image_ids if image_id not in candidates]:
        raise ScoringError(
            f"{len(missing)} of {len(image_ids)} images have no caption to score: {some(missing)}"
        )
    if unknown := [image_id for image_id in candidates if image_id not in known]:
        raise ScoringError(
            f"{len(unknown)} captions are of images without references: {some(unknown)}"
        )
    wrong = [image_id for image_id, text in candidates.items() if not is_caption(text)]
    if wrong:
        raise ScoringError(f"{len(wrong)} captions are not strings: of images {some(wrong)}")


def _signature(references: References, families: Sequence[Family]) -> str:
    """One line, like the signatures of sacreBLEU (Post 2018)."""
    from importlib.metadata import version  # a third of the time that importing the metrics takes

    counts = sorted({len(captions) for captions in references.captions})
    refs = str(counts[0]) if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"
    parts = [
        "+".join(f"{family.name}.{family.version}" for family in families),
        f"tok:{TOKENIZER}",
        f"refs:{refs}",
        f"images:{len(references.image_ids)}",
        "df:references",
        f"showtell:{version('showtell')}",
    ]
    return "|".join(parts)


def _warnings(captions: Captions, names: Sequence[str]) -> list[str]:
    warnings = []
    references, ids = captions.references, captions.references.image_ids
    if "CIDEr-D" in names and len(ids) == 1:
        warnings.append(
            "CIDEr-D of a single image is always 0: it weighs words by how few of the images "
            "mention them, and here every word is in all of them"
        )
    if empty := [i for i, words in zip(ids, captions.words, strict=True) if not words]:
        warnings.append(f"{len(empty)} captions have no words: {some(empty)}")
    if bare := [i for i, said in zip(ids, references.captions, strict=True) if not any(said)]:
        warnings.append(f"{len(bare)} images have only references without words: {some(bare)}")
    said = [ids[number] for number in broken_lines(captions.texts)]
    if broken := list(dict.fromkeys([*references.broken, *said])):
        warnings.append(
            f"{len(broken)} images have a line break inside a caption or reference, which counts "
            "as a space here; the official scorer would move each text after it to another image: "
            f"{some(broken)}"
        )
    return warnings
