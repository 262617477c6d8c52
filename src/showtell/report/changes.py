"""Captioners beside each other on the same pictures: a ranking, and what improved and got worse.

Everything is read from a ``Comparison``, whether it is of runs or of files of captions.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from showtell.evaluation.compare import SIGNIFICANT, Change, Comparison, Contrast
from showtell.metrics import CHECKS
from showtell.metrics.bootstrap import differences, holm
from showtell.metrics.evaluate import Scores
from showtell.report.page import (
    Cell,
    Section,
    example,
    examples,
    heading,
    paragraph,
    table,
    thumbnail,
)

CHECKED = tuple(family for family in CHECKS if family.name in ("CHAIR", "wording"))
"""What a report shows beside COCO's metrics."""

CHAIR = next(family.names for family in CHECKED if family.name == "CHAIR")
MANY = 0.5  # share of the pictures whose references name an object, for CHAIR to be shown
NUM_CHANGES = 8  # pictures that gained, and that lost, of each contrast
MISSING = "–"
CLOSE = "≈"
TITLE = "What improved and what got worse"

FindPicture = Callable[[str], Path | str | None]
"""The picture of an image id, or the reason why there is none; None where none are shown."""


class Leader(NamedTuple):
    """Who is first in a metric.

    Attributes:
        best: the place of the system with the best value.
        close: places of the systems, if any, from which no difference to the best can be shown.
    """

    best: int
    close: frozenset[int]


def leaders(comparison: Comparison) -> dict[str, Leader]:
    """The leader of each metric that has better values.

    The best system is tested against every other one by the tests of ``compare``, corrected for
    their number (Holm 1979).
    """
    by_best: dict[int, list[str]] = {}
    for metric in shown(comparison):
        values = [system.scores.metrics[metric] for system in comparison.systems]
        better = comparison.better[metric]
        known = [place for place, value in enumerate(values) if not math.isnan(value)]
        if better and known:
            sign = 1 if better == "higher" else -1
            best = max(known, key=lambda place: sign * values[place])
            by_best.setdefault(best, []).append(metric)
    found = {}
    by_id = [system.scores.statistics_by_id() for system in comparison.systems]
    for best, metrics in by_best.items():
        others = [place for place in range(len(comparison.systems)) if place != best]
        tested = differences([by_id[place] for place in (best, *others)], comparison.resampling)
        for metric in metrics:
            corrected = holm([by_metric[metric].p for by_metric in tested])
            close = [o for o, p in zip(others, corrected, strict=True) if p >= SIGNIFICANT]
            found[metric] = Leader(best, frozenset(close))
    return found


def why_no_chair(scores: Scores) -> str:
    """Why CHAIR says nothing of these captions; empty where it does.

    Of pictures without COCO's objects it would be a perfect 0, or rest on a few words such as
    "orange", that are also colours.
    """
    values = [of_one.get("object-recall") for of_one in scores.per_image.values()]
    num_there = sum(value is not None and not math.isnan(value) for value in values)
    if None in values or num_there >= MANY * len(values):
        return ""
    return (
        "CHAIR and object recall are left out: they are about COCO's 80 objects, and the "
        f"references of only {num_there:,} of {len(values):,} pictures name one."
    )


def is_shown(metric: str, scores: Scores) -> bool:
    """Whether pages show it: three figures of repeats are too many, and see ``why_no_chair``."""
    return not metric.startswith("repeats-") and not (metric in CHAIR and why_no_chair(scores))


def shown(comparison: Comparison) -> list[str]:
    """The metrics that pages show and that have a value; what pictures are ranked by always is."""
    scores = comparison.systems[0].scores
    return [
        metric
        for metric in scores.metrics
        if (metric == comparison.ranked_by or is_shown(metric, scores))
        and any(not math.isnan(system.scores.metrics[metric]) for system in comparison.systems)
    ]


def ranking(comparison: Comparison, title: str, about: str = "") -> Section:
    """A table with a row for each system, in the order of the metric that pictures are ranked by.

    Systems without a value of it come last.

    Args:
        about: what comes before it.
    """
    metrics, first = shown(comparison), leaders(comparison)
    ranked_by = comparison.ranked_by
    sign = 1 if comparison.better[ranked_by] == "lower" else -1
    keys = [sign * system.scores.metrics[ranked_by] for system in comparison.systems]
    keys = [math.inf if math.isnan(key) else key for key in keys]
    places = sorted(range(len(keys)), key=keys.__getitem__)
    rows = [
        [_name(comparison, place), *(_score(comparison, place, m, first.get(m)) for m in metrics)]
        for place in places
    ]
    arrows = {"higher": " ↑", "lower": " ↓", None: ""}
    head = ["captioner", *(metric + arrows[comparison.better[metric]] for metric in metrics)]
    sorts = ["ascending" if name.endswith("↓") else "descending" for name in head]
    sorts[0] = "ascending"
    num_images = comparison.systems[0].scores.num_images
    body = table(f"{num_images:,} pictures", head, rows, sorts=sorts)
    return Section("ranking", title, about + body + _legend(comparison))


def _legend(comparison: Comparison) -> str:
    resampling = comparison.resampling
    several = (
        f" Its p-values are corrected for {len(comparison.systems) - 1} comparisons (Holm 1979)."
        if len(comparison.systems) > 2
        else ""
    )
    text = (
        "↑: higher is better; ↓: lower is better. In brackets: "
        f"{100 * resampling.confidence:g} % intervals, from {resampling.num_resamples:,} resamples "
        "of the pictures; a captioner trained again with another seed may differ by more. A value "
        "is marked if it is the best of its column and is better than every other one by both the "
        "paired bootstrap (Koehn 2004) and approximate randomisation (Riezler and Maxwell 2005), "
        f"p < {SIGNIFICANT:g}.{several} {CLOSE}: the best of the column, and values not "
        "shown to differ from it. Press a heading to sort by it."
    )
    body = paragraph(text, soft=True)
    if "CHAIR-s" in shown(comparison):
        body += paragraph(
            "CHAIR (Rohrbach et al. 2018): the share of mentions of objects, and of captions with "
            "such a mention, that are of objects which the references of the picture do not name; "
            "object-recall is the share of objects in the references that captions name. Objects "
            "are COCO's 80.",
            soft=True,
        )
    elif reason := why_no_chair(comparison.systems[0].scores):
        body += paragraph(reason, soft=True)
    return body + paragraph(f"Signature: {comparison.signature}", soft=True)


def _name(comparison: Comparison, place: int) -> Cell:
    return Cell(comparison.systems[place].name, link=_id(place) if place else "")


def _id(place: int) -> str:
    return f"versus-{place}"


def _score(comparison: Comparison, place: int, metric: str, leader: Leader | None) -> Cell:
    scores = comparison.systems[place].scores
    value = scores.metrics[metric]
    if math.isnan(value):
        return Cell(MISSING)
    text, is_best = f"{value:.3f}", False
    if leader and leader.close and place in (leader.best, *leader.close):
        text = f"{CLOSE} {text}"
    elif leader:
        is_best = place == leader.best
    return Cell(text, str(scores.intervals.get(metric, "")), value, is_best=is_best)


def changes(comparison: Comparison, find: FindPicture) -> Section:
    """What improved and what got worse from the first system to each of the others."""
    body = paragraph(
        "Differences have 95 % intervals. The last column names a difference only if the paired "
        f"bootstrap and approximate randomisation both show it, p < {SIGNIFICANT:g}; p is the "
        "larger of their p-values"
        + (", corrected for the comparisons made." if len(comparison.contrasts) > 1 else "."),
        soft=True,
    )
    first = comparison.systems[0]
    num_shown = NUM_CHANGES if len(comparison.contrasts) < 4 else NUM_CHANGES // 2
    for place, contrast in enumerate(comparison.contrasts, 1):
        body += heading(f"{contrast.name} beside {first.name}", id=_id(place))
        body += _differences(comparison, place)
        for title, found in (("gained", contrast.gained), ("lost", contrast.lost)):
            if found:
                text = f"Pictures on which {contrast.name} {title} most in {comparison.ranked_in}"
                body += heading(text, level=4) + examples(
                    _change(comparison, contrast, change, find) for change in found[:num_shown]
                )
        of_pictures = next(iter(first.scores.per_image.values()))
        if not contrast.gained and not contrast.lost and comparison.ranked_by in of_pictures:
            body += paragraph(f"No picture's {comparison.ranked_by} differs.")
    return Section("changes", TITLE, body)


def _differences(comparison: Comparison, place: int) -> str:
    contrast = comparison.contrasts[place - 1]
    systems = (comparison.systems[0], comparison.systems[place])
    rows: list[list[str | Cell]] = []
    for metric in shown(comparison):
        difference = contrast.differences[metric]
        values = [system.scores.metrics[metric] for system in systems]
        rows.append(
            [
                metric,
                *(MISSING if math.isnan(value) else f"{value:.3f}" for value in values),
                Cell(f"{difference.value:+.3f}", str(difference.interval)),
                Cell(
                    comparison.verdict(contrast, metric) or "no difference shown",
                    f"p = {contrast.corrected[metric]:.3f}",
                ),
            ]
        )
    head = ["", *(system.name for system in systems), "difference", "what can be shown"]
    return table(f"{contrast.name} minus {systems[0].name}", head, rows)


def _change(comparison: Comparison, contrast: Contrast, change: Change, find: FindPicture) -> str:
    first, ranked_by = comparison.systems[0], comparison.ranked_by
    before = first.scores.per_image[change.image_id][ranked_by]
    said = [
        (change.captions[0], f"{first.name}: {ranked_by} {before:.2f}"),
        (
            change.captions[1],
            f"{contrast.name}: {ranked_by} {before + change.value:.2f} ({change.value:+.2f})",
        ),
    ]
    found = find(change.image_id)
    picture, reason = thumbnail(found) if isinstance(found, Path) else (None, found or "")
    return example(picture, reason, said, [change.reference])
