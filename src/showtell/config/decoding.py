"""How captions are made: the settings of decoding, for TOML, Python and the command line."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from showtell.config.section import Section, describe
from showtell.errors import ConfigError

DecodingMethod = Literal["greedy", "beam", "diverse", "sample"]


class DecodingConfig(Section):
    """How captions are made."""

    method: DecodingMethod = Field("beam", description="greedy, beam, diverse or sample")
    beam_size: int = Field(
        3, ge=1, le=100, description="hypotheses that beam and diverse keep; 1: greedy search"
    )
    num_captions: int = Field(
        1, ge=1, le=100, description="captions for each picture, the best first"
    )
    length_penalty: float = Field(
        0.7, ge=0, description="a hypothesis scores log p / length**penalty (0: log p alone)"
    )
    min_length: int = Field(1, ge=0, description="fewest words of a caption")
    max_length: int = Field(30, ge=1, le=200, description="most words of a caption")
    no_repeat_ngram: int | None = Field(
        None,
        ge=1,
        description="never repeat an n-gram of this many words within a caption; default: off",
    )
    forbidden_words: tuple[str, ...] = Field(
        (), description="words and phrases that captions never contain"
    )
    required_words: tuple[str, ...] = Field(
        (),
        max_length=10,
        description="words and phrases that every caption contains (beam and diverse)",
    )
    no_bad_endings: bool = Field(False, description='never end a caption in words such as "with a"')
    naming: float = Field(
        0.0,
        ge=0,
        le=20,
        description="bonus (in nats) for words that the image classifier is sure of and that "
        "training captions rarely use, until the caption has the word; 0: off",
    )
    groups: int | None = Field(
        None, ge=1, description="of diverse: groups of hypotheses; default: beam_size groups of one"
    )
    diversity: float = Field(
        0.5,
        ge=0,
        description="of diverse: penalty (in nats) for a word, for each earlier group that chose "
        "it at this step",
    )
    min_confidence: float = Field(
        0.0,
        ge=0,
        le=1,
        description="captions of less confidence are withheld: left empty and marked",
    )
    temperature: float = Field(
        1.0,
        gt=0,
        description="of sample: below 1 prefers likely words, above 1 makes words more equal",
    )
    top_k: int | None = Field(
        None, ge=1, description="of sample: choose among the k likeliest words only"
    )
    top_p: float | None = Field(
        None,
        gt=0,
        le=1,
        description="of sample: choose among the likeliest words that together have this "
        "probability",
    )
    seed: int = Field(
        0, ge=0, lt=2**32, description="of sample: the same seed gives the same captions"
    )

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
            yield f"beam_size = {self.beam_size} is not a multiple of groups = {self.groups}"

    def with_changes(self, changes: Mapping[str, Any]) -> Self:
        """A copy with some settings changed.

        If the method changes, settings that only the old method has return to their defaults.

        Raises:
            ConfigError: it names every setting that is wrong.
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
"""Settings that only some methods have, with these methods. ``beam_size`` is not among them: a
model's default beam size may stay when another method is chosen."""
