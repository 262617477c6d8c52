"""Compare captioners on the same pictures: which is better, by how much, and is that chance?

Every system is compared with the first, metric by metric. Two tests of the difference must agree
(``metrics/bootstrap.py``) before a difference counts as shown. ``tables.py`` writes the result for
terminals, papers and programs. Captions may come from anywhere.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from showtell.core.messages import some
from showtell.core.progress import Reporter
from showtell.errors import ScoringError
from showtell.metrics import CHECKS, FAMILIES, Family, References, Scores, evaluate
from showtell.metrics.bootstrap import (
    NUM_RESAMPLES,
    Difference,
    Resampling,
    differences,
    holm,
)
from showtell.metrics.coco_io import read_pairs, references_cache, segmentation_of
from showtell.text.segment import AS_OPTION, PTB, Segmentation

if TYPE_CHECKING:
    from showtell.data.request import DataRequest
    from showtell.inference.loading import ModelRequest

SIGNIFICANT = 0.05
"""Both p-values of a difference that counts as shown are below this."""

_RANKED_BY = "CIDEr-D"


def fewest_resamples(num_systems: int) -> int:
    """The fewest resamples that can show a difference of one of the others from the first.

    The smallest p-value of the paired bootstrap is 2 / (n + 1), which ``holm`` multiplies by the
    number of comparisons.
    """
    return math.ceil(2 * (num_systems - 1) / SIGNIFICANT)


@dataclass(frozen=True)
class System:
    """A captioner: its name, its captions by image id, and their scores with intervals."""

    name: str
    captions: dict[str, str]
    scores: Scores


@dataclass(frozen=True)
class Change:
    """One picture, as the first system and another describe it.

    Attributes:
        image_id: of the picture.
        value: the other's score minus the first's.
        captions: the first system's and the other's.
        reference: the first of the captions by people.
    """

    image_id: str
    value: float
    captions: tuple[str, str]
    reference: str


@dataclass(frozen=True)
class Contrast:
    """One system beside the first.

    Attributes:
        name: of the system.
        differences: of each metric, this system's minus the first's.
        corrected: for each metric the larger p-value, corrected for the number of systems that
            are compared with the first (Holm 1979).
        gained: the pictures whose score is better than the first system's by most, the largest
            difference first; where neither direction is better, higher by most.
        lost: those whose score is worse, or lower, by most.
    """

    name: str
    differences: dict[str, Difference]
    corrected: dict[str, float]
    gained: list[Change]
    lost: list[Change]

    def is_shown(self, metric: str) -> bool:
        """Whether both tests say that the systems differ in this metric."""
        return self.corrected[metric] < SIGNIFICANT


@dataclass(frozen=True)
class Comparison:
    """Two or more systems on the same pictures.

    Attributes:
        systems: in the order given; all others are compared with the first.
        contrasts: one for each system but the first.
        better: for each metric, which values are better: "higher", "lower", or None.
        ranked_by: the metric by which single pictures gained or lost.
        resampling: of the intervals and the tests.
        warnings: what to keep in mind when reading the result.
    """

    systems: list[System]
    contrasts: list[Contrast]
    better: dict[str, str | None]
    ranked_by: str
    resampling: Resampling
    warnings: list[str]

    def verdict(self, contrast: Contrast, metric: str) -> str:
        """What can be shown of a system: that it is better than the first, worse, higher, lower.

        Empty if no difference can be shown; higher and lower are of metrics of which neither is
        better.
        """
        if not contrast.is_shown(metric):
            return ""
        is_higher, better = contrast.differences[metric].value > 0, self.better[metric]
        if better is None:
            return "higher" if is_higher else "lower"
        return "better" if is_higher == (better == "higher") else "worse"

    @property
    def ranked_in(self) -> str:
        """The metric by which single pictures gained or lost, and whether lower is better."""
        is_lower = self.better[self.ranked_by] == "lower"
        return f"{self.ranked_by} (lower is better)" if is_lower else self.ranked_by

    @property
    def signature(self) -> str:
        """That of the scores and of the resamples, which all systems share."""
        return self.systems[0].scores.signature

    def sentences(self) -> list[str]:
        """What the comparison shows: a sentence for each metric of each contrast."""
        return [
            self._sentence(contrast, metric)
            for contrast in self.contrasts
            for metric in contrast.differences
        ]

    def _sentence(self, contrast: Contrast, metric: str) -> str:
        first, difference = self.systems[0].name, contrast.differences[metric]
        figures = f"{difference.value:+z.3f} {difference.interval}"
        figures += f", p = {contrast.corrected[metric]:.3f}"
        if not (word := self.verdict(contrast, metric)):
            return (
                f"no difference in {metric} between {contrast.name} and {first} can be shown: "
                + figures
            )
        return f"{contrast.name} is {word} than {first} in {metric}: {figures}"


def compare_files(
    results: Sequence[Path],
    references: Path,
    *,
    metrics: Iterable[str] | None = None,
    families: Sequence[Family] = (),
    resampling: Resampling | None = None,
    subset: bool = False,
    num_shown: int = 5,
    segmentation: str = "auto",
    language: str = "auto",
    written: str = AS_OPTION,
) -> Comparison:
    """Compare files of captions against one file of references.

    Args:
        results: two or more files, in any form that ``caption_files`` reads.
        references: as for ``score_files``.
        metrics: as in ``evaluate``; so is ``families``.
        resampling: of the intervals and the tests. Default: ``NUM_RESAMPLES``, or as many as so
            many systems need.
        subset: compare on the images that all files have a caption of. Otherwise an image without
            a caption is an error.
        num_shown: how many pictures that gained and that lost to list.
        segmentation: as of ``choose_for_scores``; so are ``language`` and ``written``.

    Raises:
        ScoringError: a file cannot be read, the files do not fit each other, or a metric is
            unknown or cannot run.
    """
    names = _short([str(path.with_suffix("")) for path in results])
    pairs = read_pairs(results, references, subset=subset)
    noted: dict[str, list[str]] = {}  # the systems of each note
    for name, pair in zip(names, pairs, strict=True):
        for note in pair.notes:
            noted.setdefault(note, []).append(name)
    notes = [f"{', '.join(whose)}: {note}" for note, whose in noted.items()]
    people = {image_id: said for pair in pairs for image_id, said in pair.references.items()}
    cut, note = segmentation_of(people, segmentation, language, written=written)
    return compare(
        {name: pair.candidates for name, pair in zip(names, pairs, strict=True)},
        people,
        metrics=metrics,
        families=families,
        resampling=resampling,
        subset=subset,
        num_shown=num_shown,
        cache=references_cache(),
        notes=[*notes, *([note] if note else [])],
        segmentation=cut,
    )


def compare_models(
    models: Sequence["ModelRequest"],
    data: "DataRequest",
    *,
    split: str,
    report: Reporter,
    metrics: Iterable[str] | None = None,
    resampling: Resampling | None = None,
    subset: bool = False,
    num_shown: int = 5,
    segmentation: str = "auto",
    language: str = "auto",
) -> Comparison:
    """Compare models on a split, by the captions that ``kept_or_made_captions`` gives.

    The arguments are those of ``evaluate_model`` and of ``compare_files``.

    Raises:
        ShowtellError: a model or the data cannot be read, or what ``compare`` raises.
    """
    from showtell.evaluation.kept import kept_or_made_captions
    from showtell.inference.loading import load_request

    captioners = [load_request(model) for model in models]  # what is missing shows now
    names = _short([str(model.model) for model in models])
    dataset = data.load()
    captions, people = {}, {}
    for name, captioner, model in zip(names, captioners, models, strict=True):
        captions[name], theirs = kept_or_made_captions(
            captioner, dataset, model, data, split=split, report=report
        )
        people.update(theirs)
    own = {captioner.segmentation for captioner in captioners}
    [cut, *others], note = own, ""
    if others or cut is None or not segmentation == language == "auto":
        cut, note = segmentation_of(people, segmentation, language)
    return compare(
        captions,
        people,
        metrics=metrics,
        resampling=resampling,
        subset=subset,
        num_shown=num_shown,
        notes=[*dataset.skipped(), *([note] if note else [])],
        segmentation=cut,
    )


def compare(
    captions: Mapping[str, Mapping[str, str]],
    references: Mapping[str, Sequence[str]],
    *,
    metrics: Iterable[str] | None = None,
    families: Sequence[Family] = (),
    resampling: Resampling | None = None,
    subset: bool = False,
    num_shown: int = 5,
    cache: Path | None = None,
    notes: Sequence[str] = (),
    segmentation: Segmentation = PTB,
) -> Comparison:
    """Compare systems by their captions of the same images.

    Args:
        captions: for each system, by name, a caption for each image id; the first is what the
            others are compared with. Ids may be numbers; the result has them as strings.
        references: captions by people for each image id.
        metrics: as in ``evaluate``; so is ``families``.
        resampling: of the intervals and the tests. Default: ``NUM_RESAMPLES``, or as many as so
            many systems need.
        subset: compare on the images that all systems have a caption of.
        num_shown: how many pictures that gained and that lost to list.
        cache: a folder where tokenised references are kept.
        notes: what is known about the captions already; they begin the warnings.
        segmentation: how captions are cut into words.

    Raises:
        ScoringError: there are fewer than two systems, they have captions of different images and
            ``subset`` is not set, or what ``evaluate`` raises.
    """
    if len(captions) < 2:
        raise ScoringError(f"{len(captions)} system to compare: expected two or more")
    captions = {
        name: {str(image_id): text for image_id, text in said.items()}
        for name, said in captions.items()
    }
    references = {str(image_id): texts for image_id, texts in references.items()}
    if resampling is None:
        resampling = Resampling(max(NUM_RESAMPLES, fewest_resamples(len(captions))))
    warnings = list(notes)  # then those of single systems, and what all of them share
    shared = _shared_images(captions, list(references), subset, warnings)
    common = {image_id: references[image_id] for image_id in shared}
    people = References(common, cache=cache, segmentation=segmentation)
    chosen = None if metrics is None else list(metrics)
    systems = []
    for name, said in captions.items():
        texts = {image_id: said[image_id] for image_id in shared}
        scores = evaluate(texts, people, metrics=chosen, families=families)
        systems.append(System(name, texts, scores.with_intervals(resampling)))
    names = list(systems[0].scores.metrics)
    warnings += [*_warnings_of(systems), *_too_few(len(shared), len(systems), resampling)]
    found = differences([system.scores.statistics_by_id() for system in systems], resampling)
    corrected = {name: holm([by_metric[name].p for by_metric in found]) for name in names}
    # Figures of all captions together, as the size of the vocabulary, rank no single picture.
    single = next(iter(systems[0].scores.per_image.values())).keys()
    ranked_by = next((n for n in (_RANKED_BY, *names) if n in single), names[0])
    known = (*FAMILIES, *CHECKS, *families)
    better = {name: family.better_of(name) for family in known for name in family.names}
    contrasts = []
    for place, (system, by_metric) in enumerate(zip(systems[1:], found, strict=True)):
        gained, lost = _changes(systems[0], system, references, ranked_by, num_shown)
        if better[ranked_by] == "lower":
            gained, lost = lost, gained
        p_values = {name: corrected[name][place] for name in names}
        contrasts.append(Contrast(system.name, by_metric, p_values, gained, lost))
    return Comparison(
        systems, contrasts, {n: better[n] for n in names}, ranked_by, resampling, warnings
    )


def _too_few(num_images: int, num_systems: int, resampling: Resampling) -> Iterator[str]:
    """A warning for each reason for which no difference could be shown."""
    if num_images == 1:
        yield "one image shows no difference: the tests need many"
    fewest = fewest_resamples(num_systems)
    if resampling.num_resamples < fewest:
        yield (
            f"{resampling.num_resamples} resamples can show no difference between {num_systems} "
            f"systems, as no p-value can be below {SIGNIFICANT:g}: {fewest} or more can "
            f"(--bootstrap {fewest})"
        )


def _short(paths: Sequence[str]) -> list[str]:
    """The last parts of paths; whole paths where these tell more apart; numbers where none do."""
    names = [Path(path).name or path for path in paths]
    if len(set(names)) < len(set(paths)):
        names = list(paths)
    return [
        name if name not in names[:place] else f"{name} ({names[:place].count(name) + 1})"
        for place, name in enumerate(names)
    ]


def _shared_images(
    captions: Mapping[str, Mapping[str, str]],
    image_ids: Sequence[str],
    subset: bool,
    warnings: list[str],
) -> list[str]:
    """The images that every system has a caption of, in the references' order."""
    shared = [i for i in image_ids if all(i in said for said in captions.values())]
    largest = max(len(said) for said in captions.values())
    if not subset:
        for name, said in captions.items():
            if missing := [i for i in image_ids if i not in said]:
                raise ScoringError(
                    f"{name} has no caption of {len(missing)} images that others have: "
                    f"{some(missing)}; --subset compares on the images that all of them have"
                )
    elif not shared:
        raise ScoringError("the systems have no image in common")
    elif len(shared) < len(image_ids) or len(shared) < largest:
        warnings.append(f"compared on the {len(shared)} images that all systems have")
    return shared


def _warnings_of(systems: Sequence[System]) -> list[str]:
    """What their scores warn of: once where it is the same for all."""
    by_system = [system.scores.warnings for system in systems]
    every = [warning for warning in by_system[0] if all(warning in each for each in by_system)]
    return every + [
        f"{system.name}: {warning}"
        for system, warnings in zip(systems, by_system, strict=True)
        for warning in warnings
        if warning not in every
    ]


def _changes(
    first: System,
    other: System,
    references: Mapping[str, Sequence[str]],
    metric: str,
    num_shown: int,
) -> tuple[list[Change], list[Change]]:
    """The pictures whose score rose most and fell most, and no picture that did neither.

    A picture that has no score in one of the systems is in neither.
    """
    theirs, ours = first.scores.per_image, other.scores.per_image
    if any(metric not in scores for scores in theirs.values()):
        return [], []
    changes = [
        Change(
            image_id,
            ours[image_id][metric] - theirs[image_id][metric],
            (first.captions[image_id], other.captions[image_id]),
            references[image_id][0],
        )
        for image_id in theirs
    ]
    changes = [change for change in changes if not math.isnan(change.value)]
    changes.sort(key=lambda change: -change.value)
    gained = [change for change in changes[:num_shown] if change.value > 0]
    lost = [change for change in changes[::-1][:num_shown] if change.value < 0]
    return gained, lost
