"""The settings of a run: frozen models, read from TOML and written back as TOML.

Settings become classes in ``build_decoder``, ``build_encoder``, ``build_objective``,
``build_optimizer`` and ``generate``; docs/architecture.md says where these are. Nothing here
imports torch, so that the command line starts fast.
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
