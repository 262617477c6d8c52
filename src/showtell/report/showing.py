"""The sections of a report that need the pictures: examples, attention maps, words, lengths.

An attention map is the picture as the encoder saw it, bright where the decoder looked for a word.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from showtell.core.files import atomic_write
from showtell.data.records import Record
from showtell.errors import ImageError
from showtell.images.lettering import Lettering
from showtell.images.open import open_image
from showtell.images.preprocess import Preprocessing
from showtell.images.sheet import Cell, save_contact_sheet
from showtell.inference.caption import Caption
from showtell.report.captions import CaptionedRun
from showtell.report.charts import word_figures
from showtell.report.page import (
    Figure,
    Section,
    example,
    examples,
    figures,
    heading,
    notes,
    paragraph,
    side_by_side,
    table,
    thumbnail,
    tiles,
)
from showtell.report.words import WordUse, unlike

TILE, COLUMNS, MARGIN, TEXT = 200, 6, 10, 17
DARKEST = 0.22  # of the light that is left where the decoder did not look
INK, PAPER = "#1f2328", "#ffffff"
ENDING = "(end)"


@dataclass(frozen=True)
class Tile:
    """The attention map of one word, and a description of its brightest place."""

    word: str
    image: Image.Image
    where: str


def attention_tiles(path: Path, caption: Caption, recipe: Preprocessing) -> list[Tile]:
    """An attention map for each word of ``caption`` and for its end.

    Weights are shown relative to the word's largest, as in figure 3 of Xu et al. 2015; how flat
    or peaked they are is told by ``where``.

    Raises:
        ImageError: the picture cannot be read.
    """
    assert caption.attention is not None
    pixels = recipe.eval_view(open_image(path, min_side=recipe.decode_side))
    seen = Image.fromarray(pixels.transpose(1, 2, 0)).resize((TILE, TILE), Image.Resampling.LANCZOS)
    words = (*caption.words, ENDING)
    return [
        Tile(word, _lit(seen, weights), _where(weights))
        for word, weights in zip(words, caption.attention, strict=False)
    ]


def is_square(num_regions: int) -> bool:
    """Whether this many regions can be a square grid, which every encoder has."""
    return math.isqrt(num_regions) ** 2 == num_regions


def save_attention_sheet(path: Path, tiles: Sequence[Tile], heading: str) -> None:
    """All attention maps of one caption as a PNG."""
    lettering = Lettering([heading, *(tile.word for tile in tiles)])
    line = lettering.line_height(TEXT)
    columns = min(COLUMNS, len(tiles))
    width = columns * (TILE + MARGIN) - MARGIN
    titles = lettering.wrap(heading, TEXT, width)
    labels = [lettering.wrap(tile.word, TEXT, TILE) for tile in tiles]
    top = MARGIN + line * len(titles) + 4
    step = TILE + line * max(map(len, labels)) + MARGIN
    sheet = Image.new("RGB", (width + 2 * MARGIN, top + -(-len(tiles) // columns) * step), PAPER)
    draw = ImageDraw.Draw(sheet)

    def write(lines: Sequence[str], x: int, y: int, width: int) -> None:
        for number, text in enumerate(lines):
            place = x, y + number * line
            lettering.draw(draw, place, text, size=TEXT, ink=INK, width=width)

    write(titles, MARGIN, MARGIN, width)
    for index, (tile, label) in enumerate(zip(tiles, labels, strict=True)):
        row, column = divmod(index, columns)
        x, y = MARGIN + column * (TILE + MARGIN), top + row * step
        sheet.paste(tile.image, (x, y))
        write(label, x, y + TILE + 2, TILE)
    with atomic_write(path, "wb") as file:
        sheet.save(file, "PNG")


def _lit(seen: Image.Image, weights: Sequence[float]) -> Image.Image:
    """The picture darkened except where the weights (R,) are large."""
    side = math.isqrt(len(weights))
    grid = np.array(weights, np.float32).reshape(side, side)
    light = Image.fromarray(grid / max(float(grid.max()), 1e-12))
    smooth = np.asarray(light.resize(seen.size, Image.Resampling.BICUBIC)).clip(0, 1)
    shade = DARKEST + (1 - DARKEST) * smooth[..., None]
    return Image.fromarray((np.asarray(seen) * shade).astype(np.uint8))


def _where(weights: Sequence[float]) -> str:
    """``row 3, column 5 of 9 x 9, with 12 % of the attention``; rows and columns from 1."""
    side = math.isqrt(len(weights))
    row, column = divmod(int(np.argmax(weights)), side)
    share = max(weights) / max(sum(weights), 1e-12)
    return (
        f"row {row + 1}, column {column + 1} of {side} x {side}, with {share:.0%} of the attention"
    )


NUM_EXAMPLES = 8
NUM_ATTENDED = 2  # of the best, and of the worst
MAX_REFERENCES = 5


def best_and_worst(run: CaptionedRun, folder: Path) -> Section:
    """One run's best and worst captions, also as sheets in ``folder``."""
    best, worst = run.extremes(NUM_EXAMPLES)
    body = paragraph(_about(run))
    for name, title, records in (("best", "Best", best), ("worst", "Worst", worst)):
        if records:
            sheet = folder / f"captions-{name}.png"
            lacking = _save_sheet(sheet, f"{title} captions", records, run)
            body += heading(f"{title} captions") + examples(_example(r, run) for r in records)
            body += notes([f"In {sheet.name}, {lacking}"] if lacking else [])
    return Section("captions", "Captions", body)


def attention(run: CaptionedRun, folder: Path) -> Section:
    """Attention maps, word by word, of some of the best and worst captions."""
    best, worst = run.extremes(NUM_ATTENDED)
    body = paragraph(
        "The picture as the encoder saw it. It is light where the decoder looked when it chose "
        "the word, relative to the word's brightest place.",
        soft=True,
    )
    recipe = run.captioner.encoder.preprocessing
    records = [*best, *worst]
    captions = run.with_attention(records)
    for number, (record, caption) in enumerate(zip(records, captions, strict=True), 1):
        if not caption.attention or not is_square(len(caption.attention[0])):
            continue
        try:
            maps = attention_tiles(record.path, caption, recipe)
        except ImageError as error:
            body += notes([str(error)])
            continue
        kind = "best" if number <= len(best) else "worst"
        title = f"{caption.text} ({kind}, CIDEr-D {run.score(record.image_id):.2f})"
        save_attention_sheet(folder / f"attention-{number}.png", maps, title)
        body += heading(title) + tiles(
            (t.word, t.image, f"At {t.word!r} the model looked most at {t.where}") for t in maps
        )
    return Section("attention", "Attention", body)


def words(runs: Sequence[CaptionedRun]) -> tuple[Section, list[Figure]]:
    """Words, lengths and endings of the references and of each run."""
    records = {record.image_id: record for run in runs for record in run.records}
    cut = runs[0].captioner.vocabulary.segmentation
    people = WordUse.of(chain.from_iterable(record.captions for record in records.values()), cut)
    said = [(run.name, WordUse.of((c.text for c in run.captions.values()), cut)) for run in runs]
    drawings = word_figures(people, said)
    uses = [("references", people), *said]
    rows = [
        ["captions", *(f"{use.num_captions:,}" for _, use in uses)],
        ["different captions", *(f"{use.num_distinct:,}" for _, use in uses)],
        ["different words", *(f"{len(use.words):,}" for _, use in uses)],
        ["mean length in words", *(f"{use.mean_length:.2f}" for _, use in uses)],
    ]
    if cut.is_english:
        rows += [
            ["bad endings", *(f"{use.bad_endings:.1%}" for _, use in uses)],
            ["most frequent bad endings", *(_endings(use) for _, use in uses)],
        ]
    body = table("Captions beside references", ["", *(name for name, _ in uses)], rows)
    if cut.is_english:
        body += paragraph(
            "A bad ending is an article, a preposition or a form of “to be” as the last word: the "
            "caption was cut short.",
            soft=True,
        )
    apart = [one for name, use in said for one in _unlike(name, use, people)]
    body += figures(drawings) + side_by_side(apart)
    return Section("words", "Words and lengths", body), drawings


def _unlike(name: str, use: WordUse, people: WordUse) -> list[str]:
    """Tables of the words that a model uses more, and less, than people do."""
    head = ["word", "captions", "references"]
    return [
        table(
            f"{name} says {how} often than people",
            head,
            [[w, f"{use.share(w):.2%}", f"{people.share(w):.2%}"] for w in found],
        )
        for how, found in zip(("more", "less"), unlike(use, people), strict=True)
        if found
    ]


def _endings(use: WordUse) -> str:
    found = use.endings.most_common(4)
    return ", ".join(f"{word} {count:,}" for word, count in found) or "none"


def _about(run: CaptionedRun) -> str:
    share = run.scores.bad_endings
    endings = "" if math.isnan(share) else f", bad endings {share:.1%}"
    return (
        f"By the {run.checkpoint} checkpoint on {run.which_pictures}. "
        f"CIDEr-D {run.scores.metrics['CIDEr-D']:.4f}{endings}. "
        "Captions are ranked by CIDEr-D (0 to 10), among equals by ROUGE-L."
    )


def _example(record: Record, run: CaptionedRun) -> str:
    picture, reason = thumbnail(record.path)
    caption = run.captions[record.image_id]
    score = f"CIDEr-D {run.score(record.image_id):.2f}, confidence {caption.confidence:.2f}"
    return example(picture, reason, [(caption.text, score)], record.captions[:MAX_REFERENCES])


def _save_sheet(path: Path, title: str, records: Sequence[Record], run: CaptionedRun) -> str:
    cells = [
        Cell(record.path, run.captions[record.image_id].text, record.captions[:3])
        for record in records
        if thumbnail(record.path)[0] is not None
    ]
    if not cells:
        return ""
    return save_contact_sheet(path, cells, columns=3, heading=f"{title} of {run.name}")
