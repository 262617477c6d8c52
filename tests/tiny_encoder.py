"""An encoder that costs nothing: a small convolution with fixed weights."""

import torch
from torch import Tensor

from showtell.features.images import Preprocessing
from showtell.models.backbone import Backbone
from showtell.models.encoders import Encoder
from showtell.models.weights import hash_state


class TinyBackbone(Backbone):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, width, 8, stride=8)
        self.classifier = torch.nn.Linear(width, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.conv(pixels).relu()

    def pooled(self, last_map: Tensor) -> Tensor:
        return last_map.mean((2, 3))

    def regions(self, last_map: Tensor) -> Tensor:
        return last_map.flatten(2).transpose(1, 2)

    def logits(self, last_map: Tensor) -> Tensor:
        return self.classifier(self.pooled(last_map))


def tiny_encoder(*, seed: int = 0, size: int = 32, width: int = 12) -> Encoder:
    torch.manual_seed(seed)
    backbone = TinyBackbone(width)
    recipe = Preprocessing(size, 0.9, "bilinear", (127.0,) * 3, (64.0,) * 3)
    weights_hash = hash_state(backbone.state_dict())
    return Encoder(name="tiny", backbone=backbone, preprocessing=recipe, weights_hash=weights_hash)
