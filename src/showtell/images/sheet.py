"""Contact sheets: pictures with their captions, drawn on one PNG or JPEG."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image, ImageDraw, ImageFont, ImageOps

from showtell.core.files import atomic_write
from showtell.errors import ImageError
from showtell.images.open import open_image

CELL_WIDTH, PICTURE_HEIGHT, MARGIN = 300, 220, 16
CAPTION_SIZE, REFERENCE_SIZE, HEADING_SIZE = 17, 13, 22
MOST_SIDE = 65_500  # pixels, as libjpeg has it
USUAL_LINES = 4  # of a caption, some 140 letters
MARK = "showtell sheet"  # in EXIF's Software: such a picture may be replaced by another sheet
INK, GREY, PAPER = "#1a1a1a", "#6b6b6b", "#ffffff"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class Cell:
    """One picture on the sheet.

    Attributes:
        picture: where it is, or itself, made smaller (``thumbnail``).
        caption: what the model said, in dark ink.
        references: what people said, in grey below it.
    """

    picture: Path | Image.Image
    caption: str
    references: tuple[str, ...] = ()


def thumbnail(picture: Image.Image) -> Image.Image:
    """An RGB picture as large as a sheet shows it."""
    return ImageOps.contain(picture, (CELL_WIDTH, PICTURE_HEIGHT))


def most_cells(columns: int) -> int:
    """How many pictures a sheet can have; captions are taken to have ``USUAL_LINES``."""
    most_columns = (MOST_SIDE - MARGIN) // (CELL_WIDTH + MARGIN)
    row = PICTURE_HEIGHT + 8 + USUAL_LINES * _line_height(CAPTION_SIZE) + MARGIN
    most_rows = (MOST_SIDE - HEADING_SIZE - 2 * MARGIN) // row
    return columns * most_rows if columns <= most_columns else most_columns


def save_contact_sheet(
    path: Path, cells: Sequence[Cell], *, columns: int = 4, heading: str = ""
) -> None:
    """Draw ``cells`` row by row and write ``path``: a JPEG where it ends so, else a PNG.

    Raises:
        ImageError: a picture cannot be read, or the sheet would have a side above ``MOST_SIDE``.
    """
    columns = max(1, min(columns, len(cells)))
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(_cell_height(cell) for cell in row) for row in rows]
    top = MARGIN + (HEADING_SIZE + MARGIN if heading else 0)
    width = MARGIN + columns * (CELL_WIDTH + MARGIN)
    whole = top + sum(height + MARGIN for height in heights)
    if max(width, whole) > MOST_SIDE:
        raise ImageError(
            f"{path} would have {width:,} x {whole:,} pixels; expected {MOST_SIDE:,} at most on a "
            "side: give another number of columns, or fewer pictures"
        )
    sheet = Image.new("RGB", (width, whole), PAPER)
    draw = ImageDraw.Draw(sheet)
    if heading:
        draw.text((MARGIN, MARGIN), heading, fill=INK, font=_font(HEADING_SIZE))
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            _draw_cell(sheet, draw, MARGIN + column * (CELL_WIDTH + MARGIN), top, cell)
        top += height + MARGIN
    mark = Image.Exif()
    mark[ExifTags.Base.Software] = MARK
    with atomic_write(path, "wb") as file:
        if path.suffix.lower() in (".jpg", ".jpeg"):
            sheet.save(file, "JPEG", quality=88, exif=mark)
        else:
            sheet.save(file, "PNG", exif=mark)


def refuse_others(path: Path) -> None:
    """Raise ImageError where ``path`` is there and is no contact sheet: it may be a photo."""
    if not path.is_file() or not path.stat().st_size:
        return
    try:
        with Image.open(path) as image:
            is_sheet = image.getexif().get(ExifTags.Base.Software) == MARK
    except Exception:  # whatever it is, it is no sheet
        is_sheet = False
    if not is_sheet:
        raise ImageError(f"{path} already exists and is not a sheet of showtell: give another name")


def _draw_cell(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, left: int, top: int, cell: Cell
) -> None:
    picture = cell.picture
    if isinstance(picture, Path):
        picture = thumbnail(open_image(picture))
    inset = (CELL_WIDTH - picture.width) // 2
    sheet.paste(picture, (left + inset, top + PICTURE_HEIGHT - picture.height))
    y = top + PICTURE_HEIGHT + 8
    for text, size, ink in _texts(cell):
        for line in _wrap(text, _font(size)):
            draw.text((left, y), line, fill=ink, font=_font(size))
            y += _line_height(size)


def _texts(cell: Cell) -> list[tuple[str, int, str]]:
    return [(cell.caption, CAPTION_SIZE, INK)] + [
        (f"- {reference}", REFERENCE_SIZE, GREY) for reference in cell.references
    ]


def _cell_height(cell: Cell) -> int:
    lines = sum(
        _line_height(size) * len(_wrap(text, _font(size))) for text, size, _ in _texts(cell)
    )
    return PICTURE_HEIGHT + 8 + lines


def _wrap(text: str, font: Font) -> list[str]:
    """Break ``text`` into lines of at most the cell's width."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= CELL_WIDTH:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines or [""]


def _line_height(size: int) -> int:
    return round(size * 1.3)


def _font(size: int) -> Font:
    return ImageFont.load_default(size)  # comes with Pillow; no font file is looked for
