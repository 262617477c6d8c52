"""Making the stages of a recipe, one after the other, each once.

A stage that is finished is noted in ``stages.json``; one that was stopped goes on where it was.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from showtell.config import Config
from showtell.core.files import write_json
from showtell.core.progress import Reporter
from showtell.data.request import DataRequest
from showtell.errors import CheckpointError, ConfigError
from showtell.inference.checkpoint import CONFIG
from showtell.publish.recipe import AverageStage, Recipe, TrainStage
from showtell.training.averages import average_checkpoints
from showtell.training.request import TrainRequest, open_data, train_on

NOTES = "stages.json"


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
        ShowtellError: a stage cannot be made, or was made with other settings.
    """
    places.work.mkdir(parents=True, exist_ok=True)
    notes = _read_notes(places.work)
    for number, stage in enumerate(recipe.stages, 1):
        title = f"stage {number} of {len(recipe.stages)}, {stage.name}"
        key = _key(recipe, stage, places, notes)
        note = notes.get(stage.name)
        if note and (places.work / stage.name).exists():
            if note["key"] != key:
                raise CheckpointError(
                    f"{places.work / stage.name} was made with other settings than the recipe now "
                    "has, or from other stages: remove that folder to make it again"
                )
            report.note(f"{title}: made before")
            continue
        report.note(title)
        started = time.perf_counter()
        if isinstance(stage, AverageStage):
            members = [places.work / member for member in stage.members]
            average_checkpoints(members, places.work / stage.name)
        elif not _train(recipe, stage, places, report):
            return False
        seconds = round(time.perf_counter() - started, 1)
        notes[stage.name] = {"key": key, "seconds": seconds}
        write_json(places.work / NOTES, notes)
    return True


def _train(recipe: Recipe, stage: TrainStage, places: Places, report: Reporter) -> bool:
    """Start a run or go on with it; whether it came to its end."""
    folder = places.work / stage.name
    text = places.data_of(stage.text) if stage.text else None
    config = recipe.config_of(stage, places.work, text)
    started = (folder / CONFIG).is_file()
    if started and Config.load(folder / CONFIG) != config:
        raise CheckpointError(
            f"{folder} was begun with other settings than the recipe now has: remove that folder "
            "to begin again"
        )
    data = DataRequest(places.data_of(stage.data))
    request = TrainRequest(data, folder, resume=started, device=places.device)
    result = train_on(open_data(data, report=report), request, config, report=report)
    return not result.stopped


def _key(
    recipe: Recipe,
    stage: TrainStage | AverageStage,
    places: Places,
    notes: Mapping[str, Mapping[str, Any]],
) -> str:
    """A hash of all that a stage follows from: its settings and the keys of its sources.

    Defaults are left out, so that a setting which a later version adds changes no key.
    """
    settings: Any = stage.model_dump(mode="json", exclude_defaults=True)
    if isinstance(stage, TrainStage):
        config = recipe.config_of(stage)  # with names for paths
        settings = [stage.data, config.model_dump(mode="json", exclude_defaults=True)]
    before = [notes.get(source.split("/")[0], {}).get("key") for source in stage.sources]
    text = json.dumps([stage.kind, settings, list(stage.sources), before], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read_notes(work: Path) -> dict[str, Any]:
    path = work / NOTES
    if not path.exists():
        return {}
    try:
        notes: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return notes
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from None
