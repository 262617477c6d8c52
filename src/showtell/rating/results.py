"""What raters' answers say: grades of each captioner, who wins, how far raters agree.

A captioner's grade of a picture is the mean of its raters' grades; intervals resample pictures, as
those of the metrics do (``metrics/bootstrap.py``). Ratings of one picture are not independent, so
the sign test counts pictures, too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from showtell.data.reading import printable
from showtell.errors import DataError
from showtell.metrics.bootstrap import Interval, Resampling, intervals
from showtell.metrics.statistics import Statistics
from showtell.rating import agreement
from showtell.rating.answers import Answers
from showtell.rating.scales import Grade
from showtell.rating.sheet import Author, Item, Sheet

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval."""

    value: float
    interval: Interval

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.interval.low:.3f}, {self.interval.high:.3f}]"

    def to_dict(self) -> dict[str, Any]:
        return {"value": self.value, "interval": list(self.interval)}


@dataclass(frozen=True)
class SystemGrades:
    """The grades of one captioner.

    Attributes:
        num_captions, num_ratings: how many captions were rated, and how often in all.
        mean: of the captions' mean grades.
        shares: of each grade's code among the ratings.
        confident: of the half of the captions with the highest confidence, the share of wrong
            ratings, if confidences are known; and the confidence from which that half begins.
    """

    name: str
    num_captions: int
    num_ratings: int
    mean: Figure
    shares: dict[str, Figure]
    confident: tuple[float, Figure] | None = None


@dataclass(frozen=True)
class Preference:
    """How often people prefer the first captioner's caption of a picture to the second's.

    Attributes:
        wins, losses, ties: of pictures that were rated.
        equal: pictures with equal captions, which nobody is asked about.
        share: of wins, a tie counting half for each. Equal captions are ties; where a part of the
            questions about the others is answered, so large a part of these counts.
        p: of the exact sign test over wins and losses.
    """

    first: str
    second: str
    wins: int
    losses: int
    ties: int
    equal: int
    share: Figure
    p: float


@dataclass(frozen=True)
class Correlation:
    """How far a metric orders captions as people do."""

    metric: str
    num_captions: int
    kendall: float
    spearman: float
    pearson: float


@dataclass(frozen=True)
class Disagreement:
    """A question that raters answered in different ways."""

    item: Item
    answers: dict[str, str]
    spread: float


@dataclass(frozen=True)
class Ratings:
    """All that the answers say; ``tables.py`` shows it.

    Attributes:
        num_without_references: answered questions that are in no correlation, as one of their
            captions is of a picture without references; None where none were given.
    """

    sheet: Sheet
    raters: dict[str, int]
    num_asked: int
    systems: list[SystemGrades]
    preferences: list[Preference]
    alphas: dict[str, float]
    disagreements: list[Disagreement]
    notes: list[tuple[str, str, str]]
    correlations: list[Correlation] = field(default_factory=list)
    num_without_references: int | None = None


def summarise(
    sheet: Sheet,
    answers: Answers,
    *,
    references: Path | None = None,
    metrics: Sequence[str] | None = None,
    resampling: Resampling | None = None,
) -> Ratings:
    """Everything that the answers say.

    Args:
        references: a file of references, for the correlation with metrics.
        metrics: as ``evaluate`` takes them.

    Raises:
        DataError: the captioners' files are not as they were when the sheet was made.
        ScoringError: the references cannot be read or do not fit.
    """
    resampling = resampling or Resampling()
    rated = _rated(sheet, answers)
    graded = sheet.scale.num_captions == 1
    found = Ratings(
        sheet,
        {rater: len(grades) for rater, grades in answers.grades.items()},
        len(sheet.items),
        _of_systems(sheet, rated, resampling) if graded else [],
        _preferences(sheet, rated, resampling),
        _alphas(sheet, answers),
        _disagreements(sheet, answers),
        answers.notes,
    )
    if references is None:
        return found
    correlations, num_left = _correlations(sheet, rated, references, metrics)
    return replace(found, correlations=correlations, num_without_references=num_left)


Rated = list[tuple[Item, list[Grade]]]  # the items that have answers, with them


def _rated(sheet: Sheet, answers: Answers) -> Rated:
    rated = [
        (item, [grades[item.id] for grades in answers.grades.values() if item.id in grades])
        for item in sheet.items
    ]
    return [(item, grades) for item, grades in rated if grades]


def _of_systems(sheet: Sheet, rated: Rated, resampling: Resampling) -> list[SystemGrades]:
    found = []
    for number, system in enumerate(sheet.systems):
        own = [
            (author, grades)
            for item, grades in rated
            for author in item.authors[0]
            if author.system == number
        ]
        if not own:
            continue
        means = np.array([fmean(grade.value for grade in grades) for _, grades in own])
        counts = np.array([len(grades) for _, grades in own], np.float64)
        shares = {}
        for grade in sheet.scale.grades:
            given = np.array([grades.count(grade) for _, grades in own], np.float64)
            shares[grade.code] = _figure(Statistics.ratio(grade.code, given, counts), resampling)
        found.append(
            SystemGrades(
                system.name,
                len(own),
                int(counts.sum()),
                _figure(Statistics.mean("mean", means), resampling),
                shares,
                _confident(sheet, own, resampling),
            )
        )
    return found


def _confident(
    sheet: Sheet, own: Sequence[tuple[Author, list[Grade]]], resampling: Resampling
) -> tuple[float, Figure] | None:
    """The share of wrong ratings at the confidence that keeps half of the captions."""
    known = [author.confidence for author, _ in own if author.confidence is not None]
    if len(known) < max(len(own), 2):
        return None
    ordered = sorted(known, reverse=True)
    least = ordered[(len(ordered) + 1) // 2 - 1]
    kept = np.array([confidence >= least for confidence in known], np.float64)
    wrong = [sum(g.code in sheet.scale.wrong for g in grades) for _, grades in own]
    counts = np.array([len(grades) for _, grades in own], np.float64)
    share = Statistics.ratio("wrong", kept * np.array(wrong), kept * counts)
    return least, _figure(share, resampling)


def _preferences(sheet: Sheet, rated: Rated, resampling: Resampling) -> list[Preference]:
    """Of each two captioners, who is preferred on how many pictures."""
    found = []
    for one, other in combinations(range(len(sheet.systems)), 2):
        gains = np.array(_gains(sheet, rated, one, other))
        if not len(gains):
            continue
        wins, losses = int((gains > 0).sum()), int((gains < 0).sum())
        num_equal = sum(_sign(item, one, other) != 0 for item in sheet.equal)
        num_asked = sum(_sign(item, one, other) != 0 for item in sheet.items)
        weights = np.ones(len(gains) + num_equal)
        if num_equal:
            weights[len(gains) :] = len(gains) / num_asked
        won = np.append((np.sign(gains) + 1) / 2, np.full(num_equal, 0.5))
        found.append(
            Preference(
                sheet.systems[one].name,
                sheet.systems[other].name,
                wins,
                losses,
                len(gains) - wins - losses,
                num_equal,
                _figure(Statistics.ratio("share", won * weights, weights), resampling),
                agreement.sign_test(wins, losses),
            )
        )
    return found


def _gains(sheet: Sheet, rated: Rated, one: int, other: int) -> list[float]:
    """For each rated picture, by how much people prefer one captioner's caption to the other's."""
    if sheet.scale.num_captions == 2:
        return [
            sign * fmean(grade.value for grade in grades)
            for item, grades in rated
            if (sign := _sign(item, one, other))
        ]
    means: dict[str, dict[int, float]] = {}
    for item, grades in rated:
        for author in item.authors[0]:
            means.setdefault(item.picture, {})[author.system] = fmean(g.value for g in grades)
    return [each[one] - each[other] for each in means.values() if one in each and other in each]


def _sign(item: Item, one: int, other: int) -> int:
    """1 where the pair is of these two in this order, -1 in the other, 0 where of others."""
    pair = tuple(authors[0].system for authors in item.authors)
    return 1 if pair == (one, other) else -1 if pair == (other, one) else 0


def _alphas(sheet: Sheet, answers: Answers) -> dict[str, float]:
    """Krippendorff's alpha at each level that fits the scale; empty with a single rater."""
    if len(answers.grades) < 2:
        return {}
    values = np.full((len(answers.grades), len(sheet.items)), np.nan)
    places = {item.id: place for place, item in enumerate(sheet.items)}
    for row, grades in zip(values, answers.grades.values(), strict=True):
        for item_id, grade in grades.items():
            row[places[item_id]] = grade.value
    return {level: agreement.krippendorff_alpha(values, level) for level in sheet.scale.levels}


def _disagreements(sheet: Sheet, answers: Answers) -> list[Disagreement]:
    """The questions with different answers, those furthest apart first."""
    found = []
    for item in sheet.items:
        given = {rater: g[item.id] for rater, g in answers.grades.items() if item.id in g}
        values = [grade.value for grade in given.values()]
        if values and max(values) > min(values):
            codes = {rater: grade.code for rater, grade in given.items()}
            found.append(Disagreement(item, codes, max(values) - min(values)))
    return sorted(found, key=lambda one: -one.spread)


def _correlations(
    sheet: Sheet, rated: Rated, references: Path, metrics: Sequence[str] | None
) -> tuple[list[Correlation], int]:
    """Of people's grades of captions with each metric; of preferences with its differences.

    Returns:
        The correlations, and how many of the rated items have captions without references.
    """
    scores = [_scores(sheet, number, references, metrics) for number in range(len(sheet.systems))]
    said: list[float] = []
    measured: list[Mapping[str, float]] = []
    num_left = 0
    for item, grades in rated:
        authors = [author for each in item.authors for author in each]
        own = [scores[a.system][a.row] for a in authors if a.row in scores[a.system]]
        if len(own) < len(authors):
            num_left += 1
            continue
        if sheet.scale.num_captions == 2:
            a, b = own
            own = [{name: a[name] - b[name] for name in a}]
        measured += own
        said += [fmean(grade.value for grade in grades)] * len(own)
    people = np.array(said)
    found = []
    for name in measured[0] if measured else ():
        values = np.array([each[name] for each in measured])
        known = ~np.isnan(values)
        a, b = people[known], values[known]
        found.append(
            Correlation(
                name,
                len(a),
                agreement.kendall_tau_b(a, b),
                agreement.spearman(a, b),
                agreement.pearson(a, b),
            )
        )
    return found, num_left


def _scores(
    sheet: Sheet, system: int, references: Path, metrics: Sequence[str] | None
) -> dict[int, dict[str, float]]:
    """The scores of the rows of a captioner's file that the sheet has, if they have references.

    The file's other rows are scored with them, as a score depends on those beside it.
    """
    from showtell.metrics.caption_files import read_references, read_results
    from showtell.metrics.coco_io import best_match, references_cache, segmentation_of
    from showtell.metrics.evaluate import evaluate

    file = Path(sheet.systems[system].file)
    if not file.is_file():
        raise DataError(
            f"no file {file}, whose captions were rated: metrics are computed from it, so run this "
            "in the folder in which the sheet was made"
        )
    entries = read_results(file)
    texts = [" ".join(entry.captions[0].split()) for entry in entries]
    asked: dict[int, str] = {}
    for item in (*sheet.items, *sheet.equal):
        for caption, authors in zip(item.captions, item.authors, strict=True):
            for author in authors:
                if author.system != system:
                    continue
                asked[author.row] = caption
                if texts[author.row : author.row + 1] != [caption]:
                    raise DataError(
                        f"{file} has changed since the sheet was made of it: row {author.row} was "
                        f"{caption!r}"
                    )
    match = best_match(entries, read_references(references))
    rows: dict[str, int] = {}  # of each image
    for row in sorted(range(len(entries)), key=lambda row: row not in asked):
        image_id = match.of_each[row]
        if image_id is not None and rows.setdefault(image_id, row) != row and row in asked:
            raise DataError(
                f"{file}: rows {rows[image_id]} and {row}, counted from 0, are captions of one "
                f"image of {references}, {printable(image_id)}: leave out --references, or give "
                "its images different names"
            )
    if not rows:
        return {}
    people = {image_id: said for image_id, said in match.references.items() if image_id in rows}
    segmentation, _ = segmentation_of(people)
    scores = evaluate(
        {image_id: entries[row].captions[0] for image_id, row in rows.items()},
        people,
        metrics=metrics,
        cache=references_cache(),
        segmentation=segmentation,
    ).per_image
    return {row: scores[image_id] for image_id, row in rows.items()}


def _figure(statistics: Statistics, resampling: Resampling) -> Figure:
    [name] = statistics.names
    found = intervals(
        [statistics], resampling.num_resamples, resampling.confidence, resampling.seed
    )
    value = float(statistics.figures()[0])
    return Figure(value, found.get(name, Interval(float("nan"), float("nan"))))
