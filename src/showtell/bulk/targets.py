"""Where captions go: into one file, beside each picture, or into the pictures themselves."""

import hashlib
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from showtell import __version__
from showtell.bulk import metadata
from showtell.bulk.formats import FORMATS, check_can_write, kept_records, write_text_alone
from showtell.bulk.journal import SUFFIX, Journal
from showtell.bulk.own_files import refuse_others
from showtell.bulk.records import Record
from showtell.data.pictures import is_picture_name
from showtell.errors import DataError, ImageError
from showtell.files import atomic_write
from showtell.streaming import Picture

WRITER = f"showtell {__version__}"


class Target(ABC):
    """What becomes of captions.

    Attributes:
        kind: the format's name.
        failures: where failures are listed.
        journal: where a run that goes on finds what is done.
    """

    kind: str
    failures: Path
    journal: Path

    def check(self) -> None:
        """Raise DataError where what is to be written is there and a person's; before the work."""
        refuse_others(self.failures, "failures")

    def begin(self, journal: Journal, model: str) -> None:  # noqa: B027 - most have nothing
        """Take up what an earlier run finished."""

    @abstractmethod
    def kept_text(self, picture: Picture) -> str | None:
        """The text that the picture has already and that is not to be overwritten."""

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

    def begin(self, journal: Journal, model: str) -> None:
        if not self._overwrite:
            kept = kept_records(self.path, self.kind, model)
            journal.take_over(record for record in kept if record["path"] not in journal.done)

    def kept_text(self, picture: Picture) -> str | None:
        return None

    def write(self, picture: Path | str, text: str) -> None:
        pass

    def finish(self, journal: Journal) -> None:
        captions = (record for record in journal.records() if "error" not in record)
        if self.kind == "text" and self._alone:
            self._finish_alone(captions)
            return
        with atomic_write(self.path, "wb") as file:
            FORMATS[self.kind].write(captions, file)

    def _finish_alone(self, captions: Iterable[Record]) -> None:
        """Write the text of the only picture; it does not show who wrote what was there before."""
        text = BytesIO()
        write_text_alone(captions, text)
        before = self.path.read_bytes() if self.path.is_file() else b""
        if before and before != text.getvalue() and not self._overwrite:
            raise DataError(
                f"{self.path} is there and holds another text than this caption: give another "
                "name, or --overwrite to replace it"
            )
        with atomic_write(self.path, "wb") as file:
            file.write(text.getvalue())


class Sidecars(Target):
    """``cat.txt`` beside ``cat.jpg``, as those who train image models expect."""

    kind = "sidecar"

    def __init__(self, failures: Path, *, overwrite: bool) -> None:
        self.failures = failures
        self.journal = failures.with_name(failures.name + SUFFIX)
        self._overwrite = overwrite

    def kept_text(self, picture: Picture) -> str | None:
        if self._overwrite or picture.read is not None:
            return None
        try:
            text = sidecar_of(str(picture.path)).read_bytes().decode("utf-8", "replace").strip()
        except OSError:
            return None
        return text or None

    def write(self, picture: Path | str, text: str) -> None:
        replace_file(sidecar_of(str(picture)), f"{text}\n".encode())


class Metadata(Target):
    """Captions in the pictures' own XMP, IPTC and EXIF fields."""

    kind = "xmp"

    def __init__(self, failures: Path, *, overwrite: bool) -> None:
        metadata.check_can_write()
        self.failures = failures
        self.journal = failures.with_name(failures.name + SUFFIX)
        self._overwrite = overwrite

    def kept_text(self, picture: Picture) -> str | None:
        if self._overwrite or picture.read is not None or not os.path.isfile(picture.path):
            return None
        try:
            return metadata.alt_text(Path(picture.path).read_bytes())
        except (ImageError, OSError):  # whoever decodes it says what is wrong
            return None

    def write(self, picture: Path | str, text: str) -> None:
        place = Path(os.path.realpath(picture))
        replace_file(place, metadata.with_alt_text(place.read_bytes(), text, WRITER))


def sidecar_of(picture: str) -> Path:
    """``cat.txt``; ``cat.png.txt`` where a picture ``cat.jpg`` has taken that name."""
    stem, suffix = os.path.splitext(picture)
    folder, name = os.path.split(stem)
    beside = _of_same_stem(folder or ".", name)
    is_first = not beside or name + suffix == beside[0]
    return Path(f"{stem}.txt" if is_first else f"{picture}.txt")


_listing: tuple[str, dict[str, list[str]]] = ("", {})


def _of_same_stem(folder: str, stem: str) -> list[str]:
    """The pictures in a folder of one name but for the suffix, sorted; one folder is remembered."""
    global _listing
    if _listing[0] != folder:
        stems: dict[str, list[str]] = {}
        for name in sorted(os.listdir(folder)):
            if is_picture_name(name):
                stems.setdefault(os.path.splitext(name)[0], []).append(name)
        _listing = (folder, stems)
    return _listing[1].get(stem, [])


def replace_file(path: Path, content: bytes) -> None:
    """Give a file new content in one step, its mode kept.

    The temporary name is always the same, so what a killed run left is taken away by the next.
    """
    short = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]
    temporary = path.with_name(f".showtell-{short}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
