"""What Parquet tables and tar archives share: pictures inside one or several files."""

from collections.abc import Callable, Sequence
from pathlib import Path

from showtell.data.collect import Collector
from showtell.data.pictures import PictureFinder
from showtell.data.records import Dataset, Split
from showtell.data.sources.base import Place, files_ending, find_places, picture_finder
from showtell.data.splits import split_in_name
from showtell.data.unpack import Contents, Sample, Unpacker, unpack
from showtell.errors import DataError


def archives_in(path: Path, suffixes: tuple[str, ...]) -> list[tuple[Path, Place]]:
    """The archives at a path, each with its place in the data set."""
    if not path.is_dir():
        return [(path, Place(path.parent, None, ""))]
    places = find_places(path, lambda place: bool(files_ending(place, suffixes)))
    return [(file, place) for place in places for file in files_ending(place.folder, suffixes)]


def load_archives(
    path: Path,
    source: str,
    suffixes: Sequence[str],
    images: Path | None,
    read: Callable[[Path, Unpacker], Contents],
) -> Dataset:
    """The data set of one archive, or of all archives of a folder.

    The id of a picture is the archive's name and the picture's name in it, so that neither rows
    nor archives with equal names get mixed up.

    Args:
        path: The archive, or a folder.
        source: The source's name.
        suffixes: Of archives in a folder.
        images: Where pictures are that an archive names by their path only, or None.
        read: Reads one archive.

    Raises:
        DataError: no archive, none that can be read, or nothing usable.
    """
    archives = archives_in(path, tuple(suffixes))
    if not archives:
        raise DataError(f"{path} holds no file that ends in {' or '.join(suffixes)}")
    collector = Collector(str(path), source, PictureFinder([]))
    for archive, place in archives:
        contents, folder, note = unpack(archive, read)
        if note:
            collector.notes.append(note)
        for problem in contents.problems:
            collector.problem(*problem)
        for name in contents.unsupported:
            collector.leave_out(name)
        collector.finder = picture_finder(images, [archive.parent], (".", "images", "Images"))
        split = place.split or split_in_name(archive.name)
        for sample in contents.samples:
            _add(sample, f"{place.prefix}{archive.name}", folder, split, collector)
    return collector.finish()


def _add(
    sample: Sample, archive: str, folder: Path, split: Split | None, collector: Collector
) -> None:
    path = str(folder / sample.file) if sample.file else None
    draft = collector.add_picture(
        f"{archive}/{sample.name}",
        sample.path or sample.name,
        split,
        said_split=sample.split,
        path=path,
    )
    if draft is not None:
        collector.add_captions(draft, sample.captions, styles=sample.styles)
