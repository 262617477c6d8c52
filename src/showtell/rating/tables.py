"""What ratings say, as text for people and as JSON for programs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from showtell.core.messages import counted
from showtell.rating.results import Disagreement, Ratings

MOST_LISTED = 20


def to_text(ratings: Ratings) -> str:
    """Tables of everything; at most 20 disagreements and notes."""
    parts = [
        [_lead(ratings)],
        _systems(ratings),
        _confidence(ratings),
        _preferences(ratings),
        _agreement(ratings),
        _correlations(ratings),
        _disagreements(ratings),
        [f"note on {item} by {rater}: {text}" for rater, item, text in ratings.notes[:MOST_LISTED]],
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def to_dict(ratings: Ratings) -> dict[str, Any]:
    """Everything, as JSON has it; a figure is ``{"value": ..., "interval": [low, high]}``."""
    return {
        "sheet": ratings.sheet.id,
        "scale": ratings.sheet.scale.name,
        "num_asked": ratings.num_asked,
        "raters": ratings.raters,
        "systems": [
            {
                "name": one.name,
                "num_captions": one.num_captions,
                "num_ratings": one.num_ratings,
                "mean": one.mean.to_dict(),
                "shares": {code: figure.to_dict() for code, figure in one.shares.items()},
                "most_confident_half": None
                if one.confident is None
                else {"least": one.confident[0], "wrong": one.confident[1].to_dict()},
            }
            for one in ratings.systems
        ],
        "preferences": [
            asdict(one) | {"share": one.share.to_dict()} for one in ratings.preferences
        ],
        "krippendorff_alpha": _no_nan(ratings.alphas),
        "correlations": [_no_nan(asdict(one)) for one in ratings.correlations],
        "num_without_references": ratings.num_without_references,
        "disagreements": [
            {
                "item": one.item.id,
                "picture": one.item.picture,
                "captions": one.item.captions,
                "answers": one.answers,
            }
            for one in ratings.disagreements
        ],
        "notes": [
            {"rater": rater, "item": item, "note": text} for rater, item, text in ratings.notes
        ],
    }


def _no_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    """None in place of nan, which JSON does not have."""
    return {name: None if value != value else value for name, value in values.items()}


def _lead(ratings: Ratings) -> str:
    raters = ", ".join(f"{name} {number}" for name, number in ratings.raters.items())
    return (
        f"sheet {ratings.sheet.id}, scale {ratings.sheet.scale.name}, "
        f"{counted(ratings.num_asked, 'question')}; answers of {raters}"
    )


def _systems(ratings: Ratings) -> list[str]:
    codes = [grade.code for grade in ratings.sheet.scale.grades]
    rows = [
        [one.name, str(one.num_captions), str(one.num_ratings), str(one.mean)]
        + [f"{one.shares[code].value:.1%}" for code in codes]
        for one in ratings.systems
    ]
    lines = _table(["captioner", "captions", "ratings", "mean [95 %]", *codes], rows)
    for one in ratings.systems:
        shares = ", ".join(f"{code} {figure}" for code, figure in one.shares.items())
        lines.append(f"{one.name}: shares with intervals: {shares}")
    return lines


def _confidence(ratings: Ratings) -> list[str]:
    worst = ", ".join(sorted(ratings.sheet.scale.wrong))
    return [
        f"{one.name}: of the half with a confidence of {one.confident[0]:.3f} or more, graded "
        f"{worst}: {one.confident[1]}; of all: "
        f"{sum(one.shares[code].value for code in ratings.sheet.scale.wrong):.3f}"
        for one in ratings.systems
        if one.confident is not None
    ]


def _preferences(ratings: Ratings) -> list[str]:
    rows = [
        [
            f"{one.first} against {one.second}",
            *map(str, (one.wins, one.losses, one.ties, one.equal, one.share)),
            f"{one.p:.3f}",
        ]
        for one in ratings.preferences
    ]
    counts = ["wins", "losses", "ties", "equal"]
    head = ["on the same pictures", *counts, "share of wins [95 %]", "p"]
    return _table(head, rows)


def _agreement(ratings: Ratings) -> list[str]:
    if not ratings.alphas:
        return []
    values = ", ".join(f"{level} {value:.3f}" for level, value in ratings.alphas.items())
    return [f"agreement of raters (Krippendorff's alpha; 1: perfect, 0: chance): {values}"]


def _correlations(ratings: Ratings) -> list[str]:
    rows = [
        [
            one.metric,
            *(f"{value:.3f}" for value in (one.kendall, one.spearman, one.pearson)),
            str(one.num_captions),
        ]
        for one in ratings.correlations
    ]
    lines = _table(["with people", "Kendall tau-b", "Spearman", "Pearson", "captions"], rows)
    if num := ratings.num_without_references:
        lines.append(
            f"{counted(num, 'answered question')} left out of the correlations: no references for "
            "the picture"
        )
    return lines


def _disagreements(ratings: Ratings) -> list[str]:
    found = ratings.disagreements
    if not found:
        return []
    return [
        f"{counted(len(found), 'question')} answered in different ways; furthest apart first:",
        *map(_disagreement, found[:MOST_LISTED]),
    ]


def _disagreement(one: Disagreement) -> str:
    answers = ", ".join(f"{rater} {code}" for rater, code in one.answers.items())
    return f"  {one.item.picture}: {' | '.join(one.item.captions)} ({answers})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Columns of equal width, the first to the left; empty where there are no rows."""
    rows = list(rows)
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]
