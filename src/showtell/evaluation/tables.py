"""A comparison of captioners as text, Markdown, LaTeX or JSON."""

from collections.abc import Callable, Sequence
from typing import Any

from showtell.core.files import json_text
from showtell.evaluation.compare import SIGNIFICANT, Change, Comparison

_HEADINGS = ("metric", "system", "score", "interval", "difference", "interval", "p boot", "p rand")

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "|": r"\textbar{}",
        "<": "$<$",
        ">": "$>$",
        **{character: "\\" + character for character in "&%$#_{}"},
    }
)
_MARKDOWN = str.maketrans({"|": r"\|", "<": "&lt;"})


def text(comparison: Comparison) -> str:
    """For terminals: table, sentences, pictures."""
    rows = [_HEADINGS, *_rows(comparison)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines += ["", *comparison.sentences()]
    for contrast in comparison.contrasts:
        for title, changes in (("gained", contrast.gained), ("lost", contrast.lost)):
            if changes:
                lines += ["", _title(comparison, contrast.name, title)]
            for change in changes:
                names = (comparison.systems[0].name, contrast.name, "a person")
                width = max(map(len, names))
                lines.append(f"{change.value:+z.3f}  {change.image_id}")
                lines += [
                    f"    {name:<{width}}  {caption}"
                    for name, caption in zip(names, _captions(change), strict=True)
                ]
    return "\n".join([*lines, "", _note(comparison), comparison.signature])


def markdown(comparison: Comparison) -> str:
    """The same for pages and pull requests."""
    lines = [*_markdown_table(_HEADINGS, _rows(comparison)), ""]
    lines += [f"- {sentence}" for sentence in comparison.sentences()]
    first = comparison.systems[0].name
    for contrast in comparison.contrasts:
        for title, changes in (("gained", contrast.gained), ("lost", contrast.lost)):
            if changes:
                headings = (comparison.ranked_by, "image", first, contrast.name, "a person")
                rows = [
                    (f"{change.value:+z.3f}", change.image_id, *_captions(change))
                    for change in changes
                ]
                lines += ["", f"**{_title(comparison, contrast.name, title)}**", ""]
                lines += _markdown_table(headings, rows)
    return "\n".join([*lines, "", _note(comparison), "", f"`{comparison.signature}`"])


def latex(comparison: Comparison) -> str:
    """A table for a paper, by the package booktabs: a column for each system."""
    names = [system.name.translate(_LATEX) for system in comparison.systems]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\begin{{tabular}}{{l{'l' * len(names)}}}",
        r"\toprule",
        " & ".join(["", *names]) + r" \\",
        r"\midrule",
    ]
    for metric in comparison.systems[0].scores.metrics:
        cells = [metric.translate(_LATEX)]
        for place, system in enumerate(comparison.systems):
            is_shown = place > 0 and comparison.contrasts[place - 1].is_shown(metric)
            interval = str(system.scores.intervals.get(metric, "-"))
            cells.append(
                f"{system.scores.metrics[metric]:.3f} {{\\small {interval}}}"
                + ("$^{*}$" if is_shown else "")
            )
        lines.append(" & ".join(cells) + r" \\")
    note = _note(comparison, has_p_values=False)
    caption = f"{note} {comparison.signature}".translate(_LATEX)
    return "\n".join(
        [*lines, r"\bottomrule", r"\end{tabular}", rf"\caption{{{caption}}}", r"\end{table}"]
    )


def _json(comparison: Comparison) -> str:
    """For programs; a figure without a value is null."""
    values = {
        "systems": [
            {"name": system.name, **system.scores.to_dict()} for system in comparison.systems
        ],
        "comparisons": [
            {
                "system": contrast.name,
                "with": comparison.systems[0].name,
                "metrics": {
                    metric: {
                        "difference": difference.value,
                        "interval": list(difference.interval),
                        "p_bootstrap": difference.p_bootstrap,
                        "p_randomisation": difference.p_randomisation,
                        "p_corrected": contrast.corrected[metric],
                        "is_shown": contrast.is_shown(metric),
                    }
                    for metric, difference in contrast.differences.items()
                },
                "gained": [_change(change) for change in contrast.gained],
                "lost": [_change(change) for change in contrast.lost],
            }
            for contrast in comparison.contrasts
        ],
        "ranked_by": comparison.ranked_by,
        "sentences": comparison.sentences(),
        "signature": comparison.signature,
        "warnings": comparison.warnings,
    }
    return json_text(values)


FORMATS: dict[str, Callable[[Comparison], str]] = {
    "text": text,
    "markdown": markdown,
    "latex": latex,
    "json": _json,
}
"""Each form by its name on the command line."""


def _rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """A row for each metric of each system."""
    rows = []
    for metric in comparison.systems[0].scores.metrics:
        for place, system in enumerate(comparison.systems):
            cells = [metric if place == 0 else "", system.name]
            cells.append(f"{system.scores.metrics[metric]:.3f}")
            cells.append(str(system.scores.intervals.get(metric, "-")))
            if place:
                contrast = comparison.contrasts[place - 1]
                difference = contrast.differences[metric]
                cells.append(f"{difference.value:+z.3f}" + "*" * contrast.is_shown(metric))
                cells.append(str(difference.interval))
                cells += [f"{p:.3f}" for p in (difference.p_bootstrap, difference.p_randomisation)]
            rows.append(tuple(cells + [""] * (len(_HEADINGS) - len(cells))))
    return rows


def _markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [headings, ("---",) * len(headings), *rows]
    escaped = [[" ".join(cell.split()).translate(_MARKDOWN) for cell in line] for line in lines]
    return ["| " + " | ".join(line) + " |" for line in escaped]


def _title(comparison: Comparison, name: str, title: str) -> str:
    return f"{name} {title} most in {comparison.ranked_in} over {comparison.systems[0].name}"


def _note(comparison: Comparison, *, has_p_values: bool = True) -> str:
    first, several = comparison.systems[0], len(comparison.contrasts)
    note = (
        f"{first.scores.num_images} images; {100 * comparison.resampling.confidence:g} % "
        f"intervals; differences from {first.name}; * both tests say p < {SIGNIFICANT:g}"
    )
    if several < 2:
        return f"{note}."
    note += f", corrected for {several} comparisons (Holm 1979), for each metric alone"
    return f"{note}; p boot and p rand are not corrected." if has_p_values else f"{note}."


def _captions(change: Change) -> tuple[str, str, str]:
    return (*change.captions, change.reference)


def _change(change: Change) -> dict[str, Any]:
    return {
        "image_id": change.image_id,
        "difference": change.value,
        "captions": list(change.captions),
        "reference": change.reference,
    }
