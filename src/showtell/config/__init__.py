"""The settings of a run: frozen models, read from TOML, written back as TOML.

Configuration objects never reach into a class: ``build_encoder`` and ``build_decoder`` take them
apart. Imports no torch, so that the command line answers at once.
"""

from showtell.config.decoder import (
    DECODER_SETTINGS,
    DecoderConfig,
    DecoderSettings,
    PrefixLmConfig,
)
from showtell.config.decoding import DecodingConfig, DecodingMethod
from showtell.config.objective import ObjectiveConfig
from showtell.config.run import (
    Config,
    DataConfig,
    EncoderConfig,
    OptimizerConfig,
    TrainingConfig,
)
from showtell.config.section import Section

__all__ = [
    "DECODER_SETTINGS",
    "Config",
    "DataConfig",
    "DecoderConfig",
    "DecoderSettings",
    "DecodingConfig",
    "DecodingMethod",
    "EncoderConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "PrefixLmConfig",
    "Section",
    "TrainingConfig",
]
