"""Where captions go: into one file, beside each picture, or into the pictures themselves.

A target never overwrites what a person wrote: existing texts of a picture, and files that showtell
did not write. A file counts as showtell's if its first record names the model. A text file has no
such record, so each of its lines has to begin with a picture's name: one with a suffix of pictures,
or that of a file which is there.
"""

import csv
import os
import re
import stat
import tarfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from showtell import __version__
from showtell.bulk import metadata
from showtell.bulk.formats import (
    COLUMNS,
    FORMATS,
    Record,
    check_can_write,
    finished_records,
    write_text_alone,
)
from showtell.bulk.journal import SUFFIX, Journal
from showtell.core.files import atomic_write, check_regular, parse_json, short_digest
from showtell.data.pictures import (
    PICTURE_SUFFIXES,
    SidecarFinder,
    is_picture_name,
)
from showtell.data.reading import encoding_of
from showtell.errors import DataError, ImageError, MissingExtraError, needs_extra
from showtell.images.open import open_image
from showtell.inference.stream import Picture

_SUFFIXES = "|".join(suffix[1:] for suffix in sorted(PICTURE_SUFFIXES))
_NAMED = re.compile(rf".+(\.({_SUFFIXES})|\.parquet/\d+(/[^:]*)?|://[^ ]+): ", re.IGNORECASE)


def refuse_others(path: Path, kind: str) -> None:
    """Raise DataError where ``path`` is there, is not empty, and is not showtell's.

    Args:
        kind: a format of ``formats.FORMATS``, ``json`` or ``failures``.
    """
    if not path.is_file() or not path.stat().st_size:
        return
    try:
        is_ours = _KINDS[kind](path)
    except (ValueError, OSError, EOFError, csv.Error, tarfile.TarError, MissingExtraError):
        is_ours = False
    if not is_ours:
        raise DataError(
            f"{path} already exists and was not written by showtell as {kind}: give another "
            "name, or --overwrite to replace it"
        )


def _is_text(path: Path) -> bool:
    with open(path, encoding="utf-8", errors="surrogateescape") as lines:
        return all(_NAMED.match(line) or _names_a_file(line) for line in lines)


def _names_a_file(line: str) -> bool:
    """Whether a line begins with the path of a file and a colon; the path may have colons in it."""
    return any(os.path.isfile(line[: found.start()]) for found in re.finditer(": ", line))


def _is_jsonl(path: Path) -> bool:
    with open(path, "rb") as file:
        return _has(parse_json(file.readline()), "path", "caption", "model")


def _is_failures(path: Path) -> bool:
    with open(path, "rb") as file:
        return _has(parse_json(file.readline()), "path", "error")


def listed_failures(path: Path) -> dict[str, Record]:
    """The records of a list of failures by their pictures; none where there is no such list."""
    listed = {}
    with suppress(FileNotFoundError), open(path, "rb") as file:
        for line in file:
            with suppress(ValueError):
                if _has(record := parse_json(line), "path", "error"):
                    listed[str(record["path"])] = record
    return listed


def _is_csv(path: Path) -> bool:
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return _are_columns(next(csv.reader(file), ()))


def _is_parquet(path: Path) -> bool:
    with needs_extra("parquet", "a Parquet table"):
        from pyarrow import ArrowException, parquet
    try:
        return _are_columns(parquet.read_schema(path).names)
    except ArrowException:
        return False


def _are_columns(names: Sequence[str]) -> bool:
    """Whether a table has columns of ours alone; the page's has not all of them."""
    return {"path", "caption", "model"} <= set(names) <= set(COLUMNS)


def _is_webdataset(path: Path) -> bool:
    with tarfile.open(path, "r:") as archive:
        caption, record = archive.next(), archive.next()
        if caption is None:  # of a run that captioned nothing
            return True
        content = archive.extractfile(record) if record and record.name.endswith(".json") else None
        return content is not None and _has(parse_json(content.read()), "path", "caption", "model")


def _is_json(path: Path) -> bool:
    return _has(parse_json(path.read_bytes()), "captions", "failures")


def _has(value: Any, *keys: str) -> bool:
    return isinstance(value, dict) and set(keys) <= value.keys()


_KINDS: dict[str, Callable[[Path], bool]] = {
    "text": _is_text,
    "jsonl": _is_jsonl,
    "csv": _is_csv,
    "parquet": _is_parquet,
    "webdataset": _is_webdataset,
    "json": _is_json,
    "failures": _is_failures,
}


WRITER = f"showtell {__version__}"


class Target(ABC):
    """What becomes of captions.

    Attributes:
        kind: the format's name.
        failures: where failures are listed.
        journal: where a run that goes on finds what is done.
        num_replaced: how many captions of an earlier run ``finished`` has found and not taken up.
    """

    kind: str
    failures: Path
    journal: Path
    num_replaced: int = 0

    def check(self) -> None:
        """Raise DataError, before the work, if a person's file would be overwritten."""
        refuse_others(self.failures, "failures")

    def finished(self, model: str | None, *, attention: bool = False) -> Iterator[Record]:
        """What an earlier run finished and this one takes up.

        Args:
            model: whose captions are taken up; None: any model's.
            attention: take up only captions that have their attention.
        """
        return iter(())

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

    def finish(self, journal: Journal) -> None:  # noqa: B027 - likewise
        """All is done."""


class OneFile(Target):
    """Captions in one file, which appears when all are there.

    Args:
        alone: whether it is of one picture, whose text needs no path.
    """

    def __init__(
        self, path: Path, kind: str, failures: Path, *, overwrite: bool, alone: bool = False
    ) -> None:
        check_can_write(kind)
        self.path, self.kind, self.failures = path, kind, failures
        self.journal = path.with_name(path.name + SUFFIX)
        self._overwrite, self._alone = overwrite, alone

    def check(self) -> None:
        if not self._overwrite:
            if not (self.kind == "text" and self._alone):
                refuse_others(self.path, self.kind)
            refuse_others(self.failures, "failures")

    def finished(self, model: str | None, *, attention: bool = False) -> Iterator[Record]:
        self.num_replaced = 0
        if self._overwrite:
            return
        for record, is_kept in finished_records(self.path, self.kind, model, attention=attention):
            self.num_replaced += not is_kept
            if is_kept:
                yield record

    def kept_text(self, picture: Picture) -> str | None:
        return None

    def write(self, picture: Path | str, text: str) -> None:
        pass

    def finish(self, journal: Journal) -> None:
        captions = _Captions(journal)
        if self.kind == "text" and self._alone:
            self._finish_alone(captions)
            return
        with atomic_write(self.path, "wb") as file:
            FORMATS[self.kind].write(captions, file)

    def _finish_alone(self, captions: "_Captions") -> None:
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


class _Captions:
    """The captions that a run has, to be gone through as often as need be."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __iter__(self) -> Iterator[Record]:
        return (record for record in self._journal.records() if "error" not in record)


class Sidecars(Target):
    """``cat.txt`` beside ``cat.jpg``, as those who train image models expect.

    A picture's texts are those that ``showtell train`` reads as its captions
    (``data.pictures.SidecarFinder``). Where another picture has the same name but for the suffix,
    ``cat.txt`` would be read as the text of both, and each gets one of its own: ``cat.jpg.txt``.
    """

    kind = "sidecar"

    def __init__(self, failures: Path, *, overwrite: bool) -> None:
        self.failures = failures
        self.journal = failures.with_name(failures.name + SUFFIX)
        self._overwrite = overwrite
        self._folder: _Folder | None = None

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
        """The picture's folder, of which the last one is remembered, and its name there."""
        path, name = os.path.split(picture)
        if self._folder is None or self._folder.path != path:
            self._folder = _Folder(path)
        return self._folder, name


class _Folder:
    """Which texts are beside which pictures, as of the moment when the folder was listed."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            names = os.listdir(path or ".")
        except OSError:  # whoever opens the picture says why
            names = []
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
        self.journal = failures.with_name(failures.name + SUFFIX)
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
            open_image(content, name=str(picture.path))  # what is no picture has a plainer reason
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
