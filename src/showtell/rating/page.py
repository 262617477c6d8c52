"""The sheet as files: one HTML page that works offline, the same as CSV, and the key beside them.

The page asks nothing of any host. Its pictures are small JPEGs inside it, up to a bound; beyond it
they are links to the files. Answers stay in the browser's storage until they are downloaded.
"""

import base64
import csv
import io
import json
import os
from html import escape
from pathlib import Path
from urllib.parse import quote

from showtell.core.files import atomic_write, write_json, write_text
from showtell.core.messages import counted
from showtell.core.progress import Reporter
from showtell.errors import ImageError
from showtell.images.open import open_image
from showtell.rating.sheet import Sheet

LONGEST_SIDE = 640
JPEG_QUALITY = 80
MOST_BYTES = 60_000_000
"""Of all pictures inside the page; those beyond are links."""

_HERE = Path(__file__).parent


def write_sheet(
    sheet: Sheet, page: Path, pictures: Path, report: Reporter, *, embed: bool = True
) -> tuple[Path, Path]:
    """Write the page, and beside it the CSV and the key; returns their paths.

    Args:
        pictures: the folder that the sheet's pictures are in.
        embed: whether pictures go into the page, as far as ``MOST_BYTES`` allow.
    """
    table, key = page.with_suffix(".csv"), page.with_suffix(".key.json")
    sources = _sources(sheet, page.parent, pictures, report, embed=embed)
    write_json(key, sheet.to_key())
    with atomic_write(table) as file:
        file.write(_table(sheet))
    write_text(page, _page(sheet, sources))
    return table, key


def _sources(
    sheet: Sheet, beside: Path, pictures: Path, report: Reporter, *, embed: bool
) -> dict[str, str]:
    """What each picture's ``src`` is: a data URI, or a path from the page's folder."""
    names = list(dict.fromkeys(item.picture for item in sheet.items))
    sources: dict[str, str] = {}
    size = num_linked = 0
    unreadable: list[str] = []
    for number, name in enumerate(names, 1):
        path = pictures / name
        relative = Path(os.path.relpath(path.resolve(), beside.resolve())).as_posix()
        sources[name] = quote(relative)
        if embed and size < MOST_BYTES:
            try:
                encoded = base64.b64encode(small_jpeg(path)).decode("ascii")
                sources[name] = f"data:image/jpeg;base64,{encoded}"
                size += len(sources[name])
            except ImageError as error:
                unreadable.append(str(error))
        num_linked += sources[name] == quote(relative)
        report.progress("pictures", number, len(names), "pictures")
    for line in unreadable:
        report.note(f"linked, not put into the page: {line}")
    if num_linked and num_linked > len(unreadable):
        report.note(
            f"{counted(num_linked, 'picture')} of {len(names)} are links from the page: send their "
            "folder along with it"
        )
    return sources


def small_jpeg(path: Path) -> bytes:
    """A picture as a sheet shows it, of any kind that can be read: JPEG, its longer side 640 px.

    Raises:
        ImageError: it cannot be read.
    """
    image = open_image(path, min_side=LONGEST_SIDE)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return file.getvalue()


def _table(sheet: Sheet) -> str:
    """The sheet as CSV, with empty answers."""
    two = sheet.scale.num_captions == 2
    text = io.StringIO()
    writer = csv.writer(text)
    texts = ["caption_A", "caption_B"] if two else ["caption"]
    one_of = " / ".join(grade.code for grade in sheet.scale.grades)
    writer.writerow(["sheet", "item", "picture", *texts, "one_of", "answer", "note"])
    for item in sheet.items:
        cells = map(_cell, (item.picture, *item.captions))
        writer.writerow([sheet.id, item.id, *cells, one_of, "", ""])
    return "\ufeff" + text.getvalue()  # spreadsheets take a file without the mark for Latin-1


def _cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _page(sheet: Sheet, sources: dict[str, str]) -> str:
    scale = sheet.scale
    data = {
        "sheet": sheet.id,
        "grades": [
            {"code": grade.code, "label": grade.label, "key": grade.also[0]}
            for grade in scale.grades
        ],
        "items": [
            {"id": item.id, "picture": item.picture, "captions": item.captions}
            for item in sheet.items
        ],
        "sources": sources,
    }
    # No caption can end the script that holds it.
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    choices = "".join(
        f'<label><input type="radio" name="answer" value="{escape(grade.code)}">'
        f"<span>{escape(grade.label)}</span></label>"
        for grade in scale.grades
    )
    keys = " ".join(
        f"<kbd>{escape(key)}</kbd>"
        for key in dict.fromkeys(grade.also[0] for grade in scale.grades)
    )
    filled = {
        "question": escape(scale.question),
        "choices": choices,
        "keys": keys,
        "style": (_HERE / "sheet.css").read_text(encoding="utf-8"),
        "script": (_HERE / "sheet.js").read_text(encoding="utf-8"),
        "data": text,
    }
    page = (_HERE / "sheet.html").read_text(encoding="utf-8")
    parts = page.split("{{")
    filled_in = [parts[0]]
    for part in parts[1:]:
        name, _, rest = part.partition("}}")
        filled_in.append(filled[name] + rest)
    return "".join(filled_in)
