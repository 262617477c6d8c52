"""How captions are made: one model of settings for TOML, Python and the command line."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from showtell.config.section import Section, describe
from showtell.errors import ConfigError, expect_by_name

DecodingMethod = Literal["greedy", "beam", "diverse", "sample"]


class DecodingConfig(Section):
    """How captions are made: for TOML, Python and the command line alike."""

    method: DecodingMethod = Field(default="beam", description="greedy, beam, diverse or sample")
    beam_size: int = Field(
        default=3,
        ge=1,
        le=100,
        description="hypotheses kept by beam and diverse; 1 is greedy search",
    )
    num_captions: int = Field(
        default=1, ge=1, le=100, description="captions for each picture, best first"
    )
    length_penalty: float = Field(
        default=0.7,
        ge=0,
        le=10,
        description="the score of a caption is log p / tokens**penalty (0: log p)",
    )
    rerank: bool = Field(
        default=True,
        description="for beam and diverse, where the model has a reranker (`showtell rerank`): the "
        "best caption is the one that it chooses among the hypotheses",
    )
    min_length: int = Field(default=1, ge=0, description="the fewest words in a caption")
    max_length: int = Field(default=30, ge=1, le=200, description="the most words in a caption")
    no_repeat_ngram: int | None = Field(
        default=None, ge=1, description="never repeat any n-gram of this length within a caption"
    )
    no_repeat_around: tuple[str, ...] = Field(
        default=(),
        description='words that may not stand between a word and the same word: with "and" no '
        'caption says "a sink and sink"',
    )
    forbidden_words: tuple[str, ...] = Field(
        default=(), description="words and phrases that may not occur"
    )
    required_words: tuple[str, ...] = Field(
        default=(),
        max_length=10,
        description="words and phrases that every caption must have (beam, diverse)",
    )
    no_bad_endings: bool = Field(
        default=False,
        description='no caption may end in "a", "with" or the like; for English alone',
    )
    style: str | None = Field(
        default=None,
        pattern="^[a-z]+$",
        description="style of the captions, as the model has learnt it: short, detailed, neutral "
        "or another; neutral works with any model, by neutral = true",
    )
    neutral: bool = Field(
        default=False,
        description='write "person" and "they" in place of English words that say a gender',
    )
    doubt: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="where the model has a reranker: English captions leave out colours, clothes, "
        "postures, animals and genders that its word detector finds less than so many times as "
        "probable as without a picture (1: those that the picture speaks against; 0: none)",
    )
    naming: float = Field(
        default=0.0,
        ge=0,
        le=20,
        description="bonus (in nats) for words the image classifier is sure of but training "
        "captions rarely use (0: off)",
    )
    groups: int | None = Field(
        default=None,
        ge=1,
        description="for diverse: number of beam groups; default: beam_size, one hypothesis each",
    )
    diversity: float = Field(
        default=0.5,
        ge=0,
        description="for diverse: penalty (in nats) for words that another beam group already "
        "chose at this step",
    )
    min_confidence: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="withhold captions with a lower confidence: they are empty and marked",
    )
    temperature: float = Field(
        default=1.0,
        gt=0,
        description="for sample: below 1 favours likely words, above 1 unlikely ones",
    )
    top_k: int | None = Field(
        default=None, ge=1, description="for sample: draw from the k likeliest tokens"
    )
    top_p: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="for sample: draw from the likeliest tokens that together have this "
        "probability",
    )
    seed: int = Field(
        default=0, ge=0, lt=2**32, description="for sample: the same seed gives the same captions"
    )

    @property
    def is_neutral(self) -> bool:
        """Whether captions are to say no gender."""
        return self.neutral or self.style == "neutral"

    @property
    def chooses(self) -> bool:
        """Whether a model's reranker chooses the best caption, where it has one."""
        return self.rerank and self.method in ("beam", "diverse") and self.beam_size > 1

    def identity(self) -> str:
        """The settings as JSON, for what notes that it was made with them.

        A setting that came after the first version is left out at its default, so that what was
        made before it existed still counts as made with the same settings.
        """
        since = ("no_repeat_around", "doubt")
        return self.model_dump_json(exclude={name for name in since if not getattr(self, name)})

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
                yield f"{name} = {shown} is for method {wanted}, but the method is {self.method!r}"

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
                f"num_captions = {self.num_captions} needs at least that beam_size, "
                f"but it is {self.beam_size}"
            )
        if self.method == "diverse" and self.beam_size % (self.groups or 1):
            yield f"beam_size = {self.beam_size} is not a multiple of groups = {self.groups}"

    def with_changes(self, changes: Mapping[str, Any]) -> Self:
        """The same settings with some changed.

        With another method, what was set for the former one alone falls back to its default.

        Raises:
            ConfigError: naming every setting that is wrong.
        """
        expect_by_name("decoding", changes, '{"beam_size": 5}')
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
            raise ConfigError(describe(error, None, type(self))) from None


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
