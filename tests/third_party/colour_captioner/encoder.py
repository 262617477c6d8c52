"""An encoder without weights: the mean colours of a grid."""

from pathlib import Path

from torch import Tensor
from torch.nn import functional as F

from showtell import register_encoder
from showtell.encoders.backbone import Backbone
from showtell.encoders.encoder import EncoderParts
from showtell.images.preprocess import Preprocessing


class ColourGrid(Backbone):
    """The mean colour of each cell of a 4 x 4 grid."""

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) -> the last map, (B, 3, 4, 4)."""
        return F.adaptive_avg_pool2d(pixels, 4)

    def pooled(self, last_map: Tensor) -> Tensor:
        """One vector for each picture, (B, 48)."""
        return last_map.flatten(1)

    def regions(self, last_map: Tensor) -> Tensor:
        """A vector for each cell, (B, 16, 3)."""
        return last_map.flatten(2).transpose(1, 2)

    def logits(self, last_map: Tensor) -> Tensor:
        """Scores of the network's own classes; this one has no classifier."""
        return self.pooled(last_map)


@register_encoder("colour_grid")
def colour_grid(weights: Path | None) -> EncoderParts:
    """The network, with the weights of ``encoder.weights`` if it has any, and its preprocessing."""
    centre = (127.5, 127.5, 127.5)
    recipe = Preprocessing(size=64, crop=1.0, interpolation="bilinear", mean=centre, std=centre)
    return EncoderParts(ColourGrid(), recipe)
