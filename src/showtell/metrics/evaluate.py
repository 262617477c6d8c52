"""Score captions against references with COCO's metrics.

The figures equal those of the official scorer. ``Scores`` has them, for the corpus and for each
image, with a signature that makes them repeatable. ``FAMILIES`` lists the metrics; each gives
``Statistics``, from which intervals and comparisons follow (``bootstrap.py``). ``coco_io.py``
scores files.
"""

import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from showtell.core.files import without_nan
from showtell.core.memory import paused_collector
from showtell.core.messages import respelled, some
from showtell.errors import ScoringError, unknown_name
from showtell.metrics import (
    bleu,
    cider,
    diversity,
    gender,
    meteor,
    object_hallucination,
    rouge,
    spice,
    wording,
)
from showtell.metrics.bootstrap import Interval, Resampling, intervals
from showtell.metrics.meteor import languages as meteor_languages
from showtell.metrics.references import Captions, References, broken_lines, is_caption
from showtell.metrics.statistics import Better, Statistics
from showtell.text.language import name_of
from showtell.text.segment import PTB, Segmentation
from showtell.text.tokenizer import BAD_ENDINGS
from showtell.version import __version__


@dataclass(frozen=True)
class Family:
    """Metrics that are computed together.

    Attributes:
        name: in signatures, with the version.
        names: of the figures, in the order of ``compute``'s.
        version: changes whenever a figure does.
        compute: the statistics of one caption an image.
        is_default: whether its figures are computed where none are named.
        better: which values are better: "higher", "lower", or None where neither is; or which of
            these by the figure's name, None where the name is not there.
    """

    name: str
    names: tuple[str, ...]
    version: str
    compute: Callable[[Captions], Statistics]
    is_default: bool = True
    better: Better | Mapping[str, Better] | None = "higher"

    def better_of(self, name: str) -> Better | None:
        """Which values of one of its figures are better."""
        return self.better.get(name) if isinstance(self.better, Mapping) else self.better


FAMILIES = (
    Family("BLEU", bleu.NAMES, bleu.VERSION, bleu.statistics),
    Family("METEOR", ("METEOR",), meteor.VERSION, meteor.statistics),
    Family("ROUGE-L", ("ROUGE-L",), rouge.VERSION, rouge.statistics),
    Family("CIDEr-D", ("CIDEr-D",), cider.VERSION, cider.statistics),
    Family("SPICE", ("SPICE",), spice.VERSION, spice.statistics, is_default=False),
)
"""Every metric that needs captions and references alone, in the order of tables."""

CHECKS = tuple(
    Family(name, module.NAMES, module.VERSION, module.statistics, is_default=False, better=better)
    for name, module, better in (
        ("CHAIR", object_hallucination, object_hallucination.BETTER),
        ("gender", gender, gender.BETTER),
        ("diversity", diversity, None),
        ("wording", wording, wording.BETTER),
    )
)
"""What CIDEr does not see: invented objects, gender, sameness, length, endings and repeats."""

ENGLISH = ("SPICE", *object_hallucination.NAMES, *gender.NAMES, "bad-endings")
"""Figures that are made of lists of English words, or by an English parser."""

METRICS = tuple(name for family in FAMILIES for name in family.names)
"""The names of the figures of ``FAMILIES``. All run from 0 to 1, CIDEr-D from 0 to 10."""


@dataclass(frozen=True)
class Scores:
    """Scores of a set of captions.

    Attributes:
        metrics: corpus scores by name, in ``METRICS``' order.
        per_image: the same for each image id, as a string, except figures that only all captions
            have together.
        num_images: how many captions were scored.
        bad_endings: share of captions whose last word is one like "with" or "a"; nan for captions
            in another language than English.
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
        """The scores as JSON has them, nan as null; ``per_image`` adds those of each image."""
        values: dict[str, Any] = {"metrics": without_nan(self.metrics)}
        if self.intervals:
            values["intervals"] = {name: list(ends) for name, ends in self.intervals.items()}
        values |= {
            "num_images": self.num_images,
            "bad_endings": without_nan(self.bad_endings),
            "signature": self.signature,
            "warnings": self.warnings,
        }
        if per_image:
            values["per_image"] = without_nan(self.per_image)
            if self.remarks:
                values["remarks"] = self.remarks
        return values

    def table(self, *, per_image: bool = False) -> str:
        """A table for people: one line a metric, then the rest."""
        width = max([11, *map(len, self.metrics)]) + 1
        lines = [self._line(name, value, width) for name, value in self.metrics.items()]
        if "bad-endings" not in self.metrics and not math.isnan(self.bad_endings):
            lines.append(f"{'bad endings':<{width}}{self.bad_endings:8.2%}")
        lines.append(f"{'images':<{width}}{self.num_images:8d}")
        lines.append(self.signature)
        return "\n".join([*lines, "", *self._lines_per_image()] if per_image else lines)

    def _line(self, name: str, value: float, width: int) -> str:
        """With an interval, one digit less: the fourth is within it."""
        if name not in self.intervals:
            return f"{name:<{width}}{value:8.{4 if value < 100 else 0}f}"
        return f"{name:<{width}}{value:8.3f} {self.intervals[name]}"

    def _lines_per_image(self) -> list[str]:
        width = max(map(len, self.per_image), default=0)
        names = list(next(iter(self.per_image.values()), {}))
        columns = [max(9, len(name) + 1) for name in names]
        lines, remarks = [" " * width + "".join(map(str.rjust, names, columns))], self.remarks
        for image_id, values in self.per_image.items():
            cells = [f"{v:{c}.4f}" for v, c in zip(values.values(), columns, strict=True)]
            line = f"{image_id:<{width}}{''.join(cells)}  {remarks.get(image_id, '')}"
            lines.append(line.rstrip())
        return lines

    @property
    def remarks(self) -> dict[str, str]:
        """What a person should know of images, such as the objects that their captions invent."""
        return {
            image_id: remark
            for one in self.statistics
            for image_id, remark in zip(self.per_image, one.remarks, strict=False)
            if remark
        }


@paused_collector()  # a tenth faster: millions of words and counts, and no cycle among them
def evaluate(
    candidates: Mapping[str, str | Sequence[str]],
    references: Mapping[str, Sequence[str | Sequence[str]]] | References,
    *,
    metrics: Iterable[str] | None = None,
    families: Sequence[Family] = (),
    cache: Path | None = None,
    segmentation: Segmentation = PTB,
) -> Scores:
    """Score one caption an image.

    Args:
        candidates: a caption for each image id: a text, or the list of its words where it is
            tokenised already; likewise the references. Ids may be numbers, as COCO's are; the
            scores have them as strings.
        references: captions by people for the same image ids. Make a ``References`` of them when
            they are scored against more than once.
        metrics: names of figures of ``FAMILIES`` and ``CHECKS``. Default: those of ``FAMILIES``
            except SPICE, which needs Java, and except METEOR where its extra is not installed.
        families: metrics that need more than captions and references, as the caller made them; all
            of their figures are computed. One replaces that of the same name.
        cache: a folder where tokenised references are kept by content hash.
        segmentation: how captions and references are cut into words; a ``References`` has its own.
            Default: COCO's tokeniser.

    Raises:
        ScoringError: the image ids of the two differ, a caption is not a string, an image has no
            references, or a metric is unknown or cannot run.
        MissingExtraError: METEOR was asked for by name and its extra is not installed.
    """
    if not isinstance(references, References):
        wanted, notes = _wanted(metrics, segmentation)
        _check(candidates, list(references))
        references = References(references, cache=cache, segmentation=segmentation)
    else:
        segmentation = references.segmentation
        wanted, notes = _wanted(metrics, segmentation)
        _check(candidates, references.image_ids)
    captions = Captions([candidates[image_id] for image_id in references.image_ids], references)
    own = {family.name for family in families}
    families = [family for family in families if _fits(family, segmentation, notes)]
    known = [f for f in (*FAMILIES, *CHECKS) if wanted & set(f.names) and f.name not in own]
    known = [_in_language(family, segmentation) for family in known]
    wanted.update(name for family in families for name in family.names)
    chosen = [*known, *families]
    statistics = tuple(family.compute(captions).only(wanted) for family in chosen)
    words = captions.words
    return scores_of(
        statistics,
        references.image_ids,
        bad_endings=share_of_bad_endings(words, segmentation),
        signature=_signature(references, chosen),
        warnings=[*notes, *_warnings(captions, wanted)],
    )


def share_of_bad_endings(captions: Sequence[Sequence[str]], segmentation: Segmentation) -> float:
    """Share of captions that end as no English caption does; nan in other languages."""
    if not segmentation.is_english:
        return math.nan
    return sum(said[-1] in BAD_ENDINGS for said in captions if said) / len(captions)


def _in_language(family: Family, segmentation: Segmentation) -> Family:
    """METEOR with another language's parameters and stemmer; other metrics as they are."""
    language = segmentation.language
    if family.name != "METEOR" or segmentation.is_english or language is None:
        return family
    return replace(
        family,
        version=meteor_languages.version_of(language),
        compute=meteor_languages.statistics_in(language),
    )


def _fits(family: Family, segmentation: Segmentation, notes: list[str]) -> bool:
    """Whether a family has figures in the captions' language; notes where it has none."""
    if segmentation.is_english or not set(family.names) <= set(ENGLISH):
        return True
    notes.append(_left_out(family.names, segmentation))
    return False


def _left_out(names: Iterable[str], segmentation: Segmentation) -> str:
    language = name_of(segmentation.language) if segmentation.language else "another language"
    return f"{', '.join(names)}: left out, for English only, and the captions are in {language}"


def scores_of(
    statistics: tuple[Statistics, ...],
    image_ids: Sequence[str],
    *,
    bad_endings: float,
    signature: str,
    warnings: list[str],
) -> Scores:
    """The scores that follow from statistics of images.

    Raises:
        ScoringError: two image ids are the same text.
    """
    names = [str(image_id) for image_id in image_ids]
    if len({*names}) < len(names):
        raise ScoringError("two image ids are the same text, as 1 and '1' are: rename one of them")
    columns = {
        name: column.tolist()
        for one in statistics
        for name, column in zip(one.names, one.per_image.T, strict=True)
        if not one.is_whole(name)
    }
    return Scores(
        metrics={
            name: value
            for one in statistics
            for name, value in zip(one.names, one.figures().tolist(), strict=True)
        },
        per_image={
            image_id: {name: column[index] for name, column in columns.items()}
            for index, image_id in enumerate(names)
        },
        num_images=len(names),
        bad_endings=bad_endings,
        signature=signature,
        warnings=warnings,
        statistics=statistics,
    )


def _wanted(
    metrics: Iterable[str] | None, segmentation: Segmentation
) -> tuple[set[str], list[str]]:
    """The metrics to compute, and warnings: METEOR cannot run, or a metric is for English."""
    if metrics is not None:
        wanted = set(metrics)
        known = [*METRICS, *(name for family in CHECKS for name in family.names)]
        for name in sorted(wanted - set(known)):
            raise ScoringError(unknown_name("metric", name, known))
        if segmentation.is_english:
            return wanted, []
        if "METEOR" in wanted and (error := meteor_languages.why_not(segmentation.language)):
            raise error
        english = [name for name in ENGLISH if name in wanted]
        if english and not wanted.difference(english):
            raise ScoringError(_left_out(english, segmentation))
        return wanted.difference(english), [_left_out(english, segmentation)] if english else []
    wanted = {name for family in FAMILIES if family.is_default for name in family.names}
    if not segmentation.is_english:
        reason = meteor_languages.why_not(segmentation.language)
        return (wanted - {"METEOR"}, [f"METEOR is left out: {reason}"]) if reason else (wanted, [])
    if not meteor.is_installed():
        return wanted - {"METEOR"}, []
    try:
        meteor.prepare()
    except ScoringError as error:
        return wanted - {"METEOR"}, [f"METEOR is left out: {error}"]
    return wanted, []


def _check(candidates: Mapping[str, str | Sequence[str]], image_ids: Sequence[str]) -> None:
    known = set(image_ids)
    unknown = [image_id for image_id in candidates if image_id not in known]
    if missing := [image_id for image_id in image_ids if image_id not in candidates]:
        raise ScoringError(
            f"{len(missing)} of {len(image_ids)} images have no caption to score: {some(missing)}"
            f"{respelled(missing, unknown)}"
        )
    if unknown:
        raise ScoringError(
            f"{len(unknown)} captions are of images without references: {some(unknown)}"
        )
    wrong = [image_id for image_id, text in candidates.items() if not is_caption(text)]
    if wrong:
        raise ScoringError(f"{len(wrong)} captions are not strings: of images {some(wrong)}")


def _signature(references: References, families: Sequence[Family]) -> str:
    """One line, like the signatures of sacreBLEU (Post 2018)."""
    counts = sorted({len(captions) for captions in references.captions})
    refs = str(counts[0]) if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"
    parts = [
        "+".join(f"{family.name}.{family.version}" for family in families),
        f"tok:{references.segmentation.signature}",
        f"refs:{refs}",
        f"images:{len(references.image_ids)}",
        "df:references",
        f"showtell:{__version__}",
    ]
    return "|".join(parts)


def _warnings(captions: Captions, names: Container[str]) -> list[str]:
    warnings = []
    references, ids = captions.references, captions.references.image_ids
    if "CIDEr-D" in names and len(ids) == 1:
        warnings.append(
            "CIDEr-D of a single image is always 0: it weighs words by how few of the images "
            "mention them, and here every word is in all of them"
        )
    if "gender-ratio" in names:
        ratio = gender.ratio_of_references(references.captions)
        warnings.append(f"gender-ratio of these pictures by their references is {ratio:.3f}")
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
