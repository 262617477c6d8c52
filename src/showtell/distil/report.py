"""What came out: the student's figures beside its teacher's, and the card that says all of it."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from showtell.core.files import write_json, write_text
from showtell.core.messages import counted
from showtell.core.progress import Reporter
from showtell.data.records import Dataset, Record
from showtell.data.splits import hash_order
from showtell.errors import ShowtellError
from showtell.evaluation.evaluate import caption_records, references_of
from showtell.inference.backends.native import NativeCaptioner
from showtell.metrics import Scores, evaluate
from showtell.publish.card import COLUMNS, table
from showtell.rating.page import small_jpeg, write_sheet
from showtell.rating.scales import scale_named
from showtell.rating.sheet import make_sheet

CARD, FIGURES, SHEET = "card.md", "figures.json", "rating.html"
TO_JUDGE = 50  # pictures of the sheet
SHARED = "student where the teacher answered"
"""The student's figures on the pictures that the teacher has captioned, where these are fewer."""


@dataclass(frozen=True)
class Facts:
    """What the card says besides figures.

    Attributes:
        teacher: its name.
        asked_with: its settings, as far as they were given.
        licence: of the teacher's weights; None where it is not known.
        pictures: as the user named them.
        human: the name of people's captions; None where there are none.
        parameters: of teacher (None where unknown) and student.
        num_bytes: of the packed student.
        found, seconds: what each stage found, and how long it took.
        probabilities: added to "the student learnt the teacher's captions".
        has_sheet: whether there is a sheet to judge both by.
    """

    teacher: str
    asked_with: Mapping[str, Any]
    licence: str | None
    pictures: Sequence[str]
    human: str | None
    parameters: tuple[int | None, int]
    num_bytes: int
    found: Mapping[str, Mapping[str, Any]]
    seconds: Mapping[str, float]
    probabilities: str
    has_sheet: bool


@dataclass(frozen=True)
class Places:
    """Where figures go and features are.

    Attributes:
        folder: gets figures and captions.
        store: the student's features.
        is_human: whether people wrote the references, so that the teacher has a score too.
    """

    folder: Path
    store: Path
    is_human: bool


def measure(
    student: NativeCaptioner,
    dataset: Dataset,
    teacher_said: Mapping[str, str],
    places: Places,
    report: Reporter,
) -> dict[str, Any]:
    """Caption the test pictures and score the captions; both captioners' are written.

    Where the teacher has a score and has not captioned all of them, the student is scored on those
    that it has, too (``SHARED``). All words are cut as the student's vocabulary has it. Where the
    teacher has none, a sheet to judge both by is written (``SHEET``), or a note says why not.

    Args:
        teacher_said: the teacher's best captions of test pictures, by image id.
    """
    records = dataset.select("test")
    split = caption_records(student, dataset, records, store=places.store, report=report)
    said = split.evaluation.texts
    scores = {"student": split.evaluation.scores.with_intervals()}
    both = [record for record in split.records if record.image_id in teacher_said]
    if places.is_human and both:
        references = references_of(both, student.vocabulary.segmentation)
        scored = {"teacher": teacher_said}
        if len(both) < len(split.records):
            scored[SHARED] = said
        for who, texts in scored.items():
            texts = {record.image_id: texts[record.image_id] for record in both}
            scores[who] = evaluate(texts, references).with_intervals()
    for name, texts in (("student", said), ("teacher", dict(teacher_said))):
        entries = [{"image_id": i, "caption": text} for i, text in texts.items() if i in said]
        write_json(places.folder / f"{name}.json", entries)
    write_json(places.folder / FIGURES, {name: found.to_dict() for name, found in scores.items()})
    if not places.is_human:
        (places.folder / SHEET).unlink(missing_ok=True)  # of an earlier, unfinished report
        try:
            _sheet(split.records, {"student": said, "teacher": teacher_said}, places.folder, report)
        except ShowtellError as error:  # one test picture, say, of which the student says nothing
            report.note(f"there is no sheet to judge by: {error}")
    return {name: _brief(found) for name, found in scores.items()}


def _brief(scores: Scores) -> dict[str, Any]:
    return {
        "num_pictures": scores.num_images,
        "metrics": {name: scores.metrics[name] for name in COLUMNS if name in scores.metrics},
        "intervals": {
            name: str(scores.intervals[name]) for name in COLUMNS if name in scores.intervals
        },
        "signature": scores.signature,
    }


def _sheet(
    records: Sequence[Record],
    said: Mapping[str, Mapping[str, str]],
    folder: Path,
    report: Reporter,
) -> None:
    """A sheet of ``TO_JUDGE`` pictures, on which a person judges both blindly."""
    by_id = {record.image_id: record for record in records}
    shared = [name for name in hash_order(by_id) if all(name in texts for texts in said.values())]
    pictures = folder / "rating-pictures"
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir()
    names = {}
    for number, name in enumerate(shared[:TO_JUDGE]):
        path = by_id[name].path
        # Of any kind, as no browser shows a TIFF; and sheets find pictures by their suffix, which
        # those of archives and tables may lack.
        names[name] = f"{number:03d}.jpg"
        (pictures / names[name]).write_bytes(small_jpeg(path))
    files = []
    for system, texts in said.items():
        rows = [{"image_id": names[i], "caption": texts[i]} for i in names]
        files.append(folder / f"rating-{system}.json")
        write_json(files[-1], rows)
    sheet = make_sheet(files, pictures, scale_named("right/half/wrong"), sample=len(names))
    write_sheet(sheet, folder / SHEET, pictures, report)


def write_card(path: Path, facts: Facts, figures: Mapping[str, Any]) -> None:
    """The card, as Markdown."""
    write_text(path, card_text(facts, figures))


def card_text(facts: Facts, figures: Mapping[str, Any]) -> str:
    """What the model is, what it was made of, and how good it is."""
    parts = [
        "# A captioner distilled from another",
        f"A student of {facts.parameters[1] / 1e6:,.1f} million parameters "
        f"({facts.num_bytes / 1e6:.1f} MB), trained on what a teacher said of pictures.",
        "## Teacher and data",
        *_origin(facts),
        "## Figures",
        *_figures(facts, figures),
        "## What became of the teacher's captions",
        _dropped(facts),
        "## Cost",
        _cost(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _origin(facts: Facts) -> list[str]:
    size = facts.parameters[0]
    shown = f"{size / 1e6:,.1f} million parameters" if size else "size unknown"
    licence = facts.licence or "not known: find out before you pass this model on"
    settings = ", ".join(f"{name} = {value!r}" for name, value in facts.asked_with.items())
    lines = [
        f"- Teacher: {facts.teacher} ({shown})",
        *([f"- Asked with: {settings}"] if settings else []),
        f"- Licence of the teacher: {licence}",
        f"- Pictures: {', '.join(facts.pictures)}",
        f"- Captions by people: {facts.human or 'none'}",
        f"- The student learnt the teacher's captions{facts.probabilities}",
    ]
    return ["\n".join(lines)]


def _figures(facts: Facts, figures: Mapping[str, Any]) -> list[str]:
    names = [name for name in COLUMNS if name in figures["student"]["metrics"]]
    rows = [
        [
            who,
            f"{one['num_pictures']:,}",
            *(f"{one['metrics'][n]:.3f} {one['intervals'].get(n, '')}".strip() for n in names),
        ]
        for who, one in figures.items()
    ]
    parts = [table(["captioner", "pictures", *names], rows)]
    if facts.human:
        parts.append(
            "The references are captions by people, of pictures that nobody trained on. In "
            "brackets are 95 % intervals, by resampling the pictures."
        )
        if "teacher" in figures:
            student = SHARED if SHARED in figures else "student"
            one, two = (figures[who]["metrics"]["CIDEr-D"] for who in (student, "teacher"))
            if two > 0:
                where = " on the pictures that both captioned" if SHARED in figures else ""
                parts.append(f"The student has {one / two:.2f} of the teacher's CIDEr-D{where}.")
    else:
        parts.append(
            "No captions by people were given, so these figures measure **agreement with the "
            "teacher**, not quality: a student that repeats its teacher's mistakes scores well."
        )
        if facts.has_sheet:
            parts[-1] += (
                f" To judge quality, fill in the sheet `report/{SHEET}` ({TO_JUDGE} pictures at "
                "most, both captioners, blind) and read it with `showtell rate --read ANSWERS.csv "
                "--key report/rating.key.json`."
            )
    parts.append(f"Signature: `{figures['student']['signature']}`")
    return parts


def _dropped(facts: Facts) -> str:
    asked, kept = facts.found["filter"]["captions"], facts.found["data"]["kept"]
    rows = [[reason, f"{count:,}"] for reason, count in facts.found["data"]["dropped"].items()]
    rows.append(["kept", f"{kept:,}"])
    text = f"Of {asked:,} captions {kept:,} were learnt from; `filter/dropped.jsonl`, " + (
        "`fit/dropped.jsonl` and `data/dropped.jsonl` have the others, each with its reason."
    )
    seen = facts.found["pictures"]
    more = (
        f"Of {seen['readable'] + seen['failed']:,} pictures {seen['failed']:,} could not be read, "
        f"and {seen['same']:,} look like another and were not asked about. The teacher was asked "
        f"and gave no caption of {counted(facts.found['captions']['failed'], 'picture')}."
    )
    return f"{table(['captions', 'number'], rows)}\n\n{text}\n\n{more}"


def _cost(facts: Facts) -> str:
    rows = [[name, f"{seconds / 60:.1f}"] for name, seconds in facts.seconds.items()]
    rows.append(["all", f"{sum(facts.seconds.values()) / 60:.1f}"])
    return table(["stage", "minutes"], rows)
