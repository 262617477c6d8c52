"""A page about files of captions, by any programs, of the same pictures. It needs no torch."""

from collections.abc import Callable, Sequence
from pathlib import Path

from showtell.core.files import write_text
from showtell.core.messages import counted, some
from showtell.errors import UsageError
from showtell.evaluation.compare import compare_files
from showtell.metrics.bootstrap import Resampling
from showtell.metrics.picture_folder import PictureFolder, check_folder
from showtell.report.changes import CHECKED, NUM_CHANGES, FindPicture, changes, ranking
from showtell.report.page import notes, page, page_at, paragraph
from showtell.text.segment import AS_OPTION_OF_SCORE
from showtell.version import __version__


def make_leaderboard(
    results: Sequence[Path],
    references: Path,
    *,
    output: Path | None = None,
    images: Path | None = None,
    metrics: Sequence[str] = (),
    resampling: Resampling | None = None,
    subset: bool = False,
    warn: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write a page that ranks files of captions; returns its path.

    Args:
        results: two or more; the first is what the others are compared with.
        references: captions by people of the same pictures.
        output: the page, or a folder for it; by default ``leaderboard.html``.
        images: a folder with the pictures, which are found by their images' ids.
        metrics: as in ``evaluate``. None given: COCO's and ``CHECKED``.
        resampling, subset: as in ``compare_files``.
        warn: is told how many pictures are not in ``images``; the page says it, too.

    Raises:
        UsageError: there are fewer than two files, or one is a folder.
        ScoringError: what ``compare_files`` raises, or there is no folder ``images``.
        OSError: the page cannot be written.
    """
    check_files(results, images)
    comparison = compare_files(
        results,
        references,
        metrics=metrics or None,
        families=() if metrics else CHECKED,
        resampling=resampling,
        subset=subset,
        num_shown=NUM_CHANGES,
        written=AS_OPTION_OF_SCORE,
    )
    target = page_at(output or Path(), len(results), of_files=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    systems = comparison.systems
    find = _finder(images, list(systems[0].captions))
    lead = paragraph(
        f"{counted(len(systems), 'captioner')} on the same "
        f"{systems[0].scores.num_images:,} pictures, scored against {references.name}.",
        soft=True,
    )
    sections = [ranking(comparison, "Leaderboard"), changes(comparison, find)]
    warnings = list(comparison.warnings)
    lost = [i for i in systems[0].captions if images and not isinstance(find(i), Path)]
    if lost:
        warnings.append(
            f"{images} has no picture of {len(lost)} of the {len(systems[0].captions)} images: "
            f"{some(lost)}; a picture is found by its path or file name, which is its image's id"
        )
        warn(warnings[-1])
    names = ", ".join(path.name for path in results)
    footer = f"Made by showtell {__version__} from {names} and {references.name}."
    title = f"Leaderboard: {', '.join(system.name for system in systems)}"
    write_text(target, page(title, lead + notes(warnings), sections, footer, sorts=True))
    return target


def check_files(results: Sequence[Path], images: Path | None) -> None:
    """What ``make_leaderboard`` raises of its arguments, before anything is read."""
    if len(results) < 2:
        raise UsageError(
            f"{len(results)} file given with --references: expected two or more files of captions; "
            "`showtell score` scores one"
        )
    for path in results:
        if path.is_dir():
            raise UsageError(
                f"{path} is a folder: --references is for files of captions; leave it out to "
                "compare runs"
            )
    if images is not None:
        check_folder(images)


def _finder(folder: Path | None, image_ids: Sequence[str]) -> FindPicture:
    if folder is None:
        return lambda image_id: None
    pictures = PictureFolder(folder).of_ids(image_ids)

    def find(image_id: str) -> Path | str:
        one = pictures[image_id]
        return one if isinstance(one, Path) else f"{one} of {image_id} in {folder}"

    return find
