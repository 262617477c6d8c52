"""The settings of a run, from the layers that they are given in.

From the lowest to the highest: what the model that the run starts from has, a preset (chosen by
the number of training pictures where none is named), a file, and single settings. Only what a
layer gives counts; the rest are the defaults of ``showtell.config``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from showtell.config import Config
from showtell.config.toml import (
    SIZES,
    apply_override,
    merge,
    preset_for,
    read_preset,
    read_toml,
    set_value,
)
from showtell.core.messages import counted
from showtell.encoders.encoder import is_fetched
from showtell.errors import CheckpointError, ConfigError, unknown_name
from showtell.inference.checkpoint import find_checkpoint
from showtell.inference.files import CONFIG

AUTO, NONE = "auto", "none"  # presets: by the number of pictures; no preset at all
FOR_ANY_START = {
    "data": {"new_words": 2},
    "training": {"average_start": True, "batch_norm": "frozen", "rehearsal_pictures": 300},
}
INHERITED = {
    "data": ("max_caption_length",),
    "encoder": ("name", "weights", "squash", "flips"),
}


@dataclass(frozen=True)
class Layers:
    """Settings as they are given.

    Attributes:
        start: the model of ``--from``.
        preset: one of ``SIZES``, ``AUTO`` or ``NONE``.
        config_file: TOML, or the name of a preset; then ``AUTO`` chooses none.
        overrides: ``section.key=value``.
    """

    start: str | None = None
    preset: str = NONE
    config_file: Path | None = None
    overrides: Sequence[str] = ()

    @property
    def is_by_size(self) -> bool:
        """Whether the preset depends on the number of training pictures."""
        return self.preset == AUTO and self.config_file is None

    def chosen(self, num_pictures: int) -> "tuple[Layers, str]":
        """The same with the preset for so many training pictures, and a line that says so."""
        name = preset_for(num_pictures)
        pictures = counted(num_pictures, "training picture")
        start = f" from {self.start}" if self.start else ""
        line = f"{pictures} with captions: preset {name}{start} (--preset names another)"
        return Layers(self.start, name, self.config_file, self.overrides), line

    def values(self) -> dict[str, Any]:
        """All layers in one, by section; what the model that the run starts from has is added.

        Raises:
            ConfigError: a file cannot be read, there is no such preset, or two layers name a start.
            CheckpointError: there is no such model.
        """
        return inherited(self.own())

    def own(self, point: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """As ``values``, without what the model that the run starts from has.

        Args:
            point: of a sweep: more single settings, by their names.
        """
        given = read_toml(self.config_file) if self.config_file else {}
        for override in self.overrides:
            apply_override(given, override)
        for key, value in (point or {}).items():
            set_value(given, key, value)
        return merge(self.base(given), given)

    def base(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The layers under a file and single settings.

        Args:
            given: the layers above, which may name the start, too.

        Raises:
            ConfigError: there is no such preset, or ``given`` names another start.
        """
        own = _table(given, "training").get("init_from")
        if self.start is not None and own is not None:
            raise ConfigError(
                f"--from {self.start} and training.init_from = {own} are the same setting: give one"
            )
        parts = _table(given, "training").get("init_parts", "model")
        continues = parts == "model"
        base: dict[str, Any] = dict(FOR_ANY_START) if self.start and continues else {}
        if self.start:
            base = merge(base, {"training": {"init_from": self.start}})
        if self.preset in SIZES:
            preset = read_preset(self.preset, has_start=continues and bool(self.start or own))
            kind = _table(given, "decoder").get("kind")
            source = self.start or own
            if parts == "decoder" and isinstance(source, str):
                kind = Config.load(find_checkpoint(source) / CONFIG).decoder.kind
            if kind is not None and kind != preset.get("decoder", {"kind": kind})["kind"]:
                del preset["decoder"], preset["optimizer"]  # which are for another kind
            if parts == "decoder":  # the start has a shape
                preset.pop("decoder", None)
            base = merge(base, preset)
        elif self.preset not in (AUTO, NONE):
            raise ConfigError(unknown_name("preset", self.preset, [*SIZES, AUTO, NONE]))
        if _table(given, "data").get("graded") and "average_start" in _table(base, "training"):
            # Averages are chosen by CIDEr-D, which hardly sees what grades teach.
            base = merge(base, {"training": {"average_start": False}})
        return base

    def config(self) -> Config:
        """The settings, checked.

        Raises:
            ShowtellError: as ``values``; or some are wrong, and it names them all.
        """
        return Config.of(self.values(), self.config_file)


def inherited(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with those of the model that they start from, where they do not say otherwise.

    That are its encoder, the decoder's kind and shape, and how it captions, but for what it doubts.
    The decoder's, and what depends on its kind, are left out where only the encoder is taken
    (``training.init_parts``).

    Args:
        values: by section; ``training.init_from`` names the model, if any.

    Raises:
        CheckpointError: there is no such model, or its encoder would be fetched from elsewhere.
    """
    source = _table(values, "training").get("init_from")
    if not isinstance(source, str):
        return dict(values)
    folder = find_checkpoint(source)
    theirs = Config.load(folder / CONFIG)
    encoder = theirs.encoder
    if is_fetched(encoder.name) and "name" not in _table(values, "encoder"):
        raise CheckpointError(
            f"{source} was trained with the encoder {encoder.name}, which timm would fetch: if you "
            f"trust whoever made the model, name it: --encoder {encoder.name}"
        )
    own = theirs.model_dump(exclude_none=True)
    found = {
        name: {key: own[name][key] for key in keys if key in own[name]}
        for name, keys in INHERITED.items()
    }
    if (weights := encoder.weights) is not None and "weights" not in _table(values, "encoder"):
        if weights.name != str(weights) or not (folder / weights).is_file():
            raise CheckpointError(
                f"{source} names encoder weights that are not in its folder, {str(weights)!r}: if "
                f"you trust whoever made the model, name them: -s encoder.weights={weights}"
            )
        found["encoder"]["weights"] = folder / weights
    # Their detector has not learnt what these captions say; ``from_start.py`` takes it over where
    # the start's weights stay.
    found["decoding"] = own["decoding"] | {"doubt": 0.0}
    if _table(values, "training").get("init_parts") != "encoder":
        found["decoder"] = own["decoder"]
    else:
        del found["decoding"]["naming"]  # which needs a decoder like theirs
    if _table(values, "encoder").get("name", encoder.name) != encoder.name:
        del found["encoder"]  # the settings of another; that it does not fit is said later
    return merge(found, values)


def _table(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section of settings that have not been checked yet."""
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}
