"""Which files are pictures, and where a named picture is.

One rule decides for folders, archives and lists which files are pictures (``is_picture_name``),
which are pictures of a kind that showtell does not read (``is_unsupported_picture``) and which
are leftovers of a file manager (``is_hidden``). It goes by names; whether a file decodes is found
out when it is read.

``PictureFinder`` looks for named pictures. It lists each folder once (``os.scandir``), so that
finding COCO's 123,287 pictures costs two listings and not 123,287 calls.
"""

import filecmp
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from showtell.data.reading import note_input
from showtell.data.records import Split
from showtell.errors import install_line, reason_of
from showtell.images import heif

PICTURE_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
        *(".pjpeg", ".pjp", ".jif", ".apng", ".ppm", ".pgm", ".pbm", ".pnm", ".avif"),
        *heif.SUFFIXES,
    }
)
"""Those of HEIC are read only with the extra ``heif``."""

UNSUPPORTED_SUFFIXES = frozenset(
    {
        *(".jxl", ".jp2", ".svg", ".svgz", ".pdf", ".eps", ".ai", ".psd", ".xcf", ".ico", ".tga"),
        *(".raw", ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".orf", ".rw2"),
        *(".raf", ".pef", ".srw", ".x3f", ".3fr", ".iiq", ".rwl", ".erf", ".kdc"),
        *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".wmv", ".mpg", ".mpeg", ".3gp", ".mts"),
    }
)
"""What people have among their pictures and showtell does not read: RAW files and videos, too."""

SIDECAR_SUFFIXES = (".txt", ".caption")
LEFTOVER_FOLDERS = frozenset((".thumbnails", "__MACOSX", "@eaDir"))
"""What file managers put beside pictures."""


def is_picture_name(name: str) -> bool:
    """Whether a file name ends like that of a picture that can be read, in upper or lower case."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix in PICTURE_SUFFIXES and (suffix not in heif.SUFFIXES or heif.is_installed())


def is_unsupported_picture(name: str) -> bool:
    """Whether a file name ends like that of a picture or a video that cannot be read."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix in UNSUPPORTED_SUFFIXES or (suffix in heif.SUFFIXES and not heif.is_installed())


def is_hidden(path: str) -> bool:
    """Whether a relative path is hidden, or in a hidden folder.

    That is ``.thumbnails/``, macOS's ``._cat.jpg`` and ``__MACOSX/``, Synology's ``@eaDir/``.
    """
    return any(
        part in LEFTOVER_FOLDERS or (part.startswith(".") and part not in (".", ".."))
        for part in path.split("/")
    )


def describe_unsupported(counts: Mapping[str, int]) -> str:
    """One line about pictures that were left out, by their suffix; empty where there are none.

    Args:
        counts: How many there are of each suffix, ``.heic`` for example.
    """
    others = Counter({kind: count for kind, count in counts.items() if kind not in heif.SUFFIXES})
    heic = Counter({kind: count for kind, count in counts.items() if kind in heif.SUFFIXES})
    parts = []
    if others:
        advice = "showtell does not read these kinds; convert them to JPEG or PNG"
        parts.append(f"{suffix_counts(others)} ({advice})")
    if heic:
        parts.append(
            f"{suffix_counts(heic)}, for which showtell needs an extra: {install_line('heif')}"
        )
    return f"left out: {'; '.join(parts)}" if parts else ""


def suffix_counts(counts: Mapping[str, int]) -> str:
    """``2 .heic, 1 .svg``: the most frequent first."""
    return ", ".join(f"{count:,} {suffix}" for suffix, count in Counter(counts).most_common())


def sidecar_names(picture: str) -> tuple[str, ...]:
    """The names that a picture's text file may have, the closest first.

    For ``cat.jpg``: ``cat.jpg.txt``, ``cat.jpg.caption``, ``cat.txt``, ``cat.caption``.
    """
    stem = os.path.splitext(picture)[0]
    return tuple(f"{base}{suffix}" for base in (picture, stem) for suffix in SIDECAR_SUFFIXES)


class SidecarFinder:
    """Finds the text files of pictures among the files of their folder.

    Names may differ in case (``CAT.TXT``) and in Unicode's form: macOS writes ``é`` in two pieces.

    Args:
        names: The names of a folder's files, those of its pictures among them.

    Attributes:
        texts: The names of the text files, sorted.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.texts: list[str] = []
        self._by_lower_name: dict[str, list[str]] = {}
        self._owners: set[str] = set()  # what a text is called, but for its suffix
        for name in sorted(names):
            if is_picture_name(name):
                self._owners |= {name, os.path.splitext(name)[0]}
            elif name.lower().endswith(SIDECAR_SUFFIXES):
                self.texts.append(name)
                self._by_lower_name.setdefault(_lower(name), []).append(name)

    def find(self, picture: str) -> str:
        """The name of the picture's text file, the closest; empty where it has none."""
        return next(self.texts_of(picture), "")

    def texts_of(self, picture: str) -> Iterator[str]:
        """The names of the picture's text files, the closest first.

        ``CAT.TXT`` is a text of ``cat.jpg`` unless there is a ``CAT.jpg``.
        """
        for wanted in sidecar_names(picture):
            found = self._by_lower_name.get(_lower(wanted), ())
            owner = os.path.splitext(wanted)[0]
            for name in sorted(found, key=lambda name: name != wanted):
                base = os.path.splitext(name)[0]
                if base == owner or base not in self._owners:
                    yield name


def is_plain_file(entry: os.DirEntry[str]) -> bool:
    """Whether a folder entry is a file, or a link to one that exists."""
    try:
        return entry.is_file()
    except OSError:  # a link that leads back to itself
        return False


def _lower(name: str) -> str:
    return unicodedata.normalize("NFC", name).lower()


def _loose(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _is_copy(path: str, other: str) -> bool:
    """Whether two files are one, or of the same bytes."""
    try:
        return os.path.samefile(path, other) or filecmp.cmp(path, other, shallow=False)
    except OSError:
        return False


def last_part(name: str) -> str:
    """A picture's name without its folders, also as Windows writes them."""
    return name.replace("\\", "/").rpartition("/")[2]


def leaves_folder(name: str) -> bool:
    """Whether a relative name points out of the folder it is joined to."""
    if name.startswith(("/", "\\")) or name[1:2] == ":":  # a drive of Windows
        return True
    return ".." in name and ".." in PurePosixPath(name.replace("\\", "/")).parts


class Moved(NamedTuple):
    """A picture in another folder than its name says.

    Attributes:
        path: The file.
        folder: The name's folders, where nothing but its last part led to the file.
    """

    path: str
    folder: str | None = None


class PictureFinder:
    """Finds pictures by name in a list of folders; the first folder that has one wins.

    A folder may be of a split, such as ``val2017``. For a picture of another split it comes after
    all others.

    Args:
        folders: Where to look, best guess first; those that do not exist do no harm.
        splits: The splits of those folders that are of one.
        split: Of pictures whose split is not said, what the place of the data says of it.
        bare: ``find_moved`` also looks in other folders than names say (annotations name folders
            that the user may not have).
        other_name: Another name that the same picture goes by, or the name itself; tried last.

    Attributes:
        num_loose: Pictures found under a name of other case or Unicode form.
        num_renamed: Pictures found under their other name.
        num_completed: Pictures found by a name without its suffix (``p0`` for ``p0.jpg``).
    """

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        splits: Mapping[Path, Split] | None = None,
        split: Split | None = None,
        bare: bool = False,
        other_name: Callable[[str], str] | None = None,
    ) -> None:
        self.folders = tuple(dict.fromkeys(folders))
        self.num_loose = 0
        self.num_renamed = 0
        self.num_completed = 0
        self._folder_names = tuple(str(folder) for folder in self.folders)
        self._splits = {str(folder): split for folder, split in (splits or {}).items()}
        self._split = split
        self._orders: dict[Split | None, tuple[str, ...]] = {None: self._folder_names}
        self._bare = bare
        self._dropped: set[str] = set()
        self._other_name = other_name
        self._listings: dict[str, frozenset[str]] = {}
        self._loose_listings: dict[str, dict[str, str]] = {}
        self._stem_listings: dict[str, dict[str, list[str]]] = {}
        self._unreadable: dict[str, str] = {}

    def find(self, name: str, split: Split | None = None) -> str | None:
        """The path of the picture ``name`` (it may have folders in it), None where there is none.

        A string and no ``Path``: COCO has 123,287 of them.

        Args:
            name: As the data says it.
            split: The picture's, where the data says it.
        """
        found = self._find_exactly(name, split)
        if found is None and "\\" in name:  # written on Windows
            name = name.replace("\\", "/")
            found = self._find_exactly(name, split)
        if found is not None:
            if "/" in name:
                self._dropped.add("")
            return found
        if self.rivals(name, split):
            return None
        found = self._find_loosely(name, split)
        if found is None and self._other_name is not None:
            other = self._other_name(name)
            found = self._find_exactly(other, split) if other != name else None
            self.num_renamed += found is not None
        if found is None and not is_picture_name(name):
            found = self._find_by_stem(name)
            self.num_completed += found is not None
        return found

    def find_moved(self, name: str, split: Split | None = None) -> Moved | None:
        """A picture in another folder than ``name`` says, which ``find`` did not find.

        It is the name without its first folders, or in a folder that is called as its own is, or
        its last part alone. It may be another picture: ``is_trusted`` says so when all names were
        looked for, and no two names have one file. None without ``bare``.
        """
        parts = name.replace("\\", "/").split("/")
        if not self._bare or len(parts) == 1:
            return None
        for start in range(1, len(parts) - 1):
            if parts[start] in ("", ".", ".."):
                continue
            found = self._find_exactly("/".join(parts[start:]), split)
            if found is not None:
                self._dropped.add("/".join(parts[:start]))
                return Moved(found)
        for folder in self._order(split):
            if os.path.basename(os.path.abspath(folder)) == parts[-2] and parts[-1] in (
                self._listing(folder)
            ):
                self._dropped.add("/".join(parts[:-1]))
                return Moved(os.path.join(folder, parts[-1]))
        found = self._find_exactly(parts[-1], split)
        return None if found is None else Moved(found, folder="/".join(parts[:-1]))

    def is_trusted(self, moved: Moved) -> bool:
        """Whether what ``find_moved`` found may be the picture, by all that was found.

        Where folders of names are there, ``cam2/1.jpg`` is no ``1.jpg`` that lies in another one.
        """
        return moved.folder is None or not self._dropped or moved.folder in self._dropped

    def rivals(self, name: str, split: Split | None = None) -> list[str]:
        """Pictures of one name in folders of several splits, where nothing says which is meant."""
        wanted = split or self._split
        paths: dict[Split, str] = {}
        for path, of in self._hits(name, split):
            if of is None or of == wanted:
                break
            paths.setdefault(of, path)
        found = list(paths.values())
        return found if any(not _is_copy(found[0], other) for other in found[1:]) else []

    def _order(self, split: Split | None) -> tuple[str, ...]:
        """The folders as they are looked through for a picture of a split."""
        split = split or self._split
        order = self._orders.get(split)
        if order is None:
            order = tuple(
                sorted(self._folder_names, key=lambda f: self._splits.get(f, split) != split)
            )
            self._orders[split] = order
        return order

    def candidates(self, stem: str) -> list[str]:
        """The pictures of the first folder that has some of this name but for the suffix."""
        for folder in self._folder_names:
            head, tail = os.path.split(os.path.join(folder, stem))
            stems = self._stem_listings.get(head)
            if stems is None:
                stems = {}
                for name in sorted(self._listing(head)):
                    if is_picture_name(name):
                        stems.setdefault(os.path.splitext(name)[0], []).append(name)
                self._stem_listings[head] = stems
            if tail in stems:
                return [os.path.join(head, name) for name in stems[tail]]
        return []

    def _find_by_stem(self, name: str) -> str | None:
        found = self.candidates(name)
        return found[0] if len(found) == 1 else None

    def holds(self, name: str) -> bool:
        """Whether a picture lies under exactly this name."""
        return self._find_exactly(name, None) is not None

    def _find_exactly(self, name: str, split: Split | None) -> str | None:
        path, of = next(self._hits(name, split), (None, None))
        if of is not None and of != (split or self._split) and self.rivals(name, split):
            return None
        return path

    def _hits(self, name: str, split: Split | None) -> Iterator[tuple[str, Split | None]]:
        """Each file of exactly this name, the best first, with the split of its folder."""
        listings = self._listings
        for folder in self._order(split):
            if "/" in name:
                path = os.path.join(folder, name)
                head, tail = os.path.split(path)
                if tail in self._listing(head):
                    yield path, self._splits.get(folder)
                continue
            listing = listings.get(folder)
            if name in (self._listing(folder) if listing is None else listing):
                yield f"{folder}/{name}", self._splits.get(folder)

    def _find_loosely(self, name: str, split: Split | None) -> str | None:
        """A name that differs only in case or in Unicode's form (``é`` in one piece or two).

        Some file systems ignore both, so that such annotations were right where they were made.
        """
        wanted = _loose(name.rpartition("/")[2])
        for folder in self._order(split):
            head = os.path.dirname(os.path.join(folder, name)) if "/" in name else folder
            if not self._listing(head):
                continue
            actual = self._loose_listing(head).get(wanted)
            if actual is not None:
                self.num_loose += 1
                return os.path.join(head, actual)
        return None

    def _loose_listing(self, folder: str) -> dict[str, str]:
        loose = self._loose_listings.get(folder)
        if loose is None:
            loose = {}
            for name in sorted(self._listing(folder)):
                loose.setdefault(_loose(name), name)
            self._loose_listings[folder] = loose
        return loose

    def _listing(self, folder: str) -> frozenset[str]:
        listing = self._listings.get(folder)
        if listing is None:
            note_input(folder)
            try:
                with os.scandir(folder) as entries:
                    listing = frozenset(entry.name for entry in entries if is_plain_file(entry))
            except (FileNotFoundError, NotADirectoryError, ValueError):
                listing = frozenset()
            except OSError as error:
                self._unreadable[folder] = reason_of(error)
                listing = frozenset()
            self._listings[folder] = listing
        return listing

    def describe(self, limit: int = 4) -> str:
        """The folders for an error message: those that exist first, and why one was no use."""
        ordered = sorted(self.folders, key=lambda folder: not folder.is_dir())
        parts = []
        for folder in ordered[:limit]:
            reason = self._unreadable.get(str(folder))
            state = f" ({reason})" if reason else "" if folder.is_dir() else " (not there)"
            parts.append(f"{folder}{state}")
        if len(ordered) > limit:
            parts.append(f"{len(ordered) - limit} more")
        return ", ".join(parts)
