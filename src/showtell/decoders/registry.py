"""The one place where a decoder's settings meet its class.

A decoder's constructor has the settings of its section in ``config/decoder.py`` by their names, and
the two sizes that come from elsewhere. Weights from elsewhere (``lm``) are given to a decoder when
training starts, in ``language_model.py``.
"""

from showtell.config import DecoderConfig
from showtell.decoders.attention import ShowAttendTell
from showtell.decoders.base import Decoder
from showtell.decoders.prefix_lm import PrefixLm
from showtell.decoders.show_tell import ShowTell
from showtell.decoders.transformer import Transformer
from showtell.decoders.up_down import UpDown

DECODERS: dict[str, type[Decoder]] = {
    "show_tell": ShowTell,
    "attention": ShowAttendTell,
    "up_down": UpDown,
    "transformer": Transformer,
    "prefix_lm": PrefixLm,
}


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
    width = feature_size if region_size is None or not needs_regions(config) else region_size
    settings = config.model_dump(exclude={"kind", "lm"})
    if settings.get("concepts"):
        settings["pooled_size"] = feature_size
    return DECODERS[config.kind](vocab_size=vocab_size, feature_size=width, **settings)
