"""Text on drawn pictures, in any script: fonts that have its letters, lines of a given width.

Pillow comes with one font, for English. Where a text has other letters, fonts of the system are
looked for. A letter that no font has is drawn as a box, and ``missing`` tells which these are.
"""

import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache, partial
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

from PIL import ImageDraw, ImageFont

SUFFIXES = (".ttf", ".otf", ".ttc", ".otc")
# Names of fonts that are a second choice, and of fonts that have a box for every letter.
SPECIAL = re.compile(
    r"bold|italic|oblique|light|thin|black|heavy|medium|condensed|extra|semi|mono|serif|display|"
    r"kufi|nastaliq|looped|ui\b",
    re.I,
)
EMPTY = re.compile(r"lastresort|adobeblank|notdef", re.I)
NO_LETTER = "\uffff"  # by definition; a font draws it as it draws letters that it lacks
LOOK = 20  # pixels; the size at which letters are compared
MOST_NAMED = 12  # letters of a message
JOINERS = "\u200c\u200d"
# Thai and Lao vowels that stay with the letter before them, or with the one after.
AFTER, BEFORE = "\u0e30\u0e32\u0e33\u0e45\u0eb0\u0eb2\u0eb3", "\u0e40\u0e41\u0e42\u0e43\u0e44"
NOT_FIRST = "ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮー々ゝヽ"  # in a line of Japanese

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Make = Callable[[int], Font]


class Lettering:
    """Draws texts with as few fonts as have their letters; sizes and widths are in pixels.

    Args:
        texts: all that will be drawn.
        files: where to look for fonts; by default those of the system.
    """

    def __init__(self, texts: Iterable[str], files: Sequence[Path] | None = None) -> None:
        letters = dict.fromkeys(letter for text in texts for letter in _clean(text))
        wanted = [letter for letter in letters if _is_seen(letter)]
        self._own = _Face(ImageFont.load_default)
        self._faces = [self._own]
        left = self._own.lacking(wanted)
        if left:
            self._faces, left = _choose(self._own, wanted, font_files() if files is None else files)
        self.missing = "".join(left)

    @property
    def files(self) -> list[Path]:
        """The files of the fonts, without Pillow's own."""
        return [face.path for face in self._faces if face.path]

    def line_height(self, size: int) -> int:
        """Letters of other scripts are higher and deeper than English ones."""
        return round(size * (1.3 if self._faces == [self._own] else 1.5))

    def wrap(self, text: str, size: int, width: int) -> list[str]:
        """Break ``text`` into lines, at spaces or where its script can be; a word that is too
        long for a line is cut."""
        lines, line = [], ""
        for piece in _pieces(_clean(text)):
            if self._length((line + piece).strip(), size) <= width:
                line += piece
                continue
            lines += [line.strip()] if line.strip() else []
            line = piece
            while self._length(line.strip(), size) > width:
                whole = _clusters(line.strip())
                fits = len(whole) - 1
                while fits > 1 and self._length("".join(whole[:fits]), size) > width:
                    fits -= 1
                if not fits:
                    break
                lines.append("".join(whole[:fits]))
                line = "".join(whole[fits:])
        return [*lines, line.strip()] if line.strip() or not lines else lines

    def draw(
        self,
        draw: ImageDraw.ImageDraw,
        place: tuple[int, int],
        line: str,
        *,
        size: int,
        ink: str,
        width: int,
    ) -> None:
        """Draw one line; Arabic and Hebrew begin at the right."""
        x, y = float(place[0]), place[1] + round(size * 0.98)  # the base line
        runs = self._runs(_clean(line))
        if _is_leftward(line):
            x += width - self._length(line, size)
            runs.reverse()
        for face, text in runs:
            draw.text((x, y), text, fill=ink, font=face.font(size), anchor="ls")
            x += face.font(size).getlength(text)

    def _length(self, text: str, size: int) -> float:
        return sum(face.font(size).getlength(part) for face, part in self._runs(text))

    def _runs(self, text: str) -> list[tuple["_Face", str]]:
        """The text by fonts: one for all of it if there is one, else that of each letter."""
        for face in self._faces:
            if not face.lacking([letter for letter in text if _is_seen(letter)]):
                return [(face, text)]
        chosen: list[_Face] = []
        for letter in text:
            faces = [face for face in self._faces if face.has(letter)]
            before = chosen[-1] if chosen else self._faces[0]
            # Spaces go with the letter before them.
            goes_on = not _is_seen(letter) or before in faces
            chosen.append(before if goes_on else faces[0] if faces else self._own)
        pairs = groupby(zip(chosen, text, strict=True), key=lambda pair: id(pair[0]))
        runs = [list(pair) for _, pair in pairs]
        return [(run[0][0], "".join(letter for _, letter in run)) for run in runs]


def told(missing: str) -> str:
    """A sentence for ``Lettering.missing``; empty if nothing is."""
    if not missing:
        return ""
    named = " ".join(missing[:MOST_NAMED]) + (" ..." if len(missing) > MOST_NAMED else "")
    packages = " ".join(sorted({_package(letter) for letter in missing}))
    return (
        f"no font here has these letters, which are drawn as boxes: {named}; install fonts that "
        f"have them (Debian, Ubuntu: apt-get install {packages})"
    )


def font_files() -> list[Path]:
    """All font files where the system, the user and matplotlib have them, plain ones first."""
    home = Path.home()
    if sys.platform == "win32":
        folders = [Path(os.environ.get("WINDIR", r"C:\Windows")) / "Fonts"]
        folders.append(home / "AppData" / "Local" / "Microsoft" / "Windows" / "Fonts")
    elif sys.platform == "darwin":
        folders = [home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")]
    else:
        shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
        own = os.environ.get("XDG_DATA_HOME") or str(home / ".local" / "share")
        folders = [Path(place) / "fonts" for place in (own, *shared.split(":")) if place]
        folders.append(home / ".fonts")
    drawing = find_spec("matplotlib")
    if drawing and drawing.origin:
        folders.append(Path(drawing.origin).parent / "mpl-data" / "fonts" / "ttf")
    found = [
        Path(folder) / name
        for top in folders
        for folder, _, names in os.walk(top)
        for name in names
        if name.lower().endswith(SUFFIXES) and not EMPTY.search(name)
    ]
    return sorted(found, key=lambda path: (_is_special(path), len(path.name), str(path)))


class _Face:
    """A font in the sizes that are asked for."""

    def __init__(self, make: Make, path: Path | None = None) -> None:
        self.path = path
        self.font: Make = lru_cache(maxsize=None)(make)
        self._has: dict[str, bool] = {}

    def has(self, letter: str) -> bool:
        """Whether the letter looks unlike one that the font certainly lacks."""
        if letter not in self._has:
            self._has[letter] = self._look(letter) != self._box
        return self._has[letter]

    def lacking(self, letters: Iterable[str]) -> list[str]:
        return [letter for letter in letters if not self.has(letter)]

    @cached_property
    def _box(self) -> tuple[object, bytes]:
        return self._look(NO_LETTER)

    @cached_property
    def _plain(self) -> Font:
        """Without shaping, which makes up some of the letters that a font lacks, badly."""
        if self.path is None:
            return self.font(LOOK)
        return ImageFont.truetype(self.path, LOOK, layout_engine=ImageFont.Layout.BASIC)

    def _look(self, letter: str) -> tuple[object, bytes]:
        mask = self._plain.getmask(letter)
        return mask.size, bytes(mask)


def _open(path: Path) -> _Face | None:
    face = _Face(partial(ImageFont.truetype, path), path)
    try:
        face.has("a")
    except OSError:  # broken, or of a kind that FreeType cannot draw, such as fonts of emoji
        return None
    return face


def _choose(
    own: _Face, wanted: Sequence[str], files: Sequence[Path]
) -> tuple[list[_Face], list[str]]:
    """A font that has all letters, else Pillow's with those that have the most; and the letters
    that none has."""
    left, chosen = own.lacking(wanted), [own]
    for _, group in groupby(files, key=_is_special):
        useful: list[_Face] = []
        for face in filter(None, map(_open, group)):
            if not face.lacking(wanted):
                return [face], []
            useful.append(face)
        while left and useful:
            best = min(useful, key=lambda face: len(face.lacking(left)))
            lacking = best.lacking(left)
            if len(lacking) == len(left):
                break
            chosen.append(best)
            left = lacking
        if not left:
            break
    return chosen, left


def _is_special(path: Path) -> bool:
    return SPECIAL.search(path.stem) is not None


def _clean(text: str) -> str:
    """Accents together with their letters, and nothing that is not to be seen but joiners."""
    spaced = " ".join(unicodedata.normalize("NFC", text).split())
    return "".join(
        letter
        for letter in spaced
        if letter in JOINERS
        or (unicodedata.category(letter) not in ("Cc", "Cf") and not "\ufe00" <= letter <= "\ufe0f")
    )


def _is_seen(letter: str) -> bool:
    return not letter.isspace() and letter not in JOINERS


def _pieces(text: str) -> list[str]:
    """Parts between which a line may end; one that begins a word has the space before it."""
    pieces: list[str] = []
    for word in text.split():
        before = ""
        for cluster in _clusters(word):
            if before and not _may_part(before[-1], cluster[0]):
                pieces[-1] += cluster
            else:
                pieces.append(cluster if before else f" {cluster}")
            before = cluster
    return pieces


def _clusters(text: str) -> list[str]:
    """What a reader takes for one letter: a letter with its marks and vowels."""
    clusters: list[str] = []
    for letter in text:
        last = clusters[-1][-1] if clusters else ""
        is_mark = unicodedata.category(letter).startswith("M") or letter in JOINERS + AFTER
        # After a joiner or a sign that takes the vowel away, the next consonant is joined.
        is_joined = bool(last) and (
            last in JOINERS + BEFORE or unicodedata.combining(last) == 9  # virama
        )
        if last and (is_mark or is_joined):
            clusters[-1] += letter
        else:
            clusters.append(letter)
    return clusters


def _may_part(before: str, after: str) -> bool:
    """Whether a line may end between these two: beside Chinese and Japanese characters, but not
    before what closes or after what opens."""
    if unicodedata.category(after) in ("Pe", "Pf", "Po") or after in NOT_FIRST:
        return False
    return unicodedata.category(before) not in ("Ps", "Pi") and (
        _is_ideograph(before) or _is_ideograph(after)
    )


def _is_ideograph(letter: str) -> bool:
    is_wide = unicodedata.east_asian_width(letter) in "WF"
    return is_wide and not unicodedata.name(letter, "").startswith("HANGUL")  # Korean has spaces


def _is_leftward(text: str) -> bool:
    """Whether the first letter with a direction is written from right to left."""
    directions = (unicodedata.bidirectional(letter) for letter in text)
    return next((way != "L" for way in directions if way in ("L", "R", "AL")), False)


def _package(letter: str) -> str:
    if letter >= "\U0001f000" or unicodedata.category(letter) == "So":
        return "fonts-symbola"
    wide = unicodedata.east_asian_width(letter) in "WF"
    return "fonts-noto-cjk" if wide else "fonts-noto-core"
