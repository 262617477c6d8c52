"""An encoder that costs nothing: a small convolution with fixed weights."""

import torch
from torch import Tensor

from showtell.encoders.backbone import Backbone, hash_state
from showtell.encoders.encoder import Encoder
from showtell.images.preprocess import Preprocessing


class TinyBackbone(Backbone):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, width, 8, stride=8)
        self.classifier = torch.nn.Linear(width, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        last_map: Tensor = self.conv(pixels)
        return last_map.relu()

    def pooled(self, last_map: Tensor) -> Tensor:
        return last_map.mean((2, 3))

    def regions(self, last_map: Tensor) -> Tensor:
        return last_map.flatten(2).transpose(1, 2)

    def logits(self, last_map: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.pooled(last_map))
        return logits


def tiny_encoder(*, seed: int = 0, size: int = 32, width: int = 12) -> Encoder:
    torch.manual_seed(seed)
    backbone = TinyBackbone(width)
    recipe = Preprocessing(size, 0.9, "bilinear", (127.0,) * 3, (64.0,) * 3)
    weights_hash = hash_state(backbone.state_dict())
    return Encoder(name="tiny", backbone=backbone, preprocessing=recipe, weights_hash=weights_hash)


class StagedBackbone(Backbone):
    """Three stages, a convolution and a batch norm each, whose statistics are not those of data."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = (3, 6, 8, width)
        self.blocks = torch.nn.ModuleList()
        norms = [torch.nn.BatchNorm2d(width) for width in widths[1:]]
        for i, norm in enumerate(norms):
            convolution = torch.nn.Conv2d(widths[i], widths[i + 1], 3, stride=2, padding=1)
            self.blocks.append(torch.nn.Sequential(convolution, norm, torch.nn.ReLU()))
        for norm in norms:
            assert norm.running_mean is not None and norm.running_var is not None
            norm.running_mean.normal_(std=0.1)
            norm.running_var.uniform_(0.5, 1.5)

    def forward(self, pixels: Tensor) -> Tensor:
        for block in self.blocks:
            pixels = block(pixels)
        return pixels

    def pooled(self, last_map: Tensor) -> Tensor:
        return last_map.mean((2, 3))

    def regions(self, last_map: Tensor) -> Tensor:
        return last_map.flatten(2).transpose(1, 2)

    def logits(self, last_map: Tensor) -> Tensor:
        return self.pooled(last_map)

    def stages(self) -> dict[str, list[str]]:
        names = [name for name, _ in self.named_parameters()]
        return {
            f"stage{i}": [name for name in names if name.startswith(f"blocks.{i}.")]
            for i in range(3)
        }


def staged_encoder(*, width: int = 16) -> Encoder:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        backbone = StagedBackbone(width)
    recipe = Preprocessing(32, 0.9, "bilinear", (127.0,) * 3, (64.0,) * 3)
    weights_hash = hash_state(backbone.state_dict())
    return Encoder(
        name="staged", backbone=backbone, preprocessing=recipe, weights_hash=weights_hash
    )
