"""Pictures that differ, so that their captions and their looks do."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def paint(path: Path, seed: int, size: tuple[int, int] = (48, 40)) -> Path:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    small.resize(size, Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five good pictures, one of them in a folder within."""
    folder = tmp_path / "photos"
    (folder / "within").mkdir(parents=True)
    for seed, name in enumerate(("a.jpg", "b.png", "c.webp", "d.tif", "within/e.jpg")):
        paint(folder / name, seed)
    return folder
