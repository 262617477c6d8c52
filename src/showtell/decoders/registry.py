"""The registry of decoders, and the one place where a decoder's settings meet its class.

A decoder's constructor takes the settings of its section (``config/decoder.py``) by their names,
and ``vocab_size`` and ``feature_size``. Another package adds a decoder with ``register_decoder``;
docs/extending.md has an example.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from showtell.config import DECODER_SETTINGS, DecoderConfig, DecoderSettings
from showtell.decoders.attention import ShowAttendTell
from showtell.decoders.base import Decoder
from showtell.decoders.prefix_lm import PrefixLm
from showtell.decoders.show_tell import ShowTell
from showtell.decoders.transformer import Transformer
from showtell.decoders.up_down import UpDown
from showtell.encoders.backbone import without_memory
from showtell.errors import ConfigError

D = TypeVar("D", bound=Decoder)

DECODERS: dict[str, type[Decoder]] = {
    "show_tell": ShowTell,
    "attention": ShowAttendTell,
    "up_down": UpDown,
    "transformer": Transformer,
    "prefix_lm": PrefixLm,
}


def register_decoder(settings: type[DecoderSettings]) -> Callable[[type[D]], type[D]]:
    """Make the decorated class the decoder of ``decoder.kind = settings.kind``.

    Args:
        settings: its section. ``kind`` has a ``Literal`` type and a default, which is the name.

    Raises:
        ConfigError: ``kind`` has no default, or the name is taken.
    """
    kind = settings.model_fields["kind"].default
    if not isinstance(kind, str):
        raise ConfigError(
            f'{settings.__name__} needs a name: kind: Literal["my_decoder"] = "my_decoder"'
        )

    def register(decoder: type[D]) -> type[D]:
        DECODER_SETTINGS.register(kind, settings)
        DECODERS[kind] = decoder
        return decoder

    return register


def needs_regions(config: DecoderConfig) -> bool:
    """Whether the decoder that ``config`` describes attends to grid features."""
    return DECODERS[config.kind].needs_regions


def build_decoder(
    config: DecoderConfig, *, vocab_size: int, feature_size: int, region_size: int | None = None
) -> Decoder:
    """Make the decoder that ``config`` describes, with fresh random weights.

    Args:
        vocab_size: V.
        feature_size: D, width of the encoder's pooled features.
        region_size: D', width of its regions; default: D.
    """
    decoder = DECODERS[config.kind]
    width = feature_size if region_size is None or not decoder.needs_regions else region_size
    settings = config.model_dump(exclude={"kind", *config.not_for_constructor})
    if decoder.needs_pooled_size:
        settings["pooled_size"] = feature_size
    return decoder(vocab_size=vocab_size, feature_size=width, **settings)


def outline_decoder(
    config: DecoderConfig, *, vocab_size: int, feature_size: int, region_size: int | None = None
) -> dict[str, Tensor]:
    """The weights of the decoder that ``config`` describes, by name, as tensors without memory.

    Compare files that somebody else made with this before reading them: settings may ask for more
    memory than any machine has.

    Args:
        vocab_size, feature_size, region_size: as for ``build_decoder``.

    Raises:
        RuntimeError, TypeError, ValueError, ArithmeticError: there is no such decoder, since
            numbers are too large.
    """
    with without_memory():
        decoder = build_decoder(
            config, vocab_size=vocab_size, feature_size=feature_size, region_size=region_size
        )
    return decoder.state_dict()


def load_decoder(
    config: DecoderConfig,
    weights: Mapping[str, Tensor],
    *,
    vocab_size: int,
    feature_size: int,
    region_size: int | None = None,
) -> Decoder:
    """Make the decoder that ``config`` describes, with given weights, in eval mode.

    It draws no random numbers, so the program's random state stays as it is.

    Args:
        weights: as ``state_dict`` has them; they are copied.

    Raises:
        RuntimeError: the weights do not fit.
    """
    build = partial(
        build_decoder,
        config,
        vocab_size=vocab_size,
        feature_size=feature_size,
        region_size=region_size,
    )
    with without_memory():
        decoder = build()
    computed = {name for name, _ in decoder.named_buffers()} - decoder.state_dict().keys()
    if computed:  # buffers that only the constructor can fill
        with torch.random.fork_rng(devices=[]):
            decoder = build()
    own = {name: weight.clone() for name, weight in weights.items()}
    decoder.load_state_dict(own, assign=True)
    return decoder.eval()
