"""The settings of each decoder; a decoder's constructor takes them by the same names.

All but ``lm`` of ``prefix_lm``, which says where weights come from.
"""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator

from showtell.config.section import Section

WORD_DROPOUT: float = Field(
    0.0, ge=0, lt=1, description="share of input words replaced by <unk> in training"
)


FEATURE_DROPOUT: float = Field(0.0, ge=0, lt=1, description="on the picture's features")


def divisor(num_heads: int, info: ValidationInfo) -> int:
    """Check that the width, given before, is a multiple of the heads."""
    hidden_size = info.data.get("hidden_size", num_heads)
    if hidden_size % num_heads:
        raise ValueError(f"hidden_size = {hidden_size} is no multiple of it")
    return num_heads


class ShowTellConfig(Section):
    """Show and Tell (Vinyals et al. 2015)."""

    kind: Literal["show_tell"] = Field(
        "show_tell", description="which decoder; brings its own settings"
    )
    embed_size: int = Field(256, ge=1, description="width of a word's embedding")
    hidden_size: int = Field(512, ge=1, description="width of the recurrent state")
    num_layers: int = Field(1, ge=1, description="recurrent layers, one above the other")
    cell: Literal["lstm", "gru", "rnn"] = Field("lstm", description="kind of the recurrent cells")
    dropout: float = Field(
        0.5, ge=0, lt=1, description="share of activations set to zero in training"
    )
    feature_dropout: float = FEATURE_DROPOUT
    word_dropout: float = WORD_DROPOUT


class AttentionConfig(Section):
    """Show, Attend and Tell (Xu et al. 2015)."""

    kind: Literal["attention"] = Field(
        "attention", description="which decoder; brings its own settings"
    )
    embed_size: int = Field(300, ge=1, description="width of a word's embedding")
    hidden_size: int = Field(512, ge=1, description="width of the recurrent state")
    attention_size: int = Field(
        256, ge=1, description="width in which regions and state are compared"
    )
    dropout: float = Field(
        0.5, ge=0, lt=1, description="share of activations set to zero in training"
    )
    feature_dropout: float = FEATURE_DROPOUT
    word_dropout: float = WORD_DROPOUT
    doubly_stochastic: float = Field(
        1.0, ge=0, description="weight of the loss that asks to look everywhere once a caption"
    )


class UpDownConfig(Section):
    """Bottom-Up and Top-Down Attention (Anderson et al. 2018), on grid features."""

    kind: Literal["up_down"] = Field(
        "up_down", description="which decoder; brings its own settings"
    )
    embed_size: int = Field(300, ge=1, description="width of a word's embedding")
    hidden_size: int = Field(512, ge=1, description="width of the recurrent state")
    attention_size: int = Field(
        256, ge=1, description="width in which regions and state are compared"
    )
    dropout: float = Field(
        0.5, ge=0, lt=1, description="share of activations set to zero in training"
    )
    feature_dropout: float = FEATURE_DROPOUT
    word_dropout: float = WORD_DROPOUT


class TransformerConfig(Section):
    """An encoder-decoder transformer (Vaswani et al. 2017) over regions."""

    kind: Literal["transformer"] = Field(
        "transformer", description="which decoder; brings its own settings"
    )
    hidden_size: int = Field(
        384, ge=2, multiple_of=2, description="width of the layers; a multiple of num_heads"
    )
    num_heads: int = Field(6, ge=1, description="heads of the attention")
    num_layers: int = Field(3, ge=1, description="layers over the words")
    num_encoder_layers: int = Field(1, ge=0, description="layers over the regions")
    feedforward_size: int = Field(1024, ge=1, description="width within a feed-forward layer")
    dropout: float = Field(
        0.3, ge=0, lt=1, description="share of activations set to zero in training"
    )
    feature_dropout: float = FEATURE_DROPOUT
    word_dropout: float = WORD_DROPOUT
    concepts: int = Field(
        0, ge=0, le=100, description="words of the encoder's classifier to look at, too"
    )
    blind: float = Field(
        0.0, ge=0, lt=1, description="share of pictures seen by their concepts alone in training"
    )

    @field_validator("num_heads")
    @classmethod
    def _divides(cls, num_heads: int, info: ValidationInfo) -> int:
        return divisor(num_heads, info)


class PrefixLmConfig(Section):
    """A language model behind a prefix that says what is in the picture (Mokady et al. 2021)."""

    kind: Literal["prefix_lm"] = Field(
        "prefix_lm", description="which decoder; brings its own settings"
    )
    lm: str | None = Field(
        None,
        min_length=1,
        description="a GPT-2 to begin with: a folder as transformers writes it, or a name on the "
        "Hugging Face hub; default: random weights. Its sizes and vocabulary become the model's",
    )
    train_lm: bool = Field(
        True, description="train the language model, too, and not its prefix alone"
    )
    prefix_length: int = Field(10, ge=1, description="vectors that a picture becomes")
    num_layers: int = Field(4, ge=1, description="of the language model")
    hidden_size: int = Field(384, ge=2, description="width of the layers; a multiple of num_heads")
    num_heads: int = Field(6, ge=1, description="heads of the attention")
    num_positions: int = Field(
        256, ge=2, description="tokens at most, those of the prefix and <start> counted"
    )
    dropout: float = Field(
        0.1, ge=0, lt=1, description="share of activations set to zero in training"
    )
    word_dropout: float = WORD_DROPOUT

    @field_validator("num_heads")
    @classmethod
    def _divides(cls, num_heads: int, info: ValidationInfo) -> int:
        return divisor(num_heads, info)

    @model_validator(mode="after")
    def _has_something_to_say(self) -> Self:
        if not self.train_lm and self.lm is None:
            raise ValueError("train_lm = false leaves random weights as they are; give lm a GPT-2")
        return self


DecoderConfig = Annotated[
    ShowTellConfig | AttentionConfig | UpDownConfig | TransformerConfig | PrefixLmConfig,
    Field(discriminator="kind"),
]
DECODER_KINDS: tuple[str, ...] = tuple(
    section.model_fields["kind"].default for section in get_args(get_args(DecoderConfig)[0])
)
