"""Exports of tiny models: every kind of decoder behind an encoder that costs nothing.

To trace a graph takes seconds, so each is traced once in a run of the tests, for all processes.
"""

import hashlib
import io
import os
import pickle
from pathlib import Path
from typing import Any

import onnx
import shared_cache
import torch
from decoder_cases import REGION_WIDTH, WIDTH, make, settings, vocabulary
from torch import Tensor

from showtell.config import Config
from showtell.core.device import choose_runtime
from showtell.encoders.backbone import Backbone
from showtell.encoders.encoder import Encoder
from showtell.export import onnx as exporter
from showtell.export.graphs import Graph, trace
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
    captioner = native(kind, options, *changes)
    exporter.export_captioner(captioner, folder)
    return captioner


def traced(graph: Graph) -> onnx.ModelProto:
    """As ``trace``, which is asked only for what this run of the tests has not traced yet."""
    try:
        content = _content(graph)
    except (
        pickle.PicklingError,
        AttributeError,
        TypeError,
        ValueError,
    ):  # a function of a test's own
        return trace(graph)
    file = shared_cache.folder() / "traced" / hashlib.sha256(content).hexdigest()
    if file.is_file():
        return onnx.ModelProto.FromString(file.read_bytes())
    model = trace(graph)
    file.parent.mkdir(exist_ok=True)
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    temporary.write_bytes(model.SerializeToString())
    temporary.replace(file)
    return model


exporter.trace = traced  # in every export of this process


def _content(graph: Graph) -> bytes:
    """Everything that is traced: modules with their attributes, weights, inputs, names."""
    file = io.BytesIO()
    pickler = _ByContent(file)
    pickler.fast = True  # equal objects alike, whether or not they are one
    pickler.dump(vars(graph))
    return file.getvalue()


class _ByContent(pickle.Pickler):
    """Tensors by their numbers, as torch's own form of them holds addresses; sets in order."""

    def persistent_id(self, value: object) -> Any:
        if isinstance(value, torch.Tensor):
            numbers = value.detach().numpy().tobytes()
            return str(value.dtype), tuple(value.shape), value.stride(), numbers
        if isinstance(value, set | frozenset):
            return sorted(map(repr, value))
        return None
