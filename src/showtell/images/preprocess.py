"""An encoder's recipe: which square of a picture it sees, at what size, on what scale.

A view is an array of bytes. ``encode_pixels`` (``encoders/extract.py``) makes it a tensor, and
``Encoder.forward`` subtracts the mean and divides by the standard deviation, on its own device.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from showtell.images.open import Pixels

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]

# The original notebook's augmentation: short side to 256, then a random crop of 224.
RANDOM_CROP = 224 / 256


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an encoder wants its pictures: the recipe that its weights were trained with.

    Attributes:
        size: Side S of the square that the encoder sees, in pixels.
        crop: Side of the centre crop as a share of the picture's short side.
        interpolation: How the crop is brought to ``size``; always with antialiasing.
        mean: Of red, green and blue on the 0-255 scale; subtracted by the encoder.
        std: Likewise; divided by, after that.
        squash: Take the whole picture and ignore its proportions, rather than crop it.
    """

    size: int
    crop: float
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    squash: bool = False

    @property
    def decode_side(self) -> int:
        """The ``min_side`` for ``open_image``: twice what is needed, so that nothing is lost."""
        return round(2 * self.size / min(self.crop, RANDOM_CROP))

    def describe(self) -> str:
        """The recipe in one line; two recipes are the same if their lines are."""
        part = "whole picture" if self.squash else f"centre {self.crop:.4f}"
        mean, std = (",".join(f"{x:g}" for x in values) for values in (self.mean, self.std))
        return f"{part} to {self.size} px, {self.interpolation}, mean {mean}, std {std}"

    def eval_view(self, image: Image.Image) -> Pixels:
        """The centre of an RGB picture, as the encoder sees it in evaluation: (3, S, S)."""
        width, height = image.size
        if self.squash:
            return self._resize(image, (0, 0, width, height))
        side = self.crop * min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return self._resize(image, (left, top, left + side, top + side))

    def random_view(
        self, image: Image.Image, rng: np.random.Generator, *, flip: bool = True
    ) -> Pixels:
        """A random square of an RGB picture, mirrored half of the time: (3, S, S).

        The original notebook's augmentation, short side to 256 and a random 224 crop, scaled to
        the encoder's size.
        """
        width, height = image.size
        if self.squash:
            across, down = RANDOM_CROP * width, RANDOM_CROP * height
        else:
            across = down = RANDOM_CROP * min(width, height)
        left, top = rng.uniform(0, width - across), rng.uniform(0, height - down)
        pixels = self._resize(image, (left, top, left + across, top + down))
        return pixels[:, :, ::-1] if flip and rng.random() < 0.5 else pixels

    def _resize(self, image: Image.Image, box: tuple[float, float, float, float]) -> Pixels:
        # Cutting and scaling in one: of a picture 20,000 pixels wide only the cut is touched.
        resampling = Image.Resampling[self.interpolation.upper()]
        square = image.resize((self.size, self.size), resampling, box=box)
        return np.asarray(square).transpose(2, 0, 1)
