"""The settings of a run: frozen models, read from TOML, written back as TOML.

Where the original course notebook had a name for a setting, it is kept (``vocab_threshold``,
``embed_size``, ``num_epochs``, ``save_every``, ``print_every``, ``log_file``). Configuration
objects never reach into a class: ``build_encoder`` and ``build_decoder`` take them apart.
Imports no torch, so that the command line answers at once.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import tomli_w
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

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
    feature_dropout: float = Field(0.0, ge=0, lt=1, description="on the picture's features")
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


DecodingMethod = Literal["greedy", "beam", "diverse", "sample"]


class DecodingConfig(Section):
    """How captions are made: for TOML, Python and the command line alike."""

    method: DecodingMethod = Field("beam", description="greedy, beam, diverse or sample")
    beam_size: int = Field(
        3, ge=1, le=100, description="hypotheses kept by beam and diverse; 1 is greedy search"
    )
    num_captions: int = Field(1, ge=1, le=100, description="captions a picture, the best first")
    length_penalty: float = Field(
        0.7, ge=0, description="a hypothesis scores log p / length**penalty (0: log p alone)"
    )
    min_length: int = Field(1, ge=0, description="words a caption at least")
    max_length: int = Field(30, ge=1, le=200, description="words a caption at most")
    no_repeat_ngram: int | None = Field(
        None, ge=1, description="no so many words in a row come twice in a caption"
    )
    forbidden_words: tuple[str, ...] = Field((), description="words that never come out")
    required_words: tuple[str, ...] = Field(
        (), max_length=10, description="words that every caption has (beam and diverse)"
    )
    no_bad_endings: bool = Field(False, description='no caption ends in "with a" and the like')
    groups: int | None = Field(
        None, ge=1, description="of diverse; default: as many as beam_size, of one hypothesis each"
    )
    diversity: float = Field(
        0.5, ge=0, description="of diverse: nats a word loses for each earlier group that says it"
    )
    temperature: float = Field(
        1.0, gt=0, description="of sample: below 1 prefers likely words, above 1 evens out"
    )
    top_k: int | None = Field(None, ge=1, description="of sample: only the k likeliest words")
    top_p: float | None = Field(
        None, gt=0, le=1, description="of sample: the likeliest words that have this much together"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="of sample: the same seed, the same captions")

    @model_validator(mode="after")
    def _fit_each_other(self) -> Self:
        problems = [*self._of_other_methods(), *self._wrong_numbers()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _of_other_methods(self) -> Iterator[str]:
        for name, methods in _SETTINGS_OF.items():
            value = getattr(self, name)
            if self.method not in methods and value != type(self).model_fields[name].default:
                shown = ", ".join(value) if isinstance(value, tuple) else value
                wanted = " or ".join(repr(method) for method in methods)
                yield f"{name} = {shown} is for method {wanted}, and the method is {self.method!r}"

    def _wrong_numbers(self) -> Iterator[str]:
        if self.min_length > self.max_length:
            yield f"min_length = {self.min_length} is more than max_length = {self.max_length}"
        if len(self.required_words) > self.max_length:
            yield (
                f"{len(self.required_words)} required_words do not fit into "
                f"max_length = {self.max_length}"
            )
        if both := sorted({*self.required_words} & {*self.forbidden_words}):
            yield f"{', '.join(both)}: both in required_words and in forbidden_words"
        if self.method == "greedy" and self.num_captions > 1:
            yield f"num_captions = {self.num_captions}, but method 'greedy' finds one caption"
        if self.method in ("beam", "diverse") and self.num_captions > self.beam_size:
            yield (
                f"num_captions = {self.num_captions} needs a beam_size of as many, "
                f"and it is {self.beam_size}"
            )
        if self.method == "diverse" and self.beam_size % (self.groups or 1):
            yield f"beam_size = {self.beam_size} is no multiple of groups = {self.groups}"

    def with_changes(self, changes: Mapping[str, Any]) -> Self:
        """The same settings with some changed.

        With another method, what was set for the former one alone falls back to its default.

        Raises:
            ConfigError: naming every setting that is wrong.
        """
        values = self.model_dump()
        method = changes.get("method", self.method)
        if method != self.method:
            for name, methods in _SETTINGS_OF.items():
                if method not in methods:
                    del values[name]
            if method == "greedy":
                del values["num_captions"]
        try:
            return type(self).model_validate(values | dict(changes))
        except ValidationError as error:
            raise ConfigError(_describe(error, None)) from None


_SETTINGS_OF: dict[str, tuple[DecodingMethod, ...]] = {
    "required_words": ("beam", "diverse"),
    "groups": ("diverse",),
    "diversity": ("diverse",),
    "temperature": ("sample",),
    "top_k": ("sample",),
    "top_p": ("sample",),
    "seed": ("sample",),
}
"""Settings that only some methods have. ``beam_size`` is not here: a model's default beam may
stay when another method is chosen."""


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
        elif item["type"] == "value_error" and isinstance(item["input"], dict):
            message = str(item["ctx"]["error"])  # of several settings together; it names them
            parts.append(f"{name}: {message}" if name else message)
        elif item["type"] == "value_error":
            parts.append(f"{name} = {item['input']!r}: {item['ctx']['error']}")
        elif item["type"] == "union_tag_invalid":
            kind = item["ctx"]["tag"]
            parts.append(f"{name}.kind: {unknown_name('decoder', kind, DECODER_KINDS)[:-1]}")
        else:
            parts.append(f"{name} = {item['input']!r}: {item['msg'].lower()}")
    where = f" in {path}" if path else ""
    return f"wrong settings{where}: " + "; ".join(parts)
