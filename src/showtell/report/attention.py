"""Attention maps: the picture as the encoder saw it, lit where the decoder looked for a word."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from showtell.captions import Caption
from showtell.features.images import Preprocessing, open_image
from showtell.files import atomic_write

TILE, COLUMNS, MARGIN, TEXT = 200, 6, 10, 17
DARKEST = 0.22  # of the light that is left where the decoder did not look
INK, PAPER = "#1f2328", "#ffffff"
ENDING = "(end)"


@dataclass(frozen=True)
class Tile:
    """One word's map: the picture, and in words where its brightest place is."""

    word: str
    image: Image.Image
    where: str


def attention_tiles(path: Path, caption: Caption, recipe: Preprocessing) -> list[Tile]:
    """A map for each word of ``caption`` and for its end.

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
    """Whether so many regions can be a square grid, as every encoder's are."""
    return math.isqrt(num_regions) ** 2 == num_regions


def save_attention_sheet(path: Path, tiles: Sequence[Tile], heading: str) -> None:
    """All the maps of one caption as a PNG."""
    rows = -(-len(tiles) // COLUMNS)
    columns = min(COLUMNS, len(tiles))
    line = round(TEXT * 1.5)
    size = (
        MARGIN + columns * (TILE + MARGIN),
        MARGIN + line + rows * (TILE + line + MARGIN),
    )
    sheet = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    draw.text((MARGIN, MARGIN), heading, fill=INK, font=font)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, COLUMNS)
        left = MARGIN + column * (TILE + MARGIN)
        top = MARGIN + line + row * (TILE + line + MARGIN)
        sheet.paste(tile.image, (left, top))
        draw.text((left, top + TILE + 2), tile.word, fill=INK, font=font)
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
