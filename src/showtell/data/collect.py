"""Gathering one source's pictures and captions into a ``Dataset``.

Every source reads its own format and hands what it found to a ``Collector``. The collector skips,
counts and lists what cannot be used, by the same rules for all sources.
"""

import os
import posixpath
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from showtell.core.messages import counted
from showtell.data.pictures import (
    Moved,
    PictureFinder,
    describe_unsupported,
    is_unsupported_picture,
    leaves_folder,
)
from showtell.data.reading import is_text, listed_captions, printable, without_marks
from showtell.data.records import Dataset, Problem, Record, Split
from showtell.data.splits import KNOWN_SPLIT_NAMES, describe_counts, hash_split, split_of
from showtell.errors import DataError
from showtell.text.vocabulary import is_style

NO_WORD = "caption without a word"
REJECTED = "rejected caption"


class Draft:
    """A picture that exists, while its captions are being gathered."""

    __slots__ = ("captions", "file_name", "image_id", "path", "split", "styles")

    def __init__(self, image_id: str, file_name: str, path: str, split: Split | None) -> None:
        self.image_id = image_id
        self.file_name = file_name
        self.path = path
        self.split = split
        self.captions: list[str] = []
        self.styles: list[str] = []


class Collector:
    """Pictures, captions and problems of one data set while it is read.

    Args:
        name: What the user called the data set.
        source: The source's name, a key of ``SOURCES``.
        finder: Where pictures are looked for; may be replaced while reading.
        own_paths: The user wrote the paths for this machine, so a path may be absolute or
            climb with ``..``. In published annotations such a path is a problem.

    Attributes:
        num_untouched: Captions so far that a model wrote and nobody edited.
    """

    def __init__(
        self, name: str, source: str, finder: PictureFinder, *, own_paths: bool = False
    ) -> None:
        self.name = name
        self.source = source
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self.num_untouched = 0
        self._own_paths = own_paths
        self._uncaptioned: list[Path] = []
        self._drafts: dict[str, Draft | None] = {}
        self._id_of_path: dict[str, str] = {}
        self._finders = [finder]
        self._unsupported: Counter[str] = Counter()
        self._num_outside = self._num_marked = self._num_lists = 0
        self._moved: list[tuple[Draft, Moved, PictureFinder]] = []
        self._id_of_moved: dict[tuple[str, str], str] = {}
        self._num_moved = 0
        self._shared = ""
        self._rivals: list[str] = []
        self._missing_example = ""
        self._looked_in = ""

    def problem(self, kind: str, where: str, detail: str = "") -> None:
        """List one thing that was skipped."""
        self.problems.append(Problem(kind, printable(where), printable(detail)))

    @property
    def finder(self) -> PictureFinder:
        """Where pictures are looked for."""
        return self._finders[-1]

    @finder.setter
    def finder(self, finder: PictureFinder) -> None:
        self._finders.append(finder)
        self._looked_in = ""

    def known(self, image_id: str) -> bool:
        """Whether there was a picture of this id, usable or not."""
        return image_id in self._drafts

    def ids(self) -> Iterable[str]:
        """The ids of all pictures so far, usable or not."""
        return self._drafts.keys()

    @property
    def num_captions(self) -> int:
        """Captions of all pictures so far."""
        return sum(len(draft.captions) for draft in self._drafts.values() if draft is not None)

    def draft(self, image_id: str) -> Draft | None:
        """The picture of this id; None where it was skipped or there was none."""
        return self._drafts.get(image_id)

    def leave_out(self, file_name: str) -> None:
        """Count a picture of a kind that showtell does not read."""
        self._unsupported[os.path.splitext(file_name)[1].lower()] += 1

    def add_picture(
        self,
        image_id: str,
        file_name: str,
        split: Split | None,
        *,
        said_split: object = None,
        path: str | None = None,
        may_join: bool = False,
    ) -> Draft | None:
        """Take a picture entry; None, and a problem listed, where it cannot be used.

        Args:
            image_id: Unique in the data set.
            file_name: The picture's name in the data set.
            split: The split that follows from the place of the data, or None.
            said_split: What the entry itself says of its split, as found; it goes before ``split``.
            path: The file, where it is known already; else it is looked for by its name.
            may_join: Where another entry has the same file, give that one (``./a.jpg`` is
                ``a.jpg``), and list no problem.
        """
        if said_split not in (None, ""):
            split = split_of(str(said_split))
            if split is None:
                detail = f"{said_split!r}; known: {KNOWN_SPLIT_NAMES}"
                self.skip_picture(image_id, "unknown split", detail)
                return None
        if image_id in self._drafts:
            self.problem("duplicate id", image_id, f"{file_name} skipped, the first entry is kept")
            return None
        if not (image_id and is_text(image_id)):
            self.problem("bad id", image_id, f"of {file_name}: empty, or not valid Unicode")
            return None
        self._drafts[image_id] = None
        if is_unsupported_picture(file_name):
            self.leave_out(file_name)
            return None
        draft = Draft(image_id, file_name, path or "", split)
        if path is None and not self._locate(draft):
            return None
        self._drafts[image_id] = draft
        if not draft.path:  # twins that may not be joined are settled at the end, too
            return self._joined_moved(draft) if may_join else draft
        if (other := self._other_of(draft)) is not None:
            if may_join:
                del self._drafts[image_id]
                return other
            self._leave_out_twin(draft, other)
            return None
        return draft

    def _joined_moved(self, draft: Draft) -> Draft:
        """An earlier entry that names the same picture in another folder, or the last one."""
        _, moved, _ = self._moved[-1]
        key = os.path.abspath(moved.path), _plain_name(draft)
        other = self._drafts[self._id_of_moved.setdefault(key, draft.image_id)]
        if other is None or other is draft:
            return draft
        del self._drafts[draft.image_id]
        del self._moved[-1]
        return other

    def _other_of(self, draft: Draft) -> Draft | None:
        """An earlier entry of the same file."""
        other = self._id_of_path.setdefault(os.path.abspath(draft.path), draft.image_id)
        return None if other == draft.image_id else self._drafts[other]

    def _leave_out_twin(self, draft: Draft, other: Draft) -> None:
        detail = f"{draft.path} is already {other.image_id}"
        self.skip_picture(draft.image_id, "two ids for one picture", detail)

    def skip_picture(self, image_id: str, kind: str, detail: str = "") -> None:
        """List a problem of a picture and leave it out with all of its captions."""
        self._drafts[image_id] = None
        self.problem(kind, image_id, detail)

    def skip_uncaptioned(self, image_id: str, path: str | Path | None, detail: str) -> None:
        """Leave out a picture that has no caption.

        Args:
            path: The file; None where there is none.
        """
        self.skip_picture(image_id, "image without captions", detail)
        if path is not None:
            self._uncaptioned.append(Path(path))

    def _locate(self, draft: Draft) -> bool:
        """Set the path of a picture that is there; "" where that is settled at the end."""
        image_id, file_name = draft.image_id, draft.file_name
        if leaves_folder(file_name):
            if not self._own_paths:
                self.problem(
                    "path outside the picture folder",
                    image_id,
                    f"{file_name}: published annotations may not name files elsewhere",
                )
                return False
            self._num_outside += 1
        path = self.finder.find(file_name, draft.split)
        if path is not None:
            draft.path = path
        elif moved := self.finder.find_moved(file_name, draft.split):
            self._moved.append((draft, moved, self.finder))
        else:
            self._missing(draft, self.finder)
            return False
        return True

    def _missing(self, draft: Draft, finder: PictureFinder) -> None:
        file_name = draft.file_name
        if rivals := finder.rivals(file_name, draft.split):
            self._rivals = self._rivals or rivals
            detail = f"{file_name} could be {' or '.join(rivals)}"
            self.problem("ambiguous picture", draft.image_id, detail)
            return
        self._missing_example = self._missing_example or file_name
        web = file_name.startswith(("http://", "https://"))
        detail = f"{file_name} is a web address; download it first"
        if not web:
            self._looked_in = self._looked_in or finder.describe()
            detail = f"no {file_name} in {self._looked_in}"
            several = finder.candidates(file_name)
            if len(several) > 1:
                detail = f"{file_name} could be {' or '.join(several[:3])}; add the suffix"
        self.problem("missing picture", draft.image_id, detail)

    def _settle_moved(self) -> None:
        """Take or leave out the pictures that are in other folders than their names say.

        A file that two names lead to is neither's: both may be of folders that are not here.
        Spellings of one path are one name.
        """
        names: dict[str, dict[str, None]] = {}  # those that lead to each file, in order
        for draft, moved, finder in self._moved:
            if finder.is_trusted(moved):
                names.setdefault(os.path.abspath(moved.path), {})[_plain_name(draft)] = None
        for draft, moved, finder in self._moved:
            if not finder.is_trusted(moved):
                self._drafts[draft.image_id] = None
                self._missing(draft, finder)
                continue
            others = [n for n in names[os.path.abspath(moved.path)] if n != _plain_name(draft)]
            if others:
                detail = f"{moved.path} could be {draft.file_name} or {others[0]}"
                self._shared = self._shared or detail
                self.skip_picture(draft.image_id, "missing picture", detail)
                continue
            draft.path = moved.path
            self._num_moved += 1
            if (other := self._other_of(draft)) is not None:
                self._leave_out_twin(draft, other)

    def add_caption(
        self, draft: Draft, caption: object, where: str | None = None, style: object = None
    ) -> None:
        """Take one caption of a picture, stripped; one that cannot be used becomes a problem.

        Marks of its start and end are taken off (``without_marks``).
        A caption without any letter or digit ("...") has no word to learn, so it is left out.
        """
        if style is not None and not (isinstance(style, str) and is_style(style)):
            detail = f"{style!r}, not a lower-case word such as short; the caption has none"
            self.problem("unknown style", where or draft.image_id, detail)
            style = None
        if not isinstance(caption, str):
            detail = f"a {type(caption).__name__} where a caption was expected"
            self.problem("caption is not text", where or draft.image_id, detail)
            return
        unmarked = without_marks(caption)
        self._num_marked += unmarked != caption
        text = unmarked.strip()
        if not text:
            self.problem("empty caption", where or draft.image_id)
        elif not is_text(text):
            self.problem("caption is not text", where or draft.image_id, "not valid Unicode")
        elif not any(map(str.isalnum, text)):
            self.problem(NO_WORD, where or draft.image_id, text)
        else:
            draft.captions.append(text)
            draft.styles.append(str(style or ""))

    def add_captions(
        self,
        draft: Draft,
        captions: Sequence[object],
        where: str | None = None,
        styles: Sequence[object] = (),
    ) -> None:
        """Take captions of a picture; ``styles`` are of the captions, one each, or none.

        A text that is a list of captions (``listed_captions``) is taken as these.
        """
        for caption, style in zip(captions, styles or [None] * len(captions), strict=True):
            listed = listed_captions(caption) if isinstance(caption, str) else None
            self._num_lists += listed is not None
            for text in [caption] if listed is None else listed:
                self.add_caption(draft, text, where, style or None)

    def finish(self) -> Dataset:
        """The data set, its split drawn where no picture had one.

        Raises:
            DataError: nothing usable is left, or no picture is where it was looked for.
        """
        self._settle_moved()
        usable = self._captioned()
        if usable and not any(draft.split for draft in usable):
            self._draw_split(usable)
        records = []
        for draft in usable:
            if draft.split is None:
                self.problem("no split", draft.image_id, "others name theirs; skipped")
                continue
            captions = tuple(draft.captions)
            styles = tuple(draft.styles) if any(draft.styles) else ()
            records.append(Record(draft.image_id, Path(draft.path), captions, draft.split, styles))
        if not records:
            raise DataError(self._why_empty())
        self.notes += self._skipping_notes()
        return Dataset(
            self.name,
            self.source,
            tuple(records),
            tuple(self.problems),
            tuple(self.notes),
            tuple(self._uncaptioned),
        )

    def _skipping_notes(self) -> list[str]:
        """A sentence for each decision about several pictures or captions."""
        notes = []
        if self._num_outside:
            notes.append(
                f"{self._num_outside:,} picture paths are absolute or climb with '..'; "
                "they were followed as written"
            )
        if num_loose := sum(finder.num_loose for finder in self._finders):
            notes.append(
                f"{counted(num_loose, 'picture')} found under names that differ "
                "from the annotations' in upper and lower case or in Unicode form"
            )
        if num_completed := sum(finder.num_completed for finder in self._finders):
            notes.append(
                f"{counted(num_completed, 'picture')} named without the suffix of the file"
            )
        if self._num_moved:
            notes.append(
                f"{counted(self._num_moved, 'picture')} found in other folders than the data names"
            )
        if self._num_marked:
            notes.append(
                f"{counted(self._num_marked, 'caption')} read without marks such as "
                "<start> ... <end>"
            )
        if self._num_lists:
            notes.append(
                f"{counted(self._num_lists, 'text')} read as lists of captions, such as "
                "['A dog runs.', 'A brown dog.']"
            )
        kinds = Counter(problem.kind for problem in self.problems)
        if kinds[NO_WORD]:
            notes.append(f"left out: {counted(kinds[NO_WORD], 'caption')} without any word")
        if kinds[REJECTED]:
            notes.append(
                f"left out: {counted(kinds[REJECTED], 'caption')} that the annotators rejected"
            )
        if self._unsupported:
            notes.append(describe_unsupported(self._unsupported))
        return notes

    def _captioned(self) -> list[Draft]:
        usable = []
        for draft in list(self._drafts.values()):
            if draft is None:
                continue
            if draft.captions:
                usable.append(draft)
            else:
                self.skip_uncaptioned(draft.image_id, draft.path, draft.path)
        return usable

    def _draw_split(self, drafts: list[Draft]) -> None:
        splits = hash_split(draft.image_id for draft in drafts)
        for draft in drafts:
            draft.split = splits[draft.image_id]
        self.notes.append(
            "the data names no split, so one was drawn by the hash of the ids: "
            + describe_counts(splits.values())
        )

    def _why_empty(self) -> str:
        counts = Counter(problem.kind for problem in self.problems)
        num_missing = counts["missing picture"]
        if num_missing and num_missing >= len(self._drafts) // 2:
            listed = counted(len(self._drafts), "picture")
            if not self._missing_example:
                return (
                    f"{self.name}: none of its {listed} can be found for certain: "
                    f"{printable(self._shared)}; say where the pictures are with --images DIR"
                )
            return (
                f"{self.name}: none of its {listed} can be found; looked for "
                f"{printable(self._missing_example)!r} in {self.finder.describe()}; "
                "say where the pictures are with --images DIR"
            )
        if counts["ambiguous picture"] >= max(1, len(self._drafts) // 2):
            path, other = (os.path.dirname(path) for path in self._rivals[:2])
            return (
                f"{self.name}: its pictures lie under the same names in {path} and {other}; "
                f"say which with --images {shlex.quote(path)} or {shlex.quote(other)}"
            )
        kinds = [f"{kind} {count:,}" for kind, count in counts.most_common()]
        if self._unsupported:
            kinds.append(describe_unsupported(self._unsupported))
        found = "; ".join(kinds)
        return (
            f"{self.name} ({self.source}) holds no captioned picture: "
            f"{counted(len(self._drafts), 'picture')} listed; {found or 'nothing else found'}"
        )


def _plain_name(draft: Draft) -> str:
    """A picture's name in the data set, whichever way its path is spelled."""
    return posixpath.normpath(draft.file_name.replace("\\", "/"))
