"""A recipe: the stages that make a model, and what its card is made of, as TOML."""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from showtell.config import Config
from showtell.config.section import Section, describe
from showtell.config.toml import read_toml
from showtell.encoders.packing import Storage
from showtell.errors import ConfigError
from showtell.inference.exported import Compute
from showtell.pretrained import known_names, shipped_folder
from showtell.training.settings import Layers

NOTES = "stages.json"
"""What lies beside the stages' folders, and tells what each was made of."""
MOST_NOTES = 2**24  # bytes


def _usable(name: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*", name) or name.lower() == NOTES:
        raise ValueError(
            "expected letters, digits, '_', '.' and '-', the first neither '.' nor '-', and not "
            f"{NOTES}, as a stage's folder has its name"
        )
    return name


Name = Annotated[str, AfterValidator(_usable)]


class TrainStage(Section):
    """One ``showtell train``."""

    kind: Literal["train"] = "train"
    name: Name = Field(description="of the stage, and of its folder")
    config: Path | None = Field(default=None, description="settings in TOML, beside the recipe")
    settings: tuple[str, ...] = Field(
        default=(), description="section.key=value, over those of the file"
    )
    init_from: str | None = Field(
        default=None,
        description="an earlier stage (its best), one of its checkpoints: NAME/epoch-003, or a "
        "model that comes with showtell",
    )
    teachers: tuple[str, ...] = Field(
        default=(),
        description="earlier stages, or checkpoints of them, that become objective.teachers",
    )
    data: str | None = Field(
        default=None, description="a name given by --data NAME=PATH; default: the recipe's DATA"
    )
    text: str | None = Field(
        default=None, description="a name given by --data NAME=PATH, whose path becomes data.text"
    )
    graded: Path | None = Field(
        default=None, description="a table of graded captions beside the recipe, for data.graded"
    )

    @property
    def sources(self) -> tuple[str, ...]:
        """The stages that it begins with, and those that it learns from."""
        return (*((self.init_from,) if self.init_from else ()), *self.teachers)


class AverageStage(Section):
    """One ``showtell average``."""

    kind: Literal["average"]
    name: Name
    members: tuple[str, ...] = Field(
        min_length=1, description="checkpoints: STAGE (its best) or STAGE/epoch-003"
    )

    @property
    def sources(self) -> tuple[str, ...]:
        """The stages that it averages."""
        return self.members


Stage = Annotated[TrainStage | AverageStage, Field(discriminator="kind")]


class RerankerPart(Section):
    """The reranker that the packed model gets (``showtell rerank``)."""

    data: str | None = Field(
        default=None, description="as in a stage; the detector learns from its train split"
    )


class ExportPart(Section):
    """The export that the packed model gets in its own folder (``showtell export --in-place``)."""

    compute: Compute = Field(default="fp32", description="numbers to compute in: fp32 or int8")
    data: str | None = Field(
        default=None, description="as in a stage; pictures by which the encoder is rounded"
    )


class Measurement(Section):
    """Pictures that the card has figures of."""

    title: str = Field(description="for people: Flickr8k dev")
    data: str | None = Field(default=None, description="as in a stage")
    split: Literal["train", "val", "test", "all"] = "val"


class Recipe(Section):
    """How a model is made, from pictures to its card.

    Attributes:
        folder: where the recipe lies; paths in it start there.
    """

    name: Name
    stages: tuple[Stage, ...] = Field(min_length=1, description="in the order of their making")
    model: str | None = Field(
        default=None, description="which stage is handed on; default: the last"
    )
    weights: Storage = Field(default="fp16", description="how they are stored: fp32, fp16 or int8")
    decoding: dict[str, Any] = Field(default={}, description="what the model does by default")
    reranker: RerankerPart | None = Field(
        default=None, description="a table, empty or with data; without it there is no reranker"
    )
    export: ExportPart | None = Field(
        default=None,
        description="a table, empty or with compute and data: the model captions without torch, "
        "and is measured so; without it there is no export",
    )
    measure: tuple[Measurement, ...] = Field(
        min_length=1, description="the first gives the model's own figures and its calibration"
    )
    examples: tuple[str, ...] = Field(
        default=(),
        description="pictures for the card: paths beside the recipe, skimage/NAME for those that "
        "scikit-image brings, scenes/NAME for built-in ones",
    )
    card: Path = Field(description="template of the card, in Markdown")
    folder: Path = Path()

    @field_validator("stages", mode="before")
    @classmethod
    def _train_is_the_usual_kind(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [{"kind": "train", **one} if isinstance(one, dict) else one for one in value]

    @model_validator(mode="after")
    def _stages_follow_from_earlier_ones(self) -> Self:
        made: list[str] = []
        for stage in self.stages:
            if stage.name in made:
                raise ValueError(f"two stages are named {stage.name!r}")
            if stage.name in known_names():
                raise ValueError(
                    f"stage {stage.name!r} has the name of a model that comes with showtell; give "
                    "it another"
                )
            for source in stage.sources:
                if source.split("/")[0] not in made and shipped_folder(source) is None:
                    earlier = ", ".join(made) or "none"
                    raise ValueError(
                        f"stage {stage.name!r} needs {source!r}, which no earlier stage makes "
                        f"(earlier: {earlier})"
                    )
            made.append(stage.name)
        if self.model is not None and self.model.split("/")[0] not in made:
            raise ValueError(
                f"model = {self.model!r} is not a stage; expected one of {', '.join(made)}"
            )
        return self

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a recipe, and every file of settings that it names.

        Raises:
            ConfigError: something in it or in them is wrong, named in one line.
        """
        if not path.exists():  # a name alone would be looked up among the presets
            raise ConfigError(f"no recipe {path}: expected a TOML file with stages and a card")
        try:
            recipe = cls.model_validate({**read_toml(path), "folder": path.parent})
        except ValidationError as error:
            raise ConfigError(describe(error, path, cls, reference="")) from None
        for stage in recipe.stages:
            if isinstance(stage, TrainStage):
                recipe.config_of(stage)
                if (graded := recipe.graded_of(stage)) and not graded.is_file():
                    raise ConfigError(f"{path}: stage {stage.name}: no file {graded}")
        if not (recipe.folder / recipe.card).is_file():
            raise ConfigError(f"{path}: no template {recipe.folder / recipe.card}")
        return recipe

    def config_of(
        self,
        stage: TrainStage,
        work: Path = Path(),
        text: str | None = None,
        graded: Path | None = None,
    ) -> Config:
        """The settings of a stage, with those of the model that comes with showtell under them.

        A stage that begins with an earlier stage takes over its weights and none of its settings.

        Args:
            work: where its predecessors lie.
            text: path of its captions without pictures; default: the name that the recipe gives.
            graded: path of its graded captions; default: as the recipe gives it.

        Raises:
            ConfigError: some are wrong.
        """
        settings = list(stage.settings)
        if stage.init_from:
            settings.append(f"training.init_from={self.source(stage.init_from, work)}")
        if stage.teachers:
            names = json.dumps([str(self.source(teacher, work)) for teacher in stage.teachers])
            settings.append(f"objective.teachers={names}")
        if stage.text:
            settings.append(f"data.text={text or stage.text}")
        if stage.graded:
            settings.append(f"data.graded={graded or stage.graded}")
        file = stage.config and self.folder / stage.config
        try:
            if stage.init_from and not self.is_made(stage.init_from):
                return Layers(config_file=file, overrides=settings).config()
            return Config.load(file, settings)
        except ConfigError as error:
            raise ConfigError(f"stage {stage.name}: {error}") from None

    def source(self, name: str, work: Path) -> str | Path:
        """What a stage begins with: an earlier one, or a model that comes with showtell."""
        return work / name if self.is_made(name) else name

    def is_made(self, source: str) -> bool:
        """Whether a stage makes it, or a checkpoint of a stage; else it comes with showtell."""
        return source.split("/")[0] in {stage.name for stage in self.stages}

    def graded_of(self, stage: TrainStage) -> Path | None:
        """Where the graded captions of a stage lie; None where it learns from none."""
        return self.folder / stage.graded if stage.graded else None

    @property
    def shipped(self) -> str:
        """The stage, or the checkpoint of one, that is handed on."""
        return self.model or self.stages[-1].name

    @property
    def data_names(self) -> set[str]:
        """What ``--data NAME=PATH`` has to give."""
        trained = [stage for stage in self.stages if isinstance(stage, TrainStage)]
        named = [name for stage in trained for name in (stage.data, stage.text)]
        named += [part.data for part in (self.reranker, self.export) if part]
        return {name for name in [*named, *(m.data for m in self.measure)] if name}
