"""The one place where a decoder's settings meet its class."""

from collections.abc import Callable

from showtell.config import DecoderConfig, ShowTellConfig
from showtell.models.base import Decoder
from showtell.models.show_tell import ShowTell


def _show_tell(config: ShowTellConfig, vocab_size: int, feature_size: int) -> ShowTell:
    return ShowTell(
        vocab_size=vocab_size,
        feature_size=feature_size,
        embed_size=config.embed_size,
        hidden_size=config.hidden_size,
        num_layers=config.num_layers,
        cell=config.cell,
        dropout=config.dropout,
        feature_dropout=config.feature_dropout,
        word_dropout=config.word_dropout,
    )


DECODERS: dict[str, Callable[[DecoderConfig, int, int], Decoder]] = {"show_tell": _show_tell}


def build_decoder(config: DecoderConfig, *, vocab_size: int, feature_size: int) -> Decoder:
    """Make the decoder that ``config`` describes, with fresh random weights.

    Args:
        vocab_size: V.
        feature_size: D, width of the encoder's pooled features.
    """
    return DECODERS[config.kind](config, vocab_size, feature_size)
