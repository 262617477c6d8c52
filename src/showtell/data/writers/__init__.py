"""Data sets written to disk in the formats that others read: ``write_dataset`` and ``WRITERS``.

A format is a ``Writer``. Whatever one writes, the source of the same pictures and captions reads;
the contract tests convert every format into every other. An output appears in one step: it is
made beside its place under a hidden name and renamed when it is complete.
"""

import filecmp
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from showtell.config.registry import Registry
from showtell.core.files import cache_folder, free_name, write_json
from showtell.core.messages import counted
from showtell.core.progress import Progress
from showtell.data.pictures import is_picture_name
from showtell.data.records import SPLITS, Dataset, Record
from showtell.data.writers import archives, rows
from showtell.data.writers.base import Job, Pictures, Placer, Writer
from showtell.errors import DataError

WRITERS: Registry[Writer] = Registry("format to write", "showtell.writers", DataError)
MARK = ".showtell-data.json"
"""In a folder that showtell wrote, so that nothing else is ever replaced."""
ROOM_TO_SPARE = 64 * 2**20  # bytes that stay free on the disk

for _writer in (*rows.WRITERS, *archives.WRITERS):
    WRITERS.register(_writer.name, _writer)

NO_FOLDERS = frozenset({".txt", ".tsv", ".ndjson", ".tar", ".zip", ".gz", ".arrow", ".html"})
FILES = {writer.suffix: writer for writer in WRITERS.values() if writer.suffix}
"""The format that a file's ending means, where the output is one file."""


@dataclass(frozen=True, slots=True)
class Output:
    """Where a data set goes, in the words of the command line.

    Attributes:
        path: A folder, or a file whose ending says the format.
        format: A key of ``WRITERS``; None: what the file's ending says, else ``jsonl``.
        pictures: Whether pictures are copied, linked or stay where they are; None: copied into
            a folder, and left where they are beside a file.
        overwrite: Whether an earlier output is replaced: a folder that showtell wrote, or a file,
            which is kept under another name.
    """

    path: Path
    format: str | None = None
    pictures: Pictures | None = None
    overwrite: bool = False

    def writer(self) -> Writer:
        """The format.

        Raises:
            DataError: it is unknown, or does not fit the name of the output.
        """
        suffix = self.path.suffix.lower()
        if self.format is None:
            return FILES.get(suffix) or WRITERS.find("jsonl")
        writer = WRITERS.find(self.format)
        if self.path.is_dir() or suffix in ("", writer.suffix):
            return writer
        if suffix in FILES:
            usual = f", or a name that ends in {writer.suffix}" if writer.suffix else ""
            raise DataError(
                f"-o {self.path} has the ending of {FILES[suffix].name}, but --to says "
                f"{writer.name}; give the name of a folder{usual}"
            )
        return writer

    def is_file(self, writer: Writer) -> bool:
        """Whether the output is one file."""
        return bool(writer.suffix) and self.path.suffix.lower() == writer.suffix

    def check(self, inputs: Sequence[str | Path] = ()) -> None:
        """Refuse an output that cannot be written, before any work is done.

        Args:
            inputs: The data that is read; none of it may be replaced.

        Raises:
            DataError: something is in its place, its folder is missing, or options do not fit.
        """
        writer = self.writer()
        path, single = self.path, self.is_file(writer)
        if is_picture_name(path.name):
            raise DataError(f"-o {path} has the name of a picture; give a folder or a .jsonl file")
        if not (path.is_dir() or single) and path.suffix.lower() in NO_FOLDERS:
            raise DataError(
                f"-o {path}: files of this kind cannot be written; give the name of a folder, or "
                f"of a {', '.join(FILES)} file"
            )
        if not path.absolute().parent.is_dir():
            make = f"mkdir -p {shlex.quote(str(path.parent))}"
            raise DataError(f"no such folder: {path.parent}; make it: {make}")
        if single and self.pictures not in (None, "keep"):
            raise DataError(
                f"-o {path} is one file, so --pictures {self.pictures} has no place for them; "
                "give the name of a folder"
            )
        if not single and self.pictures == "keep" and not writer.keeps_paths:
            raise DataError(f"{writer.name} holds its pictures; leave out --pictures keep")
        for name in inputs:
            if os.path.exists(name) and _covers(path, Path(name)):
                raise DataError(f"-o {path} is or holds the data that is read; give another name")
        if os.path.lexists(path):
            self._check_replaced(single)

    def _check_replaced(self, single: bool) -> None:
        path = self.path
        if not single and path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            return
        if path.is_dir() == single or path.is_symlink():
            kind = "a folder" if path.is_dir() else "a file"
            raise DataError(f"-o {path} is {kind}; give another name")
        if not self.overwrite:
            raise DataError(f"-o {path} already exists: give another name, or add --overwrite")
        if not single and not (path / MARK).is_file():
            raise DataError(
                f"-o {path} was not written by `showtell data`, so --overwrite leaves it alone; "
                "give another name, or delete it yourself"
            )


def write_dataset(
    dataset: Dataset, output: Output, *, made_by: str, progress: Progress | None = None
) -> list[str]:
    """Write a data set.

    Args:
        dataset: What to write; its pictures must be there.
        output: Where, and how; ``check`` has been called, or is called here.
        made_by: The command, for the mark in the folder.
        progress: Called with how many pictures are written, and how many there are.

    Returns:
        Sentences for the user.

    Raises:
        DataError: as ``Output.check``, the disk has not enough room, or the format cannot hold
            what the data set holds.
        MissingExtraError: the format needs an optional dependency.
        OSError: a picture cannot be read, or the output cannot be written.
    """
    output.check()
    writer = output.writer()
    single = output.is_file(writer)
    _check_pictures_stay(dataset, output.path)
    pictures: Pictures = output.pictures or ("keep" if single else "copy")
    if writer.packs:
        pictures = "copy"
    records = [record for split in SPLITS for record in dataset.split(split)]
    target = Path(os.path.abspath(output.path))
    _check_room(records, target.parent, pictures, writer)
    backup = free_name(target)
    with _appearing(target, backup if single else None) as place:
        placer = Placer(place, target if single else None, pictures, len(records), progress)
        writer.write(Job(place, target.name if single else None, records, placer))
        if not single:
            counts = {str(split): num for split, num in dataset.split_counts().items()}
            write_json(
                place / MARK, {"made_by": made_by, "format": writer.name, "pictures": counts}
            )
    kept = [f"the file that was there is kept as {backup}"] if backup.exists() else []
    return [*kept, *placer.notes(), *_cache_note(records, pictures), *_style_note(records, writer)]


def _check_pictures_stay(dataset: Dataset, output: Path) -> None:
    """Refuse to replace a folder with pictures that are read.

    Raises:
        DataError: there are some.
    """
    if not output.is_dir():
        return
    inside = os.path.realpath(output) + os.sep
    num = sum(os.path.realpath(record.path).startswith(inside) for record in dataset.records)
    if num:
        raise DataError(
            f"-o {output} holds {counted(num, 'picture')} of {dataset.name}, which --overwrite "
            "would delete; give another name"
        )


def _cache_note(records: Sequence[Record], pictures: Pictures) -> list[str]:
    if pictures != "keep":
        return []
    cache = os.path.abspath(cache_folder()) + os.sep
    num = sum(os.path.abspath(record.path).startswith(cache) for record in records)
    if not num:
        return []
    return [
        f"{counted(num, 'picture')} lie in the cache folder, which may be deleted; give the name "
        "of a folder as -o to have them copied"
    ]


def _style_note(records: Sequence[Record], writer: Writer) -> list[str]:
    num = sum(1 for record in records for style in record.styles if style)
    if writer.holds_styles or not num:
        return []
    able = ", ".join(name for name, each in WRITERS.items() if each.holds_styles)
    return [
        f"the styles of {counted(num, 'caption')} are left out, as {writer.name} has no place for "
        f"them; formats that have one: {able}"
    ]


def _check_room(
    records: Sequence[Record], folder: Path, pictures: Pictures, writer: Writer
) -> None:
    if pictures != "copy":
        return
    needed = sum(os.stat(record.path).st_size for record in records) + ROOM_TO_SPARE
    free = shutil.disk_usage(folder).free
    if needed > free:
        others = "" if writer.packs else ", or add --pictures link or keep"
        raise DataError(
            f"the pictures take {needed / 1e9:,.2f} GB, and the disk of {folder} has "
            f"{free / 1e9:,.2f} GB free; free some space{others}"
        )


def _covers(output: Path, data: Path) -> bool:
    """Whether writing ``output`` would replace ``data``."""
    ours, theirs = os.path.realpath(output), os.path.realpath(data)
    return ours == theirs or theirs.startswith(ours + os.sep)


@contextmanager
def _appearing(target: Path, backup: Path | None) -> Iterator[Path]:
    """A temporary folder that becomes ``target``, or whose one file does, in one step.

    Args:
        backup: for one file: the name that an earlier, different one gets, as a person may have
            corrected it by hand. None: the output is a folder, and an earlier one is deleted.
    """
    place = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    old = backup or target.with_name(f".{target.name}.{os.getpid()}.old")
    try:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        yield place
        made = place / target.name if backup else place
        if target.is_file() and filecmp.cmp(made, target, shallow=False):
            return
        if target.exists():
            os.rename(target, old)
        try:
            os.rename(made, target)
        except BaseException:  # Ctrl-C as well
            if old.exists():
                os.rename(old, target)
            raise
        if backup is None:
            shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def describe_written(dataset: Dataset, output: Output) -> str:
    """``8 pictures with 40 captions in small (jsonl): 6 train, 1 val, 1 test``."""
    num_captions = sum(len(record.captions) for record in dataset.records)
    splits = ", ".join(f"{num:,} {split}" for split, num in dataset.split_counts().items())
    return (
        f"{counted(len(dataset.records), 'picture')} with {counted(num_captions, 'caption')} in "
        f"{output.path} ({output.writer().name}): {splits}"
    )
