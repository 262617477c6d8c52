"""The settings of a run: frozen models, read from TOML, written back as TOML.

Where the original course notebook had a name for a setting, it is kept (``vocab_threshold``,
``embed_size``, ``num_epochs``, ``save_every``, ``print_every``, ``log_file``). Configuration
objects never reach into a class: ``build_encoder`` and ``build_decoder`` take them apart.
Imports no torch, so that the command line answers at once.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from showtell.errors import ConfigError, unknown_name


class Section(BaseModel):
    """A group of settings: frozen, and an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataConfig(Section):
    """What is read from the captions."""

    vocab_threshold: int = Field(4, ge=1, description="a word seen less often becomes <unk>")
    vocab_file: Path | None = Field(
        None, description="use this vocabulary.json and build none from the training captions"
    )
    max_caption_length: int = Field(
        40, ge=1, description="a longer training caption is cut to this many words"
    )


class EncoderConfig(Section):
    """The frozen CNN and how training pictures are augmented."""

    name: str = Field("lite2", description="lite0, lite2, or timm:NAME (timm:resnet50)")
    weights: Path | None = Field(
        None, description="local weights file of a timm encoder; default: timm's own download"
    )
    views: int = Field(
        4, ge=0, le=255, description="random crops and flips kept of each training picture"
    )
    flips: bool = Field(
        True, description="mirror half of the views; not where captions tell left from right"
    )


WORD_DROPOUT: float = Field(
    0.0, ge=0, lt=1, description="share of input words replaced by <unk> in training"
)


class ShowTellConfig(Section):
    """Show and Tell (Vinyals et al. 2015)."""

    kind: Literal["show_tell"] = "show_tell"
    embed_size: int = Field(256, ge=1)
    hidden_size: int = Field(512, ge=1)
    num_layers: int = Field(1, ge=1)
    cell: Literal["lstm", "gru", "rnn"] = "lstm"
    dropout: float = Field(0.5, ge=0, lt=1)
    word_dropout: float = WORD_DROPOUT


class AttentionConfig(Section):
    """Show, Attend and Tell (Xu et al. 2015)."""

    kind: Literal["attention"] = "attention"
    embed_size: int = Field(300, ge=1)
    hidden_size: int = Field(512, ge=1)
    attention_size: int = Field(256, ge=1)
    dropout: float = Field(0.5, ge=0, lt=1)
    word_dropout: float = WORD_DROPOUT
    doubly_stochastic: float = Field(
        1.0, ge=0, description="weight of the loss that asks to look everywhere once a caption"
    )


class UpDownConfig(Section):
    """Bottom-Up and Top-Down Attention (Anderson et al. 2018), on grid features."""

    kind: Literal["up_down"] = "up_down"
    embed_size: int = Field(300, ge=1)
    hidden_size: int = Field(512, ge=1)
    attention_size: int = Field(256, ge=1)
    dropout: float = Field(0.5, ge=0, lt=1)
    word_dropout: float = WORD_DROPOUT


class TransformerConfig(Section):
    """An encoder-decoder transformer (Vaswani et al. 2017) over regions."""

    kind: Literal["transformer"] = "transformer"
    hidden_size: int = Field(384, ge=2, multiple_of=2, description="a multiple of num_heads")
    num_heads: int = Field(6, ge=1)
    num_layers: int = Field(3, ge=1, description="over the words")
    num_encoder_layers: int = Field(1, ge=0, description="over the regions")
    feedforward_size: int = Field(1024, ge=1)
    dropout: float = Field(0.3, ge=0, lt=1)
    word_dropout: float = WORD_DROPOUT

    @field_validator("num_heads")
    @classmethod
    def _divides(cls, num_heads: int, info: ValidationInfo) -> int:
        hidden_size = info.data.get("hidden_size", num_heads)
        if hidden_size % num_heads:
            raise ValueError(f"hidden_size = {hidden_size} is no multiple of it")
        return num_heads


DecoderConfig = Annotated[
    ShowTellConfig | AttentionConfig | UpDownConfig | TransformerConfig,
    Field(discriminator="kind"),
]
DECODER_KINDS: tuple[str, ...] = tuple(
    section.model_fields["kind"].default for section in get_args(get_args(DecoderConfig)[0])
)


class OptimizerConfig(Section):
    """The optimiser and its learning-rate schedule."""

    name: Literal["adamw", "adam"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = Field(100, ge=0, description="steps of linear warm-up from zero")
    max_grad_norm: float = Field(5.0, gt=0, description="gradients are clipped to this norm")


class TrainingConfig(Section):
    """The course of a run."""

    batch_size: int = Field(64, ge=1, description="captions a step")
    batch_by: Literal["auto", "length", "picture"] = Field(
        "auto",
        description="what a batch's captions share, so that least is computed twice: their length, "
        "or their pictures; auto: pictures where the decoder attends to regions",
    )
    num_epochs: int = Field(10, ge=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    save_every: int = Field(1, ge=1, description="keep a checkpoint of each so-many-th epoch")
    save_minutes: float = Field(
        2.0, gt=0, description="within an epoch, save the state for --resume this often"
    )
    print_every: int = Field(100, ge=1, description="show every so-many-th step on the terminal")
    log_file: str = Field("training_log.txt", description="one line a step, in the run's folder")
    patience: int | None = Field(
        None, ge=1, description="stop after so many epochs without a better CIDEr-D"
    )
    precision: Literal["auto", "fp32", "bf16"] = "auto"


class DecodingConfig(Section):
    """How captions are searched for."""

    beam_size: int = Field(3, ge=1, le=100, description="1 is greedy search")
    max_length: int = Field(30, ge=1, le=200, description="words a caption")
    length_penalty: float = Field(
        0.7, ge=0, description="a hypothesis scores log p / length**penalty (0: log p alone)"
    )


class Config(Section):
    """All settings of a run."""

    seed: int = Field(0, ge=0, lt=2**32)
    data: DataConfig = DataConfig()
    encoder: EncoderConfig = EncoderConfig()
    decoder: DecoderConfig = ShowTellConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    decoding: DecodingConfig = DecodingConfig()

    @field_validator("decoder", mode="before")
    @classmethod
    def _default_kind(cls, value: Any) -> Any:
        return {"kind": "show_tell", **value} if isinstance(value, dict) else value

    @classmethod
    def load(cls, path: Path | None = None, overrides: Sequence[str] = ()) -> Self:
        """Read ``path`` (defaults where there is none), then apply ``section.key=value`` strings.

        Raises:
            ConfigError: naming every setting that is wrong, not only the first.
        """
        values = _read_toml(path) if path else {}
        for override in overrides:
            _apply_override(values, override)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(_describe(error, path)) from None

    def to_toml(self) -> str:
        """The whole configuration as TOML; settings that are None are left out."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no configuration file {path}; configs/ has examples") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def _apply_override(values: dict[str, Any], override: str) -> None:
    """Set ``a.b=value`` in nested ``values``; the value is read as TOML, else taken as a string."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(
            f"-s {override!r} is not key=value; write it as in -s training.num_epochs=3"
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, name = key.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"-s {override!r}: {section!r} is a value, not a section")
    values[name] = value


def _describe(error: ValidationError, path: Path | None) -> str:
    parts = []
    for item in error.errors():
        # pydantic names the kind of decoder after "decoder"; there is none such in the file.
        place = [part for part in item["loc"] if part not in DECODER_KINDS]
        name = ".".join(str(part) for part in place)
        if item["type"] == "extra_forbidden":
            parts.append(f"{name}: no such setting")
        elif item["type"] == "union_tag_invalid":
            kind = item["ctx"]["tag"]
            parts.append(f"{name}.kind: {unknown_name('decoder', kind, DECODER_KINDS)[:-1]}")
        else:
            parts.append(f"{name} = {item['input']!r}: {item['msg'].lower()}")
    where = f" in {path}" if path else ""
    return f"wrong settings{where}: " + "; ".join(parts)


SectionType = TypeVar("SectionType", bound=Section)


def replace_settings(section: SectionType, changes: Mapping[str, Any]) -> SectionType:
    """The same settings with some changed, checked like any others.

    Raises:
        ConfigError: naming every setting that is wrong.
    """
    try:
        return type(section).model_validate(section.model_dump() | dict(changes))
    except ValidationError as error:
        raise ConfigError(_describe(error, None)) from None
