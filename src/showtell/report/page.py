"""Pieces of a self-contained page: escaped text, embedded pictures, no request to any host.

Each function returns complete HTML elements.
"""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image, ImageOps

from showtell.errors import ImageError
from showtell.images.open import open_image

STYLE = Path(__file__).with_name("style.css")
SORTING = Path(__file__).with_name("sort.js")
WIDTH = 5.4  # of a figure, in inches
CSS_DOTS = 100  # of a figure's inches
JPEG_QUALITY = 82
THUMBNAIL = (400, 300)


@dataclass(frozen=True)
class Figure:
    """A drawing, ready for the page.

    Attributes:
        name: its file's name, without the suffix.
        title: its heading on the page.
        alt: a description for people who cannot see it.
        light, dark: PNG.
        note: a sentence on what could not be drawn; empty: nothing.
    """

    name: str
    title: str
    alt: str
    light: bytes
    dark: bytes
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """A value of a table that is more than its text.

    Attributes:
        detail: a second line in small letters, such as an interval.
        sort_by: its place in a column that can be sorted; without it, it comes last.
        link: the id of the element that it links to.
        is_best: whether it is marked.
    """

    text: str
    detail: str = ""
    sort_by: float | None = None
    link: str = ""
    is_best: bool = False

    def html(self) -> str:
        """What is inside of the element."""
        text = escape(self.text)
        if self.link:
            text = f'<a href="#{escape(self.link)}">{text}</a>'
        return f'{text}<span class="detail">{escape(self.detail)}</span>' if self.detail else text


@dataclass(frozen=True)
class Section:
    """A part of the page with its own heading."""

    id: str
    title: str
    body: str


def page(
    title: str, lead: str, sections: Sequence[Section], footer: str, *, sorts: bool = False
) -> str:
    """The document; ``sorts`` if it has a table that can be sorted."""
    script = f"<script>\n{SORTING.read_text(encoding='utf-8')}</script>\n" if sorts else ""
    links = "".join(f'<li><a href="#{s.id}">{escape(s.title)}</a></li>' for s in sections)
    bodies = "\n".join(
        f'<section aria-labelledby="{s.id}">\n<h2 id="{s.id}">{escape(s.title)}</h2>\n{s.body}\n'
        "</section>"
        for s in sections
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
{lead}
<nav aria-label="Sections"><ul>{links}</ul></nav>
</header>
<main>
{bodies}
</main>
<footer>{escape(footer)}</footer>
{script}</body>
</html>
"""


def page_at(output: Path, num: int, *, of_files: bool = False) -> Path:
    """The file of a page about ``num`` runs or files of captions.

    Args:
        output: the file, or a folder for it.
    """
    if not output.is_dir():
        return output
    name = "leaderboard" if of_files else "report" if num == 1 else "comparison"
    return output / f"{name}.html"


def is_page(path: Path) -> bool:
    """Whether a file is a page that showtell made, which ``footer`` says."""
    return path.is_file() and b"<footer>Made by showtell " in path.read_bytes()


def paragraph(text: str, *, soft: bool = False) -> str:
    return f'<p class="soft">{escape(text)}</p>' if soft else f"<p>{escape(text)}</p>"


def heading(text: str, *, id: str = "", level: int = 3) -> str:
    name = f' id="{escape(id)}"' if id else ""
    return f"<h{level}{name}>{escape(text)}</h{level}>"


def notes(lines: Sequence[str]) -> str:
    """A box with a line for each note; empty if there are no notes."""
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<div class="notes" role="note"><ul>{items}</ul></div>'


def facts(values: Mapping[str, str | Cell]) -> str:
    """Numbers with their names."""
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{_cell(value).html()}</dd></div>"
        for name, value in values.items()
    )
    return f'<dl class="facts">{items}</dl>'


def table(
    title: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str | Cell]],
    *,
    numbers: bool = True,
    best_row: int | None = None,
    sorts: Sequence[str] = (),
) -> str:
    """A table; the first cell of each row is its heading.

    Args:
        numbers: whether all columns but the first hold numbers.
        best_row: the row to mark.
        sorts: for a table that can be sorted by each column, the order that comes first:
            ``ascending`` or ``descending``.
    """
    kind, heads = "n" if numbers else "t", ""
    for column, name in enumerate(head):
        how = ' class="n"' if numbers and column else ""
        how += f' data-first="{sorts[column]}"' if sorts else ""
        heads += f'<th scope="col"{how}>{escape(name)}</th>'
    lines = []
    for index, row in enumerate(rows):
        first, *cells = map(_cell, row)
        body = "".join(
            f'<td class="{kind}{" best" if cell.is_best else ""}"{_order(cell)}>{cell.html()}</td>'
            for cell in cells
        )
        mark = ' class="best"' if index == best_row else ""
        lines.append(f'<tr{mark}><th scope="row">{first.html()}</th>{body}</tr>')
    return (
        f'<div class="table" tabindex="0" role="region" aria-label="{escape(title)}">'
        f"<table><caption>{escape(title)}</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(value: str | Cell) -> Cell:
    return value if isinstance(value, Cell) else Cell(value)


def _order(cell: Cell) -> str:
    return "" if cell.sort_by is None else f' data-value="{cell.sort_by:.12g}"'


def side_by_side(tables: Iterable[str]) -> str:
    """Tables side by side, as many as fit."""
    return f'<div class="tables">{"".join(tables)}</div>'


def figure(drawing: Figure) -> str:
    """A figure with a light and a dark version; the page's colour scheme chooses."""
    width, height = Image.open(io.BytesIO(drawing.light)).size
    shown = round(WIDTH * CSS_DOTS)
    return (
        f"<figure><figcaption>{escape(drawing.title)}</figcaption><picture>"
        f'<source media="(prefers-color-scheme: dark)" srcset="{_uri(drawing.dark, "png")}">'
        f'<img src="{_uri(drawing.light, "png")}" alt="{escape(drawing.alt)}" '
        f'width="{shown}" height="{round(shown * height / width)}"></picture></figure>'
    )


def figures(drawings: Iterable[Figure]) -> str:
    drawings = list(drawings)
    found = list(dict.fromkeys(drawing.note for drawing in drawings if drawing.note))
    return notes(found) + f'<div class="figures">{"".join(map(figure, drawings))}</div>'


def example(
    picture: Image.Image | None,
    reason: str,
    said: Sequence[tuple[str, str]],
    references: Sequence[str],
) -> str:
    """A picture with captions and references.

    Args:
        picture: None where there is none, for the ``reason``; no reason leaves no space for it.
        said: captions, each with a line about it.
    """
    top = (
        f'<img src="{jpeg(picture)}" alt="Picture captioned: {escape(said[0][0])}" '
        f'width="{picture.width}" height="{picture.height}">'
        if picture
        else f'<div class="missing">{escape(reason)}</div>' * bool(reason)
    )
    captions = "".join(
        f'<p class="said">{escape(text or "(no words)")}</p><p class="score">{escape(about)}</p>'
        for text, about in said
    )
    items = "".join(f"<li>{escape(text)}</li>" for text in references)
    return (
        f'<article class="example">{top}<div class="text">{captions}'
        f'<ul class="references" aria-label="References">{items}</ul></div></article>'
    )


def examples(items: Iterable[str]) -> str:
    return f'<div class="examples">{"".join(items)}</div>'


def tiles(items: Iterable[tuple[str, Image.Image, str]]) -> str:
    """Small pictures in rows: caption, picture, what it shows."""
    return '<div class="tiles">{}</div>'.format(
        "".join(
            f'<figure><img src="{jpeg(image)}" alt="{escape(alt)}" width="{image.width}" '
            f'height="{image.height}"><figcaption>{escape(text)}</figcaption></figure>'
            for text, image, alt in items
        )
    )


def thumbnail(path: Path) -> tuple[Image.Image | None, str]:
    """A small picture; or None, and the reason."""
    try:
        picture = open_image(path, min_side=2 * max(THUMBNAIL))
    except ImageError as error:
        return None, str(error)
    inside = picture.width <= THUMBNAIL[0] and picture.height <= THUMBNAIL[1]
    return (picture if inside else ImageOps.contain(picture, THUMBNAIL)), ""


def jpeg(image: Image.Image) -> str:
    """A picture as a data URI."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return _uri(file.getvalue(), "jpeg")


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
