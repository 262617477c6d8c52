"""CSV and TSV: a header that names the columns, one caption or one picture a row.

Also the tables in which Flickr8k and Flickr30k are often found (``captions.txt`` with commas,
``results.csv`` with ``|``), and the ``metadata.csv`` of a Hugging Face image folder.

Cells follow RFC 4180, with the leniency that real files need: a cell may have spaces around its
quotes, and where quotes do not enclose a whole cell they are text. A row of another shape than the
header is never cut: surplus commas belong to the caption where the caption is the last column, and
any other such row is listed as a problem.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from showtell.core.messages import counted
from showtell.data.column_names import (
    CAPTION_NAMES,
    EDITED_NAMES,
    ID_NAMES,
    PICTURE_NAMES,
    SPLIT_NAMES,
    caption_names,
    find_name,
    is_edited,
    model_name,
    normalised,
    picture_name,
)
from showtell.data.pictures import is_picture_name
from showtell.data.reading import printable, read_text
from showtell.data.records import Dataset
from showtell.data.sources.base import (
    Place,
    Row,
    RowFile,
    Source,
    find_places,
    load_rows,
    only_file,
    peek,
)
from showtell.errors import DataError

_NUMBER_AND_TEXT = re.compile(r"\s*(\d+)\s+(\S.*)", re.DOTALL)
DELIMITERS = ",\t;|"
TABLE_NAMES = ("captions.csv", "captions.tsv", "captions.txt", "metadata.csv", "results.csv")


def matches(path: Path) -> bool:
    """A ``.csv`` or ``.tsv``, a text file whose first line names such columns, or its folder."""
    if path.is_dir():
        return bool(_places(path))
    suffix = path.suffix.lower()
    if suffix in {".csv", ".tsv"}:
        return True
    if suffix != ".txt":
        return False
    header = _first_line(peek(path).lstrip("\ufeff"))
    names = header.split(_delimiter(header))
    return bool(find_name(names, PICTURE_NAMES) and caption_names(names))


def load(path: Path, images: Path | None) -> Dataset:
    """Read a table, or those that a folder holds.

    Raises:
        DataError: no table, no text, unknown columns, or nothing usable.
    """
    notes: list[str] = []
    files: list[RowFile] = []
    if path.is_dir():
        places = _places(path) or [Place(path, None, "")]
        usual = f"of {', '.join(TABLE_NAMES)}"
        for place in places:
            file = only_file(_tables(place.folder), place.folder, usual)
            files.append(RowFile(file, _read(file, notes), place))
    else:
        files.append(RowFile(path, _read(path, notes)))
    return load_rows(files, str(path), "csv", images, notes)


def _places(folder: Path) -> list[Place]:
    return find_places(folder, lambda place: bool(_tables(place)))


def _tables(folder: Path) -> list[Path]:
    found = [folder / name for name in TABLE_NAMES if (folder / name).is_file()]
    return [file for file in found if file.suffix != ".txt" or matches(file)]


def _first_line(text: str) -> str:
    return re.split(r"[\r\n]", text, maxsplit=1)[0]


def _delimiter(header: str) -> str:
    return max(DELIMITERS, key=header.count)


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where each role stands in a row."""

    num: int
    picture: int
    captions: tuple[int, ...]
    split: int | None
    image_id: int | None
    number: int | None = None  # of the caption among those of its picture
    model: int | None = None  # that wrote the captions
    edited: int | None = None

    @classmethod
    def of_header(cls, names: list[str], file: Path) -> "_Columns":
        """
        Raises:
            DataError: there is no column for the picture, or none for the caption.
        """
        number = {name: index for index, name in reversed(list(enumerate(names)))}
        picture, captions = picture_name(names), caption_names(names)
        if picture is None or not captions:
            what, usual = ("caption", CAPTION_NAMES) if picture else ("picture", PICTURE_NAMES)
            found = ", ".join(printable(name) for name in names[:20])
            raise DataError(
                f"{file}: no column for the {what}; found columns: {found}; "
                f"the first line must name one of {', '.join(usual)}"
            )

        def place(name: str | None) -> int | None:
            return None if name is None else number[name]

        return cls(
            num=len(names),
            picture=number[picture],
            captions=tuple(number[name] for name in captions),
            split=place(find_name(names, SPLIT_NAMES)),
            image_id=place(find_name(names, ID_NAMES)),
            number=next((number[name] for name in names if _is_number(name)), None),
            model=place(model_name(names)),
            edited=place(find_name(names, EDITED_NAMES)),
        )

    def mend(self, cells: list[str]) -> list[str] | None:
        """A row whose caption and its number have become one cell; None where that is not so.

        Flickr30k's results.csv has one, of 2199200615.jpg, without its second separator:
        ``2199200615.jpg| 4   A dog runs across the grass .``
        """
        number, captions = self.number, self.captions
        if number is None or captions != (number + 1,) or len(cells) != self.num - 1:
            return None
        match = _NUMBER_AND_TEXT.fullmatch(cells[number])
        return None if match is None else [*cells[:number], *match.groups(), *cells[number + 1 :]]


def _is_number(name: str) -> bool:
    return normalised(name) in ("comment_number", "caption_number")


class TableText:
    """The text of a table as rows of cells; the first row is the header.

    Args:
        text: The whole file.

    Attributes:
        delimiter: What separates cells: what the header has most of.
        names: The header's cells.
        num_literal: Cells whose quotes were taken as text, of the rows so far.
        num_rejoined: Rows so far whose last cell had unquoted delimiters.
    """

    def __init__(self, text: str) -> None:
        self.delimiter = _delimiter(_first_line(text))
        escaped = re.escape(self.delimiter)
        # Possessive, so that a quote without its end is given up at once and not tried anew.
        self._quoted = re.compile(rf' *"((?:[^"]++|"")*+)" *(?={escaped}|[\r\n]|\Z)')
        self._line_end = re.compile(r"[\r\n]")
        self._plain = re.compile(rf"[^{escaped}\r\n]*+")
        self.num_literal = self.num_rejoined = 0
        self._text = text
        self._num = 0  # columns; 0 while the header is read
        self._picture: int | None = None
        self.names, _, end_of_header = next(self._cells(), ([], "", 0))
        self._text = text[end_of_header:].removeprefix("\r").removeprefix("\n")
        self._num = len(self.names)
        self.num_literal = self.num_rejoined = 0

    def rows(
        self, *, picture: int | None, last_is_caption: bool
    ) -> Iterator[tuple[int, list[str]]]:
        """Each row after the header that is not empty: its number, from 2 on, and its cells.

        Args:
            picture: The column of pictures' names, by which stray quotes are told from a cell of
                several lines; None: no column has such names.
            last_is_caption: Whether the last column is text, to which surplus cells then belong.
        """
        self._picture = picture
        for number, (cells, last, _) in enumerate(self._cells(), 2):
            if not any(cell.strip() for cell in cells):
                continue
            while len(cells) > self._num and not cells[-1].strip():
                cells.pop()  # nothing but delimiters at the end of the line
            if len(cells) > self._num and last_is_caption:
                cells[self._num - 1 :] = [last]
                self.num_rejoined += 1
            yield number, cells

    def notes(self, name: str) -> Iterator[str]:
        """What was made of the rows so far that a careful writer would not have written."""
        if self.num_rejoined:
            rows = counted(self.num_rejoined, "row")
            yield f"{name}: the caption of {rows} has unquoted delimiters; kept whole"
        if self.num_literal:
            cells = counted(self.num_literal, "cell")
            yield f"{name}: the quotes of {cells} enclose only a part; kept as text"

    def _cells(self) -> Iterator[tuple[list[str], str, int]]:
        """Each row's cells, its text from the header's last column on, and where the row ends."""
        position, length = 0, len(self._text)
        while position < length:
            match = self._line_end.search(self._text, position)
            end = match.start() if match else length
            if self._text.find('"', position, end) < 0:  # nearly all rows, and ten times as fast
                cells = self._text[position:end].split(self.delimiter)
                last = self.delimiter.join(cells[self._num - 1 :]) if self._num else ""
            else:
                cells, starts, end = self._quoted_row(position)
                is_long = self._num and len(cells) >= self._num
                last = self._text[starts[self._num - 1] : end] if is_long else ""
            yield cells, last, end
            position = end + (2 if self._text.startswith("\r\n", end) else 1)

    def _quoted_row(self, position: int) -> tuple[list[str], list[int], int]:
        """The cells of a row with quotes, where each begins, and where the row ends."""
        cells, starts = [], []
        while True:
            starts.append(position)
            match = self._quoted.match(self._text, position)
            if match is not None and not self._swallows_rows(match[1]):
                cells.append(match[1].replace('""', '"'))
            else:
                match = self._plain.match(self._text, position)
                assert match is not None
                cells.append(match[0])
                self.num_literal += match[0].lstrip().startswith('"')
            position = match.end()
            if not self._text.startswith(self.delimiter, position):
                return cells, starts, position
            position += 1

    def _swallows_rows(self, quoted: str) -> bool:
        """Whether the lines of a quoted cell are rows of their own, between two stray quotes."""
        if self._picture is None or "\n" not in quoted:
            return False
        for line in quoted.split("\n")[1:]:
            cells = line.split(self.delimiter)
            if len(cells) == self._num and is_picture_name(cells[self._picture].strip(' "')):
                return True
        return False


def _read(file: Path, notes: list[str]) -> Iterator[Row]:
    text = read_text(file)
    if not text.strip():
        raise DataError(f"{file} is empty; its first line must name the columns")
    if "\0" in text:
        raise DataError(f"{file} holds NUL characters, so it is not a text table; save it as UTF-8")
    table = TableText(text)
    columns = _Columns.of_header(table.names, file)
    last_is_caption = columns.captions == (columns.num - 1,)
    num_mended = 0
    for number, cells in table.rows(picture=columns.picture, last_is_caption=last_is_caption):
        mended = columns.mend(cells)
        num_mended += mended is not None
        yield _row(f"{file.name}: row {number}", mended or cells, columns)
    if num_mended:
        rows = counted(num_mended, "row")
        notes.append(
            f"{file.name}: {rows} lacked the delimiter between number and caption; read as meant"
        )
    notes += table.notes(file.name)


def _row(where: str, cells: list[str], columns: _Columns) -> Row:
    """A row; one of another shape than the header has a fault."""
    may_lack = columns.captions[1:] if len(columns.captions) > 1 else ()
    missing = range(len(cells), columns.num)
    if len(cells) > columns.num or any(index not in may_lack for index in missing):
        shape = f"has {counted(len(cells), 'cell')} where the header has {columns.num}"
        advice = "; put text with delimiters in quotes" if len(cells) > columns.num else ""
        return Row(where, None, (), fault=shape + advice)
    said = [cells[index] for index in columns.captions if index < len(cells)]
    if len(columns.captions) > 1:  # a picture may have fewer captions than the table has columns
        said = [text for text in said if text.strip()]

    def cell(index: int | None) -> str | None:
        return None if index is None else cells[index]

    return Row(
        where,
        cell(columns.picture),
        said,
        cell(columns.split),
        cell(columns.image_id),
        untouched=bool(cell(columns.model)) and not is_edited(cell(columns.edited)),
    )


SOURCE = Source(
    name="csv",
    description="a CSV or TSV with a column for the picture and one for the caption",
    looks_for="a .csv or .tsv, or a folder with captions.csv or metadata.csv",
    matches=matches,
    load=load,
    tells_edits=True,
)
