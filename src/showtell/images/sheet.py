"""Contact sheets: pictures with their captions, drawn on one PNG or JPEG."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image, ImageDraw, ImageOps

from showtell.core.files import atomic_write
from showtell.errors import ImageError
from showtell.images.lettering import Lettering, told
from showtell.images.open import open_image

CELL_WIDTH, PICTURE_HEIGHT, MARGIN = 300, 220, 16
CAPTION_SIZE, REFERENCE_SIZE, HEADING_SIZE = 17, 13, 22
MOST_SIDE = 65_500  # pixels, as libjpeg has it
USUAL_LINES = 4  # of a caption, some 140 letters
MARK = "showtell sheet"  # in EXIF's Software: such a picture may be replaced by another sheet
INK, GREY, PAPER = "#1a1a1a", "#6b6b6b", "#ffffff"

Text = tuple[str, int, str]  # what is written, its size in pixels, its colour


@dataclass(frozen=True, slots=True)
class Cell:
    """One picture on the sheet.

    Attributes:
        picture: where it is, or itself, made smaller (``thumbnail``).
        caption: what the model said, in dark ink.
        references: what people said, in grey below it.
        name: of the picture's file, in grey below the picture; empty: none.
    """

    picture: Path | Image.Image
    caption: str
    references: tuple[str, ...] = ()
    name: str = ""


def thumbnail(picture: Image.Image) -> Image.Image:
    """An RGB picture as large as a sheet shows it."""
    return ImageOps.contain(picture, (CELL_WIDTH, PICTURE_HEIGHT))


def most_cells(columns: int) -> int:
    """How many pictures a sheet can have; captions are taken to have ``USUAL_LINES``."""
    most_columns = (MOST_SIDE - MARGIN) // (CELL_WIDTH + MARGIN)
    row = PICTURE_HEIGHT + 8 + USUAL_LINES * Lettering(()).line_height(CAPTION_SIZE) + MARGIN
    most_rows = (MOST_SIDE - HEADING_SIZE - 2 * MARGIN) // row
    return columns * most_rows if columns <= most_columns else most_columns


def save_contact_sheet(
    path: Path, cells: Sequence[Cell], *, columns: int = 4, heading: str = ""
) -> str:
    """Draw ``cells`` row by row and write ``path``: a JPEG where it ends so, else a PNG.

    Returns:
        A sentence on letters that no font here has, and that are boxes on the sheet; or nothing.

    Raises:
        ImageError: a picture cannot be read, or the sheet would have a side above ``MOST_SIDE``.
    """
    columns = max(1, min(columns, len(cells)))
    width = MARGIN + columns * (CELL_WIDTH + MARGIN)
    lettering = Lettering([heading, *(text for cell in cells for text, _, _ in _texts(cell))])
    titles = lettering.wrap(heading, HEADING_SIZE, width - 2 * MARGIN) if heading else []
    title_height = lettering.line_height(HEADING_SIZE) * len(titles)
    blocks = [_lines(cell, lettering) for cell in cells]
    rows = [
        range(start, min(start + columns, len(cells))) for start in range(0, len(cells), columns)
    ]
    heights = [PICTURE_HEIGHT + 8 + max(_height(blocks[n], lettering) for n in row) for row in rows]
    top = MARGIN + (title_height + MARGIN // 2 if heading else 0)
    whole = top + sum(height + MARGIN for height in heights)
    if max(width, whole) > MOST_SIDE:
        raise ImageError(
            f"{path} would have {width:,} x {whole:,} pixels; expected {MOST_SIDE:,} at most on a "
            "side: give another number of columns, or fewer pictures"
        )
    sheet = Image.new("RGB", (width, whole), PAPER)
    draw = ImageDraw.Draw(sheet)
    y = MARGIN
    for line in titles:
        lettering.draw(
            draw, (MARGIN, y), line, size=HEADING_SIZE, ink=INK, width=width - 2 * MARGIN
        )
        y += lettering.line_height(HEADING_SIZE)
    for row, height in zip(rows, heights, strict=True):
        for column, number in enumerate(row):
            left, y = MARGIN + column * (CELL_WIDTH + MARGIN), top + PICTURE_HEIGHT + 8
            _paste(sheet, left, top, cells[number].picture)
            for line, size, ink in blocks[number]:
                lettering.draw(draw, (left, y), line, size=size, ink=ink, width=CELL_WIDTH)
                y += lettering.line_height(size)
        top += height + MARGIN
    mark = Image.Exif()
    mark[ExifTags.Base.Software] = MARK
    with atomic_write(path, "wb") as file:
        if path.suffix.lower() in (".jpg", ".jpeg"):
            sheet.save(file, "JPEG", quality=88, exif=mark)
        else:
            sheet.save(file, "PNG", exif=mark)
    return told(lettering.missing)


def refuse_others(path: Path) -> None:
    """Raise ImageError where ``path`` is there and is not a contact sheet: it may be a photo."""
    if not path.is_file() or not path.stat().st_size:
        return
    try:
        with Image.open(path) as image:
            is_sheet = image.getexif().get(ExifTags.Base.Software) == MARK
    except Exception:  # whatever it is, it is not a sheet
        is_sheet = False
    if not is_sheet:
        raise ImageError(f"{path} already exists and is not a sheet of showtell: give another name")


def _paste(sheet: Image.Image, left: int, top: int, picture: Path | Image.Image) -> None:
    if isinstance(picture, Path):
        picture = thumbnail(open_image(picture))
    inset = (CELL_WIDTH - picture.width) // 2
    sheet.paste(picture, (left + inset, top + PICTURE_HEIGHT - picture.height))


def _texts(cell: Cell) -> list[Text]:
    name = [(cell.name, REFERENCE_SIZE, GREY)] if cell.name else []
    references = [(f"- {reference}", REFERENCE_SIZE, GREY) for reference in cell.references]
    return [*name, (cell.caption, CAPTION_SIZE, INK), *references]


def _lines(cell: Cell, lettering: Lettering) -> list[Text]:
    return [
        (line, size, ink)
        for text, size, ink in _texts(cell)
        for line in lettering.wrap(text, size, CELL_WIDTH)
    ]


def _height(lines: Sequence[Text], lettering: Lettering) -> int:
    return sum(lettering.line_height(size) for _, size, _ in lines)
