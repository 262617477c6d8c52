"""Where captions go: into one file, beside each picture, or into the pictures themselves.

A target never overwrites what a person wrote: existing texts of a picture, and files that showtell
did not write (``formats.is_written_by_showtell``).
"""

import os
import stat
from abc import ABC, abstractmethod
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path

from showtell.bulk import metadata
from showtell.bulk.formats import (
    FORMATS,
    Record,
    Reiterable,
    finished_records,
    is_written_by_showtell,
    write_text_alone,
    writer_of,
)
from showtell.bulk.journal import Journal, journal_of
from showtell.core.files import atomic_write, check_regular, free_name, short_digest
from showtell.data.pictures import SidecarFinder, is_picture_name
from showtell.data.reading import encoding_of
from showtell.errors import DataError, ImageError
from showtell.images.open import open_image
from showtell.inference.stream import Picture
from showtell.version import __version__

WRITER = f"showtell {__version__}"
MOST_NAMES = 1_000_000  # of files in the folders that are remembered


def refuse_others(path: Path, kind: str) -> None:
    """Raise DataError where ``path`` is there, is not empty, and is not showtell's.

    Args:
        kind: a format of ``formats.FORMATS``.
    """
    if not path.is_file() or not path.stat().st_size or is_written_by_showtell(path, kind):
        return
    raise DataError(
        f"{path} already exists and was not written by showtell as {kind}: give another "
        "name, or --overwrite to replace it"
    )


def not_writable(folder: Path) -> DataError:
    """What is said where captions should go beside pictures or into them, and cannot."""
    return DataError(
        f"{folder} cannot be written, so no captions can go beside its pictures or into them: "
        "write them into one file elsewhere, with -o FILE in place of --format"
    )


class Target(ABC):
    """What becomes of captions.

    Attributes:
        kind: the format's name.
        failures: where failures are listed.
        journal: where a run that goes on finds what is done.
        is_beside: whether captions go beside the pictures or into them, so that a picture has to
            be a file, and runs with other pictures may share the list of failures.
        num_replaced: how many captions of an earlier run ``finished`` has found and not taken up.
        kept_as: once all is done, where the file is that had them; None: nowhere.
    """

    kind: str
    failures: Path
    journal: Path
    is_beside: bool = True
    num_replaced: int = 0
    kept_as: Path | None = None

    def check(self) -> None:
        """Raise DataError, before the work, if a person's file would be overwritten, or nothing
        can be written.
        """
        refuse_others(self.failures, "failures")
        folder = self.failures.parent
        if folder.is_dir() and not os.access(folder, os.W_OK):
            raise DataError(
                f"{folder} cannot be written, where failures would be listed: give --failures FILE "
                "(beside its pictures or into them no caption can be written, either)"
            )

    def finished(self, model: str | None, *, attention: bool = False) -> Iterator[Record]:
        """What an earlier run finished and this one takes up.

        Args:
            model: whose captions are taken up; None: any model's.
            attention: take up only captions that have their attention.
        """
        return iter(())

    def describe_replaced(self) -> str:
        """A line about captions of an earlier run that this one replaces; empty where none are.

        It is right once all of ``finished`` was read.
        """
        return ""

    @abstractmethod
    def kept_text(self, picture: Picture) -> str | None:
        """The text that the picture has already and that is not to be overwritten.

        Raises:
            OSError: something is there and cannot be read; it may be a person's text.
            ImageError: no caption can be written there.
        """

    @abstractmethod
    def write(self, picture: Path | str, text: str) -> None:
        """Put one caption into its place.

        Raises:
            ImageError, OSError: it has none.
        """

    def finish(self, journal: Journal) -> int:
        """All is done: write what is written at the end.

        Returns:
            How many captions of pictures that were not given are among it.
        """
        return 0


class OneFile(Target):
    """Captions in one file, which appears when all are there.

    Captions stay in it if their pictures are not given again, but for a text, which cannot be read
    back. Where others are replaced, as another model replaces them, the file as it was is kept
    beside it: a person may have changed it.

    Args:
        alone: whether it is of one picture, whose text needs no path.
        prune: drop the captions of pictures that are not given, except for a person's.
    """

    is_beside = False

    def __init__(
        self,
        path: Path,
        kind: str,
        failures: Path,
        *,
        overwrite: bool,
        alone: bool = False,
        prune: bool = False,
    ) -> None:
        self._write_records = writer_of(kind)
        self.path, self.kind, self.failures = path, kind, failures
        self.journal = journal_of(path)
        self._overwrite, self._alone, self._prune = overwrite, alone, prune

    def check(self) -> None:
        if not self._overwrite:
            if not (self.kind == "text" and self._alone):
                refuse_others(self.path, self.kind)
            refuse_others(self.failures, "failures")
            for _ in self.finished(None):  # a row that cannot be read shows before the work
                pass

    def finished(self, model: str | None, *, attention: bool = False) -> Iterator[Record]:
        self.num_replaced = 0
        if self._overwrite:
            return
        for record, is_kept in finished_records(self.path, self.kind, model, attention=attention):
            self.num_replaced += not is_kept
            if is_kept:
                yield record

    def describe_replaced(self) -> str:
        if self.num_replaced:
            return (
                f"{self.num_replaced:,} captions are by another model or with other settings and "
                "will be replaced; rows that you changed stay where `edited` is true; the file as "
                "it is now will be kept beside the new one"
            )
        if self._replaces_text and self.path.stat().st_size:
            return (
                f"{self.path} is text, which is written again from the beginning; where a line of "
                "it is not in the new one, the file as it is now will be kept beside that"
            )
        return ""

    @property
    def _replaces_text(self) -> bool:
        """Whether there is a file of many pictures that cannot be read back."""
        is_text = FORMATS[self.kind].read is None and not self._alone
        return is_text and not self._overwrite and self.path.is_file()

    def keeps_of_others(self, record: Record) -> bool:
        """Whether the caption of a picture that was not given stays in the file."""
        return not self._prune or record.get("edited") is True

    def kept_text(self, picture: Picture) -> str | None:
        return None

    def write(self, picture: Path | str, text: str) -> None:
        pass

    def finish(self, journal: Journal) -> int:
        if self.kind == "text" and self._alone:
            self._finish_alone(r for r in journal.records() if "error" not in r)
            return 0
        others = self.keeps_of_others
        captions = Reiterable(lambda: (r for r in journal.records(others) if "error" not in r))
        with atomic_write(self.path, "wb") as file:
            self._write_records(captions, file)
            file.flush()  # the new one is whole
            if (self.num_replaced and self.path.is_file()) or (
                self._replaces_text and _has_other_lines(self.path, Path(file.name))
            ):
                self.kept_as = free_name(self.path)
                os.replace(self.path, self.kept_as)
        if all(journal.done.values()):
            return 0
        return sum(not journal.done[record["path"]] for record in captions)

    def _finish_alone(self, captions: Iterable[Record]) -> None:
        """Write the text of the only picture; it does not show who wrote what was there before."""
        text = BytesIO()
        write_text_alone(captions, text)
        before = self.path.read_bytes() if self.path.is_file() else b""
        if before and before != text.getvalue() and not self._overwrite:
            raise DataError(
                f"{self.path} already exists with a text other than this caption: give another "
                "name, or --overwrite to replace it"
            )
        with atomic_write(self.path, "wb") as file:
            file.write(text.getvalue())


def _has_other_lines(path: Path, than: Path) -> bool:
    """Whether a file has a line that another has not."""
    with open(path, "rb") as lines, open(than, "rb") as others:
        there = set(map(hash, others))  # a fraction of the lines' memory
        return any(hash(line) not in there for line in lines)


class Sidecars(Target):
    """``cat.txt`` beside ``cat.jpg``, as those who train image models expect.

    A picture's texts are those that ``showtell train`` reads as its captions
    (``data.pictures.SidecarFinder``). Where another picture has the same name but for the suffix,
    ``cat.txt`` would be read as the text of both, and each gets one of its own: ``cat.jpg.txt``.
    """

    kind = "sidecar"

    def __init__(self, failures: Path, *, overwrite: bool) -> None:
        self.failures = failures
        self.journal = journal_of(failures)
        self._overwrite = overwrite
        self._folders: OrderedDict[str, _Folder] = OrderedDict()

    def kept_text(self, picture: Picture) -> str | None:
        if self._overwrite or picture.read is not None:
            return None
        folder, name = self._find(picture.path)
        for place in (*folder.texts_of(name), folder.place_for(name)):
            try:
                check_regular(Path(folder.path, place))
                raw = Path(folder.path, place).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                continue
            if text := raw.decode(encoding_of(raw[:4]), "replace").strip():
                return text
        return None

    def write(self, picture: Path | str, text: str) -> None:
        folder, name = self._find(picture)
        place = Path(folder.path, folder.place_for(name))
        replace_file(place, f"{text}\n".encode(), run=self.journal)

    def _find(self, picture: Path | str) -> tuple["_Folder", str]:
        """The picture's folder, of which those met last are remembered, and its name there."""
        path, name = os.path.split(picture)
        if path not in self._folders:
            self._folders[path] = _Folder(path)
            while len(self._folders) > 1 and (
                sum(folder.num_names for folder in self._folders.values()) > MOST_NAMES
            ):
                self._folders.popitem(last=False)
        self._folders.move_to_end(path)
        return self._folders[path], name


class _Folder:
    """Which texts are beside which pictures, as of the moment when the folder was listed."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            names = os.listdir(path or ".")
        except OSError:  # whoever opens the picture says why
            names = []
        self.num_names = len(names)
        self.texts_of = SidecarFinder(names).texts_of
        self._stems = Counter(os.path.splitext(name)[0] for name in filter(is_picture_name, names))

    def place_for(self, picture: str) -> str:
        """Where its caption goes: into its text if it has one of its own, else into a new one."""
        stem = os.path.splitext(picture)[0]
        is_shared = self._stems[stem] > 1
        for name in self.texts_of(picture):
            if not is_shared or name.lower().startswith(f"{picture.lower()}."):
                return name
        return f"{picture if is_shared else stem}.txt"


class Metadata(Target):
    """Captions in the pictures' own XMP, IPTC and EXIF fields."""

    kind = "xmp"

    def __init__(self, failures: Path, *, overwrite: bool) -> None:
        metadata.check_can_write()
        self.failures = failures
        self.journal = journal_of(failures)
        self._overwrite = overwrite

    def kept_text(self, picture: Picture) -> str | None:
        if picture.read is not None or not os.path.isfile(picture.path):
            return None
        try:
            content = Path(picture.path).read_bytes()
        except OSError:  # whoever decodes it says what is wrong
            return None
        try:
            if not self._overwrite and (said := metadata.alt_text(content)) is not None:
                return said
            metadata.check_can_carry(content)
        except ImageError:
            open_image(
                content, name=str(picture.path)
            )  # what is not a picture has a plainer reason
            raise
        return None

    def write(self, picture: Path | str, text: str) -> None:
        place = Path(os.path.realpath(picture))
        content = metadata.with_alt_text(place.read_bytes(), text, WRITER)
        replace_file(place, content, run=self.journal)


def replace_file(path: Path, content: bytes, *, run: Path) -> None:
    """Give a file new content in one step; its mode is kept, and its owner where that is permitted.

    Args:
        run: the journal of the run. The temporary name follows from it, so no two runs share one,
            and what a killed run left is taken away when it resumes.
    """
    inode = run.stat().st_ino if run.exists() else 0
    named = f"{os.path.realpath(run)}\0{inode}\0{path.name}"
    short = short_digest(os.fsencode(named))
    temporary = path.with_name(f".showtell-{short}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            before = path.stat()
            if hasattr(os, "chown"):
                with suppress(OSError):
                    os.chown(temporary, before.st_uid, before.st_gid)
            os.chmod(temporary, stat.S_IMODE(before.st_mode))  # after chown, which clears bits
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
