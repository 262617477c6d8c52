"""Making a report: read the runs, caption with them, draw figures, write the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from showtell.core.files import atomic_write, write_text
from showtell.core.progress import Reporter
from showtell.errors import ShowtellError
from showtell.evaluation.compare import compare
from showtell.report import changes, sections, showing
from showtell.report.captions import CaptionedRun, DataPlace, caption_validation
from showtell.report.charts import curve_figures
from showtell.report.page import Figure, Section, notes, page, page_at, paragraph
from showtell.report.reading import RunFolder, read_runs
from showtell.version import __version__


@dataclass(frozen=True)
class ReportResult:
    """What was written.

    Attributes:
        page: the HTML page.
        figures: the folder beside it with every figure as PNG.
        left_out: the sections that could not be made, each with the reason.
    """

    page: Path
    figures: Path
    left_out: dict[str, str]


def make_report(
    folders: Sequence[Path],
    *,
    report: Reporter,
    output: Path | None = None,
    place: DataPlace | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> ReportResult:
    """Write one page about a run, or one that compares several.

    Sections whose files or data are missing are left out, and the page says so.

    Args:
        output: the page, or a folder for it, in which it is ``report.html``, of several runs
            ``comparison.html``; by default the folder of the first.
        place: where the validation pictures are, if not where training had them.

    Raises:
        CheckpointError: a folder does not hold a run.
        OSError: the page cannot be written.
    """
    place = place or DataPlace()
    runs = read_runs(list(folders))
    target = page_at(output or runs[0].folder, len(runs))
    pictures = target.with_name(f"{target.stem}-figures")
    pictures.mkdir(parents=True, exist_ok=True)
    drawings = curve_figures(runs)
    captioned, reasons = _caption(runs, place, device, precision, report)
    shown, more = _shown(captioned, list(reasons.values()), pictures, is_comparison=len(runs) > 1)
    for drawing in (*drawings, *more):
        with atomic_write(pictures / f"{drawing.name}.png", "wb") as file:
            file.write(drawing.light)
    parts = [
        sections.final_figures(runs, captioned),
        sections.curves(runs, drawings),
        *shown,
        sections.settings(runs),
        sections.provenance(runs),
    ]
    *others, last = [run.name for run in runs]
    title = f"Comparison of {', '.join(others)} and {last}" if others else f"Run {last}"
    footer = f"Made by showtell {__version__} from {', '.join(str(run.folder) for run in runs)}."
    lead = sections.lead(runs) + notes(_lines(reasons))
    write_text(target, page(title, lead, parts, footer, sorts=len(runs) > 1))
    left_out = {"curves": "the log holds no figures"} if not drawings else {}
    return ReportResult(target, pictures, left_out | reasons)


def _caption(
    runs: Sequence[RunFolder], place: DataPlace, device: str, precision: str, report: Reporter
) -> tuple[list[CaptionedRun], dict[str, str]]:
    """The captions of the runs, and for runs without captions the reason."""
    captioned: list[CaptionedRun] = []
    reasons: dict[str, str] = {}
    for run in runs:
        what = "captions and words" if len(runs) == 1 else f"captions and words of {run.name}"
        if not place.max_pictures:
            reasons[what] = "no pictures were asked for"
            continue
        try:
            captioned.append(
                caption_validation(run, place, device=device, precision=precision, report=report)
            )
        except ShowtellError as error:
            reasons[what] = str(error)
    return captioned, reasons


def _shown(
    captioned: Sequence[CaptionedRun],
    reasons: Sequence[str],
    pictures: Path,
    *,
    is_comparison: bool,
) -> tuple[list[Section], list[Figure]]:
    """The sections that need captions: examples, attention, words; or why there are none."""
    if not captioned:
        body = notes([f"Left out: {reason}" for reason in dict.fromkeys(reasons)])
        titles = {"captions": "Captions", "attention": "Attention", "words": "Words and lengths"}
        if is_comparison:
            titles = {"changes": changes.TITLE, "words": "Words and lengths"}
        return [Section(key, title, body) for key, title in titles.items()], []
    words, drawings = showing.words(captioned)
    if is_comparison:
        return [*_beside(captioned), words], drawings
    [run] = captioned
    if run.captioner.attends:
        attention = showing.attention(run, pictures)
    else:
        kind = run.captioner.config.decoder.kind
        why = f"Left out: decoder {kind} does not attend to regions of the picture."
        attention = Section("attention", "Attention", paragraph(why))
    return [showing.best_and_worst(run, pictures), attention, words], drawings


def _beside(runs: Sequence[CaptionedRun]) -> list[Section]:
    """The captions of several runs, compared picture by picture."""
    if len(runs) < 2:
        reason = f"Left out: only {runs[0].name} has captions to compare."
    elif len({tuple(sorted(run.texts)) for run in runs}) > 1:
        reason = "Left out: the runs' validation pictures are not the same."
    else:
        found = compare(
            {run.name: run.texts for run in runs},
            runs[0].references,
            families=changes.CHECKED,
            num_shown=changes.NUM_CHANGES,
            segmentation=runs[0].captioner.vocabulary.segmentation,
        )
        paths = {record.image_id: record.path for record in runs[0].records}
        about = f"By the best checkpoints on {runs[0].which_pictures}."
        ranking = changes.ranking(found, "Metrics", paragraph(about) + notes(found.warnings))
        return [ranking, changes.changes(found, paths.get)]
    return [Section("changes", changes.TITLE, notes([reason]))]


def _lines(reasons: dict[str, str]) -> list[str]:
    return [f"Left out: {what}: {reason}" for what, reason in reasons.items()]
