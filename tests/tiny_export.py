"""Exports of tiny models: every kind of decoder behind an encoder that costs nothing.

To trace graphs takes seconds, so each model is exported once in a process and then copied.
"""

import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from decoder_cases import REGION_WIDTH, WIDTH, make, settings, vocabulary
from torch import Tensor

from showtell.config import Config
from showtell.core.device import choose_runtime
from showtell.encoders.backbone import Backbone
from showtell.encoders.encoder import Encoder
from showtell.export.onnx import export_captioner
from showtell.images.preprocess import Preprocessing
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.checkpoint import Checkpoint

SIDE = 32


class TwoWidths(Backbone):
    """A grid of 4 x 4 regions, by default narrower than the pooled features (decoder_cases)."""

    def __init__(self, region_size: int) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, region_size, 8, stride=8)
        self.widen = torch.nn.Linear(region_size, WIDTH)

    def forward(self, pixels: Tensor) -> Tensor:
        last_map: Tensor = self.conv(pixels)
        return last_map.tanh()

    def pooled(self, last_map: Tensor) -> Tensor:
        widened: Tensor = self.widen(last_map.mean((2, 3)))
        return widened

    def regions(self, last_map: Tensor) -> Tensor:
        return last_map.flatten(2).transpose(1, 2)

    def logits(self, last_map: Tensor) -> Tensor:
        return self.pooled(last_map)


def native(
    kind: str, options: dict, *changes: str, region_size: int = REGION_WIDTH
) -> NativeCaptioner:
    """A model of random weights."""
    decoder = make(kind, options, region_size=region_size)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(4)
        backbone = TwoWidths(region_size)
        for weights in (*backbone.parameters(), *decoder.output.parameters()):
            weights.normal_(std=0.5)
    recipe = Preprocessing(SIDE, 0.9, "bilinear", (127.0,) * 3, (64.0,) * 3)
    encoder = Encoder(name="two", backbone=backbone, preprocessing=recipe, weights_hash="random")
    config = Config.load(None, [*settings(kind, options), "decoding.max_length=8", *changes])
    metrics = {
        "feature_size": WIDTH,
        "region_size": region_size,
        "encoder_fingerprint": encoder.fingerprint,
        "data": "/home/someone/data",
        "calibration": {"slope": 2.0, "offset": 1.0, "cider": 0.2},
    }
    checkpoint = Checkpoint(decoder, vocabulary(), config, metrics)
    return NativeCaptioner(checkpoint, choose_runtime("cpu", "fp32"), encoder=encoder, name="tiny")


def exported(kind: str, options: dict, folder: Path, *changes: str) -> NativeCaptioner:
    """Write an export into ``folder``; returns the model that it was made from."""
    made = _made(kind, tuple(options.items()), changes)
    shutil.copytree(Path(made.name, "model"), folder)
    return native(kind, options, *changes)


@cache
def _made(
    kind: str, options: tuple[tuple[str, Any], ...], changes: tuple[str, ...]
) -> TemporaryDirectory:
    """A folder with the export, which is deleted with the process."""
    folder = TemporaryDirectory(prefix="showtell-export-")
    export_captioner(native(kind, dict(options), *changes), Path(folder.name, "model"))
    return folder
