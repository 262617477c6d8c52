"""Answers of raters, read back from what the page downloads or from a filled spreadsheet.

A file has a row for each question: ``item``, ``answer``, and if there are ``sheet``, ``rater`` and
``note``. The rater is named by the file where the rows name none, and by its folder too where two
files have one name. Rows without an answer are passed
over. Everything else that does not fit is an error that names file and row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from showtell.core.messages import counted
from showtell.data.graded import GradedCaption
from showtell.data.reading import parse_json, printable, read_text
from showtell.data.sources.table import TableText
from showtell.errors import DataError
from showtell.rating.scales import Grade
from showtell.rating.sheet import Sheet, names_of


@dataclass
class Answers:
    """What raters answered.

    Attributes:
        grades: of each rater, the grade of each item's id.
        notes: (rater, item's id, text) of each note.
    """

    grades: dict[str, dict[str, Grade]] = field(default_factory=dict)
    notes: list[tuple[str, str, str]] = field(default_factory=list)


def read_answers(paths: Sequence[Path], sheet: Sheet) -> Answers:
    """
    Raises:
        DataError: a file cannot be read or has no answers, an answer is none of the scale's, an
            item is of another sheet, or a rater answers a question in two ways.
    """
    answers = Answers()
    known = {item.id for item in sheet.items}
    raters = _raters(paths)
    for path in paths:
        num = 0
        for where, row in _rows(path):
            if (code := row.get("answer", "").strip()) == "" and not row.get("note", "").strip():
                continue
            of_sheet, item = row.get("sheet", "").strip() or sheet.id, row["item"].strip()
            if of_sheet != sheet.id or item not in known:
                raise DataError(
                    f"{where}: item {printable(item)} of sheet {printable(of_sheet)} is not in the "
                    f"key, which is of sheet {sheet.id}"
                )
            rater = row.get("rater", "").strip() or raters[path]
            if note := row.get("note", "").strip():
                answers.notes.append((rater, item, note))
            if code:
                num += 1
                _add(answers.grades.setdefault(rater, {}), item, code, sheet, f"{where}, {rater}")
        if not num:
            raise DataError(f"{path}: no answers: every row's `answer` is empty")
    return answers


def graded_captions(sheet: Sheet, answers: Answers) -> Iterator[GradedCaption]:
    """The captions that were graded, each with the mean of its grades, from 0 (worst) to 1 (best).

    Of two captions that were compared, the better one has 1, the other 0, and both 0.5 where there
    is no difference; a caption that was compared several times has the mean.
    """
    values = [grade.value for grade in sheet.scale.grades]
    least, most = min(values), max(values)
    found: dict[tuple[str, str], list[float]] = {}
    for item in sheet.items:
        for grades in answers.grades.values():
            if item.id in grades:
                grade = (grades[item.id].value - least) / (most - least)
                for caption, own in zip(item.captions, (grade, 1 - grade), strict=False):
                    found.setdefault((item.picture, caption), []).append(own)
    for (picture, caption), given in found.items():
        yield GradedCaption(picture, caption, fmean(given))


def _raters(paths: Sequence[Path]) -> dict[Path, str]:
    """Who answered, by the names of files; one person's CSV and JSON are one person's."""
    files: dict[Path, Path] = {}  # the first of each person
    for path in paths:
        files.setdefault(path.absolute().with_suffix(""), path)
    names = dict(zip(files, names_of(list(files.values())), strict=True))
    return {path: names[path.absolute().with_suffix("")] for path in paths}


def _add(grades: dict[str, Grade], item: str, code: str, sheet: Sheet, where: str) -> None:
    grade = sheet.scale.grade(code)
    if grade is None:
        codes = ", ".join(grade.code for grade in sheet.scale.grades)
        raise DataError(f"{where}: unknown answer {printable(code)!r}; expected one of {codes}")
    if grades.setdefault(item, grade) is not grade:
        raise DataError(
            f"{where}: answers item {item} as {grade.code}, and before as {grades[item].code}"
        )


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a file, each with where it stands."""
    text = read_text(path)
    if path.suffix.lower() == ".json" or text.lstrip()[:1] == "[":
        yield from _json_rows(parse_json(text, path), path)
        return
    table = TableText(text)
    names = [name.strip().lower() for name in table.names]
    if missing := [name for name in ("item", "answer") if name not in names]:
        found = ", ".join(map(printable, table.names[:20])) or "nothing"
        raise DataError(
            f"{path}: no column {' and no column '.join(missing)}; found {found}; expected the CSV "
            "of a rating sheet, filled in or downloaded from its page"
        )
    for number, cells in table.rows(picture=None, last_is_caption=names[-1] == "note"):
        if len(cells) != len(names):
            raise DataError(
                f"{path}: row {number} has {counted(len(cells), 'cell')}, but the header "
                f"names {len(names)}"
            )
        yield f"{path}: row {number}", dict(zip(names, cells, strict=True))


def _json_rows(value: Any, path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    for number, row in enumerate(value if isinstance(value, list) else [value]):
        if not isinstance(row, dict) or not {"item", "answer"} <= row.keys():
            raise DataError(
                f"{path}: entry {number}, counted from 0, has no item and answer; expected the "
                "JSON that a rating sheet's page downloads"
            )
        yield (
            f"{path}: entry {number}",
            {name: "" if cell is None else str(cell) for name, cell in row.items()},
        )
