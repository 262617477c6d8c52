from pathlib import Path

import numpy as np
from PIL import Image

from showtell.images.preprocess import Preprocessing
from showtell.inference.caption import Caption
from showtell.report.showing import TILE, attention_tiles, save_attention_sheet

SQUARE = Preprocessing(64, 1.0, "bilinear", (0, 0, 0), (1, 1, 1))


def test_the_picture_is_light_where_the_decoder_looked(tmp_path: Path) -> None:
    """A white picture twice as wide as high: its middle square is what the encoder sees."""
    path = tmp_path / "white.png"
    Image.new("RGB", (128, 64), "white").save(path)
    weights = np.full((3, 16), 0.02)
    weights[0, 0] = weights[1, 6] = weights[2, 15] = 0.7
    rows = tuple(map(tuple, weights.tolist()))
    caption = Caption("red dog", ("red", "dog"), (-1.0, -1.0, -1.0), 0.4, attention=rows)
    tiles = attention_tiles(path, caption, SQUARE)
    assert [tile.word for tile in tiles] == ["red", "dog", "(end)"]
    assert tiles[1].where == "row 2, column 3 of 4 x 4, with 70% of the attention"
    for tile, (row, column) in zip(tiles, ((0, 0), (1, 2), (3, 3)), strict=True):
        light = np.asarray(tile.image.convert("L"), float)
        assert light.shape == (TILE, TILE)
        cells = light.reshape(4, TILE // 4, 4, TILE // 4).mean((1, 3))
        assert np.unravel_index(cells.argmax(), (4, 4)) == (row, column)
        assert cells.max() > 2 * np.median(cells)
    save_attention_sheet(tmp_path / "sheet.png", tiles, "red dog")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 3 * TILE
