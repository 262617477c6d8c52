"""The stages of a recipe, made one after the other, each once.

A finished stage is noted in ``stages.json`` with everything that it was made of: its whole
configuration with all defaults, the fingerprint of its data, hashes of the files that its settings
name, and the keys of the stages that it starts from. A later call takes the stage as made only
while all of that is the same, and otherwise names what differs. Paths do not count: the data and
the work folder may move.

A stage that is begun is noted in the same way, and a later call goes on with it while that is the
same. Its run keeps its own settings, which may be others than the recipe's: training adapts some to
the data.

A setting that a later version of showtell adds is not in the note. It counts as unchanged where
the recipe leaves it at its default, since a new setting's default is what was done before. A
changed default of a setting that the note has does count: the stage would come out differently.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from showtell.config import Config
from showtell.config.toml import flatten
from showtell.core.files import json_digest, read_json, write_json
from showtell.core.progress import Reporter
from showtell.data.records import Dataset, dataset_fingerprint
from showtell.data.request import DataRequest, open_data
from showtell.errors import CheckpointError, ConfigError
from showtell.inference.checkpoint import find_checkpoint
from showtell.inference.files import CONFIG, MODEL
from showtell.publish.recipe import MOST_NOTES, NOTES, AverageStage, Recipe, TrainStage
from showtell.training.averages import average_checkpoints
from showtell.training.request import TrainRequest, train_on

BEGUN = "begun"  # in the note of a stage that is not finished: what it is made of
PATHS = (
    ("training", "init_from"),
    ("objective", "teachers"),
    ("data", "text"),
    ("data", "graded"),
)
"""Settings of a run that say where things lie."""


@dataclass(frozen=True)
class Places:
    """Where things are.

    Attributes:
        data: path by name; "" is the recipe's DATA.
        work: gets a folder for each stage.
    """

    data: Mapping[str, str]
    work: Path
    device: str = "auto"

    def data_of(self, name: str | None) -> str:
        """The path of a data set of the recipe.

        Raises:
            ConfigError: it was not given.
        """
        if (name or "") not in self.data:
            raise ConfigError(f"this recipe needs --data {name}=PATH")
        return self.data[name or ""]


def make_stages(recipe: Recipe, places: Places, report: Reporter) -> bool:
    """Make what is not made yet.

    Returns:
        Whether all are made; False where Ctrl-C stopped one.

    Raises:
        ShowtellError: a stage cannot be made, or was made of something else.
    """
    places.work.mkdir(parents=True, exist_ok=True)
    work = _Work(recipe, places, report)
    for number, stage in enumerate(recipe.stages, 1):
        title = f"stage {number} of {len(recipe.stages)}, {stage.name}"
        if work.is_made(stage):
            report.note(f"{title}: made before")
            continue
        report.note(title)
        if not work.make(stage):
            return False
    return True


class _Work:
    """The folder of work: what is made in it, and of what."""

    def __init__(self, recipe: Recipe, places: Places, report: Reporter) -> None:
        self.recipe, self.places, self.report = recipe, places, report
        self.folder = places.work
        self.notes = read_notes(self.folder)
        self._datasets: dict[str, Dataset] = {}

    def is_made(self, stage: TrainStage | AverageStage) -> bool:
        """Whether the stage is there, made of what the recipe and the data are now.

        Raises:
            CheckpointError: it was made of something else.
        """
        note, folder = self.notes.get(stage.name), self.folder / stage.name
        if not note or BEGUN in note or not folder.exists():
            return False
        if "made_of" not in note:
            raise CheckpointError(
                f"{folder} was made by an older showtell that did not record its inputs: remove "
                "it to make it again"
            )
        if different := list(_differences(note["made_of"], self._made_of(stage))):
            raise CheckpointError(
                f"{folder} was made from something else: {'; '.join(different)}; remove that "
                "folder to make it again, or give the original inputs"
            )
        return True

    def make(self, stage: TrainStage | AverageStage) -> bool:
        """Make it and note it; whether it came to its end."""
        started, made_of = time.perf_counter(), self._made_of(stage)
        if isinstance(stage, AverageStage):
            members = [self.recipe.source(member, self.folder) for member in stage.members]
            average_checkpoints(members, self.folder / stage.name)
        elif not self._train(stage, made_of):
            return False
        seconds = round(time.perf_counter() - started, 1)
        self._note(stage, {"key": json_digest(made_of), "made_of": made_of, "seconds": seconds})
        return True

    def _note(self, stage: TrainStage | AverageStage, note: dict[str, Any]) -> None:
        self.notes[stage.name] = note
        write_json(self.folder / NOTES, self.notes)

    def _train(self, stage: TrainStage, made_of: dict[str, Any]) -> bool:
        """Start a run or go on with it; whether it came to its end."""
        folder = self.folder / stage.name
        text = self.places.data_of(stage.text) if stage.text else None
        config = self.recipe.config_of(stage, self.folder, text, self.recipe.graded_of(stage))
        if started := (folder / CONFIG).is_file():
            self._check_begun(stage, made_of)
            config = _at_the_places_of(config, Config.load(folder / CONFIG))
        else:
            self._note(stage, {BEGUN: made_of})
        data = DataRequest(self.places.data_of(stage.data))
        request = TrainRequest(data, folder, resume=started, device=self.places.device)
        result = train_on(self._dataset(stage), request, config, report=self.report)
        return not result.stopped

    def _check_begun(self, stage: TrainStage, made_of: dict[str, Any]) -> None:
        """Raise CheckpointError where a stopped run was begun with something else than now."""
        begun = self.notes.get(stage.name, {}).get(BEGUN)
        if begun is None:
            raise CheckpointError(
                f"{self.folder / stage.name} was begun by an older showtell that did not record "
                "its inputs: remove it to begin again"
            )
        if different := list(_differences(begun, made_of)):
            raise CheckpointError(
                f"{self.folder / stage.name} was begun with something else: "
                f"{'; '.join(different)}; remove that folder to begin again, or give the original "
                "inputs"
            )

    def _made_of(self, stage: TrainStage | AverageStage) -> dict[str, Any]:
        """Everything that a stage follows from, without paths."""
        keys = {source: self._key_of(source) for source in stage.sources}
        if isinstance(stage, AverageStage):
            return {"stages": keys, "members": list(stage.members)}
        config = self.recipe.config_of(stage)  # with names in place of paths
        settings = config.model_dump(mode="json")
        settings["data"]["max_caption_length"] = config.longest_caption
        files = {
            "data.text": Path(self.places.data_of(stage.text)) if stage.text else config.data.text,
            "data.graded": self.recipe.graded_of(stage) or config.data.graded,
            "data.vocab_file": config.data.vocab_file,
            "encoder.weights": config.encoder.weights,
        }
        return {
            "stages": keys,
            "data": dataset_fingerprint(self._dataset(stage)),
            "files": {name: _hash_of(path) for name, path in files.items() if path},
            "settings": settings,
        }

    def _key_of(self, source: str) -> str:
        """What tells the source of a stage from another of its name."""
        if not self.recipe.is_made(source):
            return _hash_of(find_checkpoint(source) / MODEL)
        key: str = self.notes[source.split("/")[0]]["key"]
        return key

    def _dataset(self, stage: TrainStage) -> Dataset:
        """The stage's data, each read once."""
        path = self.places.data_of(stage.data)
        if path not in self._datasets:
            self._datasets[path] = open_data(DataRequest(path), report=self.report)
        return self._datasets[path]


def _at_the_places_of(now: Config, run: Config) -> Config:
    """The settings of a run, with the places where things lie now."""
    values, moved = run.model_dump(), now.model_dump()
    for section, setting in PATHS:
        values[section][setting] = moved[section][setting]
    return Config.of(values)


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What a stage was made of and what it would be made of now, where they differ, in words."""
    if then.get("data") != now.get("data"):
        yield "the data is not the same"
    for name, digest in now.get("files", {}).items():
        if then["files"].get(name) not in (None, digest):
            yield f"the file of {name} is not the same"
    if then.get("members") != now.get("members"):
        yield f"it is the mean of {then.get('members')}, and now of {now.get('members')}"
    for source in sorted({*then["stages"], *now["stages"]}):
        if then["stages"].get(source) != now["stages"].get(source):
            yield f"stage {source} is not the one that it started from"
    old, new = flatten(then.get("settings", {})), flatten(now.get("settings", {}))
    # Of a decoder of the noted kind: what a later version adds to it counts as its default does.
    defaults = flatten(_defaults(now["settings"])) if new else {}
    for name in sorted({*old, *new}):
        before = old.get(name, defaults.get(name))
        if name in old and name not in new:
            yield f"{name} was {before!r}, and there is no such setting now"
        elif before != new[name]:
            yield f"{name} was {before!r} and is {new[name]!r}"


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings at their defaults, for a decoder of the same kind."""
    kind = settings["decoder"]["kind"]
    return Config.of({"decoder": {"kind": kind}}).model_dump(mode="json")


def read_notes(work: Path) -> dict[str, Any]:
    """What the stages in a work folder were made of and how long they took, by their names.

    Raises:
        CheckpointError: the notes cannot be read.
    """
    path = work / NOTES
    if not path.exists():
        return {}
    try:
        notes: dict[str, Any] = read_json(path, MOST_NOTES)
        return notes
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from None
