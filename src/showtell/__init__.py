"""Show it pictures, it tells what it sees: train, measure and ship small image captioners.

The names below load what they need when they are first used, so that importing the package (and
``showtell --help``) costs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from showtell.version import __version__

if TYPE_CHECKING:
    from showtell.config import Config, DecodingConfig
    from showtell.data.sources import load_dataset, register_source
    from showtell.decoders.registry import register_decoder
    from showtell.encoders.encoder import register_encoder
    from showtell.errors import ShowtellError
    from showtell.images.open import open_image
    from showtell.inference.caption import Caption
    from showtell.inference.captioner import Captioner, ModelInfo, load
    from showtell.pretrained import list_models

__all__ = [
    "Caption",
    "Captioner",
    "Config",
    "DecodingConfig",
    "ModelInfo",
    "ShowtellError",
    "__version__",
    "list_models",
    "load",
    "load_dataset",
    "open_image",
    "register_decoder",
    "register_encoder",
    "register_source",
]

_HOME = {
    "Caption": "showtell.inference.caption",
    "Captioner": "showtell.inference.captioner",
    "Config": "showtell.config",
    "DecodingConfig": "showtell.config",
    "ModelInfo": "showtell.inference.captioner",
    "ShowtellError": "showtell.errors",
    "list_models": "showtell.pretrained",
    "load": "showtell.inference.captioner",
    "load_dataset": "showtell.data.sources",
    "open_image": "showtell.images.open",
    "register_decoder": "showtell.decoders.registry",
    "register_encoder": "showtell.encoders.encoder",
    "register_source": "showtell.data.sources",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'showtell' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
