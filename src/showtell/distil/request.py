"""What ``showtell distil`` is asked for: a teacher, pictures, filters and settings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator

from showtell.bulk.estimate import Price
from showtell.config import Config
from showtell.config.section import Section, describe
from showtell.config.toml import read_value
from showtell.data.request import DataRequest
from showtell.errors import UsageError, unknown_name
from showtell.inference.loading import ModelRequest
from showtell.inference.specs import BackendSettings, find_backend, spec_of
from showtell.text.language import LANGUAGES

Style = Literal["short", "detailed", "neutral"]
TOLD = ("prompt", "revision", "trust_remote_code", "max_side")
"""The settings of a teacher that change what it says."""


class FilterConfig(Section):
    """What is left out of the teacher's captions. Each caption is judged by itself."""

    min_confidence: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="leave out captions with a lower confidence, where the teacher gives one",
    )
    min_agreement: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="leave out captions that share fewer of their words with the teacher's other "
        "captions of the picture (mean F1 of content words)",
    )
    min_words: int = Field(default=3, ge=1, description="the fewest words of a caption")
    max_words: int = Field(default=40, ge=1, description="the most words of a caption")
    repeats: bool = Field(
        default=True, description="leave out captions in which three words in a row come twice"
    )
    language: str = Field(
        default="auto",
        description="leave out captions in another language; auto: the language of most captions; "
        f"any: keep all. Known: {', '.join(LANGUAGES)}",
    )
    words: Path | None = Field(
        default=None,
        description="file of words and phrases, one a line; captions with one are left out",
    )
    near_duplicates: bool = Field(
        default=True,
        description="ask about pictures that look the same only once (extra dedupe)",
    )
    fit: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="leave out captions that say less about their picture than this share of what "
        "the median caption says, judged by first students that have not seen it; try 0.25; "
        "0: no first students",
    )

    @field_validator("language")
    @classmethod
    def _is_known(cls, value: str) -> str:
        known = ("auto", "any", *LANGUAGES)
        if value not in known:
            raise ValueError(unknown_name("language", value, known))
        return value

    @classmethod
    def of(cls, settings: Iterable[str]) -> Self:
        """From ``name=value`` texts, as the command line has them.

        Raises:
            ConfigError: naming every setting that is wrong.
        """
        values: dict[str, Any] = {}
        for text in settings:
            name, equals, value = text.partition("=")
            if not equals or not name.strip():
                raise UsageError(
                    f"--filter {text!r} is not name=value; write it as in --filter min_words=4"
                )
            values[name.strip()] = read_value(value)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            said = describe(error, None, cls, reference="docs/distil.md")
            raise UsageError(f"--filter: {said}") from None


@dataclass(frozen=True, slots=True)
class DistilRequest:
    """A distillation, in the words of the command line.

    Attributes:
        teacher: as ``Captioner.load`` takes it.
        settings, cleaning: of the teacher, as ``Captioner.load`` takes them.
        price: of the teacher's server, to tell what it costs.
        pictures: as ``showtell caption`` takes them.
        folder: gets a folder for each stage.
        captions: how many of each picture; fewer where the teacher gives only one.
        decoding: changes to the teacher's own settings.
        start: the model that the student starts from.
        human: captioned pictures by people; they make the test set.
        human_weight: how many times as much as the teacher's a caption by a person counts.
        styles: which the student learns beside plain captions.
        config_file, overrides: the student's settings, as for ``showtell train``.
        filters: what is left out of the teacher's captions.
        again: stages to be made anew, from this one on.
        device: where teacher and student compute.
        trust_model: as for ``Captioner.load``.
        weights: how the student's weights are stored.
        store: feature store of the student's pictures, made where it is not there; default: in
            ``folder``.
    """

    teacher: str
    pictures: Sequence[str]
    folder: Path
    captions: int = 5
    decoding: Mapping[str, Any] = field(default_factory=dict)
    start: str | None = None
    human: DataRequest | None = None
    human_weight: int = 4
    styles: Sequence[Style] = ()
    config_file: Path | None = None
    overrides: Sequence[str] = ()
    filters: FilterConfig = field(default_factory=FilterConfig)
    again: str | None = None
    device: str = "auto"
    trust_model: bool = False
    settings: BackendSettings = field(default_factory=BackendSettings)
    cleaning: Mapping[str, Any] = field(default_factory=dict)
    price: Price | None = None
    weights: Literal["fp32", "fp16", "int8"] = "fp16"
    store: Path | None = None

    @property
    def model(self) -> ModelRequest:
        """The teacher."""
        # A device for the student alone would be refused by a teacher behind a server.
        spec = spec_of(self.teacher)
        has_device = spec is None or "device" in find_backend(spec.kind).takes
        return ModelRequest(
            self.teacher,
            device=self.device if has_device else "auto",
            trust_model=self.trust_model,
            settings=self.settings,
            cleaning=self.cleaning,
        )

    @property
    def asked_with(self) -> dict[str, Any]:
        """The teacher's settings that its captions follow from, as far as they were given.

        A server's address is none of them: it may hold a password, and the model may move.
        """
        given = {name: getattr(self.settings, name) for name in self.settings.given}
        told = {name: value for name, value in given.items() if name in TOLD}
        return told | {name: self.cleaning[name] for name in sorted(self.cleaning)}

    @property
    def store_folder(self) -> Path:
        """Where the features of the student's pictures are."""
        return self.store or self.folder / "features"

    def store_of(self, student: Config, own: Path) -> Path:
        """Where the features are that a student with these settings sees.

        Args:
            own: for a student that trains its encoder, and so sees with another one.
        """
        return self.store_folder if student.encoder.train_from is None else own
