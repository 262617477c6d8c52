"""The settings of each kind of decoder.

A decoder's constructor takes the settings of its section by the same names. ``DECODER_SETTINGS``
has the section of each kind; another package adds its own with ``register_decoder``
(``decoders/registry.py``).
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, Union

from pydantic import (
    Field,
    PlainValidator,
    SerializeAsAny,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from showtell.config.registry import Registry
from showtell.config.section import Section

T = TypeVar("T")

# Settings that several decoders have, with their limits and descriptions.
Kind = Annotated[T, Field(description="which decoder; each kind has its own settings")]
Dropout = Annotated[
    float, Field(ge=0, lt=1, description="share of activations set to zero in training")
]
FeatureDropout = Annotated[
    float, Field(ge=0, lt=1, description="dropout on the encoder's features")
]
WordDropout = Annotated[
    float, Field(ge=0, lt=1, description="share of input words replaced by <unk> in training")
]
EmbedSize = Annotated[int, Field(ge=1, description="width of a word's embedding")]
HiddenSize = Annotated[int, Field(ge=1, description="width of the recurrent state")]
LayerSize = Annotated[int, Field(ge=2, description="width of the layers; a multiple of num_heads")]


class DecoderSettings(Section):
    """What the settings of every decoder have.

    Attributes:
        not_for_constructor: names of settings that the decoder's constructor does not take.
    """

    not_for_constructor: ClassVar[frozenset[str]] = frozenset()

    kind: Kind[str]
    dropout: Dropout = 0.5
    word_dropout: WordDropout = 0.0

    @classmethod
    def kinds(cls) -> Iterable[type[Section]]:
        """The section of every kind of decoder; of one kind, itself."""
        return DECODER_SETTINGS.values() if cls is DecoderSettings else (cls,)


class ShowTellConfig(DecoderSettings):
    """Show and Tell (Vinyals et al. 2015)."""

    kind: Kind[Literal["show_tell"]] = "show_tell"
    embed_size: EmbedSize = 256
    hidden_size: HiddenSize = 512
    num_layers: int = Field(
        default=1, ge=1, le=100, description="recurrent layers, one above the other"
    )
    cell: Literal["lstm", "gru", "rnn"] = Field(
        default="lstm", description="kind of the recurrent cells"
    )
    feature_dropout: FeatureDropout = 0.0
    image_norm: bool = Field(
        default=True,
        description="batch norm after the picture's embedding; the course notebook has none",
    )
    predict_start: bool = Field(
        default=False,
        description="count the prediction of <start> after the picture in the loss, as the course "
        "notebook does; it teaches nothing",
    )


class RegionLSTMSettings(DecoderSettings):
    """What the recurrent decoders with attention to regions share."""

    embed_size: EmbedSize = 300
    hidden_size: HiddenSize = 512
    attention_size: int = Field(
        default=256, ge=1, description="width in which regions and state are compared"
    )
    feature_dropout: FeatureDropout = 0.0


class AttentionConfig(RegionLSTMSettings):
    """Show, Attend and Tell (Xu et al. 2015)."""

    kind: Kind[Literal["attention"]] = "attention"
    doubly_stochastic: float = Field(
        default=1.0,
        ge=0,
        description="weight of the loss that makes attention cover every region once a caption",
    )


class UpDownConfig(RegionLSTMSettings):
    """Bottom-Up and Top-Down Attention (Anderson et al. 2018), on grid features."""

    kind: Kind[Literal["up_down"]] = "up_down"


class SelfAttentionSettings(DecoderSettings):
    """What the decoders made of self-attention layers share."""

    hidden_size: LayerSize = 384
    num_heads: int = Field(default=6, ge=1, description="heads of the attention")

    @field_validator("num_heads")
    @classmethod
    def _divides(cls, num_heads: int, info: ValidationInfo) -> int:
        hidden_size = info.data.get("hidden_size", num_heads)
        if hidden_size % num_heads:
            raise ValueError(f"hidden_size = {hidden_size} is not a multiple of it")
        return num_heads


class TransformerConfig(SelfAttentionSettings):
    """An encoder-decoder transformer (Vaswani et al. 2017) over regions."""

    kind: Kind[Literal["transformer"]] = "transformer"
    hidden_size: Annotated[LayerSize, Field(multiple_of=2)] = 384
    num_layers: int = Field(default=3, ge=1, le=100, description="layers over the words")
    num_encoder_layers: int = Field(default=1, ge=0, le=100, description="layers over the regions")
    feedforward_size: int = Field(
        default=1024, ge=1, description="width within a feed-forward layer"
    )
    dropout: Dropout = 0.3
    feature_dropout: FeatureDropout = 0.0
    concepts: int = Field(
        default=0,
        ge=0,
        le=100,
        description="words that the picture is likely to show to attend to as well: of the "
        "encoder's classifier, or of the detector",
    )
    detected: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="number of the commonest caption words that a detector learns to see in the "
        "regions; 0: no detector, the concepts are the classifier's",
    )
    detector_weight: float = Field(
        default=0.05,
        ge=0,
        description="weight of the detector's loss, summed over its words, beside the "
        "cross-entropy of a token",
    )
    blind: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of training pictures whose regions are hidden, so that only the "
        "concepts are seen",
    )

    @model_validator(mode="after")
    def _shows_what_it_detects(self) -> Self:
        if self.detected and not self.concepts:
            raise ValueError("detected words are shown as concepts: set concepts, too (8)")
        return self


class PrefixLmConfig(SelfAttentionSettings):
    """A language model behind a prefix that says what is in the picture (Mokady et al. 2021)."""

    not_for_constructor = frozenset({"lm"})

    kind: Kind[Literal["prefix_lm"]] = "prefix_lm"
    lm: str | None = Field(
        default=None,
        min_length=1,
        description="a GPT-2 to start from: a folder as transformers writes it, or a name on the "
        "Hugging Face hub; default: random weights. Its sizes and vocabulary become the model's",
    )
    train_lm: bool = Field(
        default=True, description="train the language model as well as its prefix"
    )
    prefix_length: int = Field(
        default=10, ge=1, description="vectors that a picture becomes in front of the words"
    )
    num_layers: int = Field(default=4, ge=1, le=100, description="layers of the language model")
    num_positions: int = Field(
        default=256, ge=2, description="most tokens, including the prefix and <start>"
    )
    dropout: Dropout = 0.1

    @model_validator(mode="after")
    def _has_something_to_say(self) -> Self:
        if not self.train_lm and self.lm is None:
            raise ValueError("train_lm = false leaves random weights as they are; give lm a GPT-2")
        return self


DECODER_SETTINGS: Registry[type[DecoderSettings]] = Registry("decoder", "showtell.decoders")
for _section in (ShowTellConfig, AttentionConfig, UpDownConfig, TransformerConfig, PrefixLmConfig):
    DECODER_SETTINGS.register(_section.model_fields["kind"].default, _section)


def of_its_kind(value: Any) -> Any:
    """Validate the settings of a decoder by its ``kind``, which may be of another package."""
    if isinstance(value, DecoderSettings):
        return value
    if isinstance(value, dict):
        value = {"kind": "show_tell", **value}
        kind = str(value["kind"])
        try:
            DECODER_SETTINGS[kind]
        except KeyError:
            known = {"tag": kind, "expected_tags": ", ".join(DECODER_SETTINGS.names())}
            raise PydanticCustomError("union_tag_invalid", "no such kind", known) from None
    return _any_of(tuple(DECODER_SETTINGS.values())).validate_python(value)


@lru_cache(maxsize=4)
def _any_of(sections: tuple[type[DecoderSettings], ...]) -> TypeAdapter[Any]:
    """What validates settings of any of these kinds; its errors name the kind that was chosen."""
    kinds: Any = Annotated[Union[sections], Field(discriminator="kind")]  # noqa: UP007
    return TypeAdapter(kinds)


DecoderConfig = Annotated[SerializeAsAny[DecoderSettings], PlainValidator(of_its_kind)]
