"""EfficientNet-Lite as an encoder's backbone: its last map, its stages, its weights' file."""

from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from torch import Tensor

from showtell.models.backbone import Backbone
from showtell.models.concepts import Classes, imagenet_words
from showtell.models.efficientnet_lite import EfficientNetLite, SameConv2d
from showtell.models.weights import read_weights


class LiteBackbone(Backbone):
    """EfficientNet-Lite; its grid is the 1,280-wide map that its own classifier averages.

    The narrower map before the head's 1x1 convolution would take a quarter of the room, but the
    head's rectified features are what the classes are read from, and so is their mean, pooled.
    """

    def __init__(self, network: EfficientNetLite, weights: Path) -> None:
        super().__init__()
        self.network = network
        self.weights = weights

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 1280, S / 32, S / 32), rounded up."""
        last_map: Tensor = self.network(pixels)
        return last_map

    def pooled(self, last_map: Tensor) -> Tensor:
        """The mean over the grid, (B, 1280)."""
        return last_map.mean((2, 3), dtype=torch.float32)

    def regions(self, last_map: Tensor) -> Tensor:
        """(B, 1280, h, w) -> (B, h w, 1280)."""
        return last_map.flatten(2).transpose(1, 2)

    def logits(self, last_map: Tensor) -> Tensor:
        """The 1,000 ImageNet classes, (B, 1000)."""
        logits: Tensor = self.network.classifier(self.pooled(last_map))
        return logits

    def classes(self) -> Classes:
        """ImageNet's."""
        layer = self.network.classifier
        return Classes(layer.weight.detach(), layer.bias.detach(), imagenet_words())

    def stages(self) -> dict[str, list[str]]:
        """stem, stage1 to stage7 (the paper's table 1, less one), head."""
        named = [name for name, _ in self.named_parameters()]
        return {
            stage: [n for n in named if n.startswith(tuple(f"network.{m}." for m in modules))]
            for stage, modules in self.network.stages.items()
        }

    def unfold_norms(self, stages: Sequence[str]) -> None:
        """Read the published weights again, in which they are not folded."""
        names = [name for stage in stages for name in self.network.stages[stage]]
        self.network.unfold(names, read_weights(self.weights))

    def fit(self, names: Collection[str]) -> None:
        """A convolution whose batch norm is named gets one."""
        for name, module in self.named_modules():
            if isinstance(module, SameConv2d) and f"{name}.norm.weight" in names:
                module.add_norm()
        super().fit(names)
