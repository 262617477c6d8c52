"""The student's settings, and its training, which is that of ``showtell train``."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from showtell.config import Config
from showtell.config.toml import apply_override, read_toml
from showtell.core.progress import Reporter
from showtell.data.records import Dataset, Record
from showtell.data.request import DataRequest
from showtell.distil.request import DistilRequest
from showtell.encoders.encoder import build_encoder
from showtell.errors import ShowtellError
from showtell.inference.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from showtell.inference.files import CONFIG, MODEL
from showtell.pretrained import shipped_folder
from showtell.text.segment import Segmentation
from showtell.training.loop import TrainingResult
from showtell.training.request import TrainRequest, train_on
from showtell.training.settings import AUTO, Layers
from showtell.training.teachers import teachers_vocabulary, why_not
from showtell.training.words import choose_segmentation


@dataclass(frozen=True)
class Plan:
    """How the student is trained.

    Attributes:
        config: all settings.
        probabilities: whether it learns the teacher's probabilities beside its captions.
        reason: why, for the user.
    """

    config: Config
    probabilities: bool
    reason: str


def plan_student(request: DistilRequest, num_pictures: int) -> Plan:
    """Find the student's settings.

    Where no file is named they are those of the preset for so many pictures. A teacher of
    showtell's own gives its encoder and its words, so that its probabilities can be learnt;
    whatever the person sets stays as set.

    Args:
        num_pictures: about as many as it will be trained on.

    Raises:
        ShowtellError: a setting is wrong, or the model to start from cannot be read.
    """
    layers = Layers(request.start, AUTO, request.config_file, tuple(request.overrides))
    if layers.is_by_size:
        layers, _ = layers.chosen(num_pictures)
    values = layers.values()
    given = read_toml(request.config_file) if request.config_file else {}
    for override in request.overrides:
        apply_override(given, override)
    teacher = own_model(request.teacher)
    if teacher is None:
        return Plan(Config.of(values), False, "the teacher gives captions, and no probabilities")
    if request.start is None:
        theirs = teacher.config.encoder.model_dump()
        own = {name: theirs[name] for name in ("name", "squash", "flips")}
        values["encoder"] = values.get("encoder", {}) | own | given.get("encoder", {})
    config = Config.of(values)
    if {"kind", "teachers"} & set(given.get("objective", {})):
        return Plan(config, config.objective.kind == "distil", "objective.kind is set by hand")
    if reason := _why_no_probabilities(config, teacher):
        return Plan(config, False, reason)
    name = request.teacher
    name = str(Path(name).absolute()) if shipped_folder(name) is None else name
    objective = {**values.get("objective", {}), "kind": "distil", "teachers": (name,)}
    reason = "the teacher's words and encoder are the student's"
    return Plan(Config.of(values | {"objective": objective}), True, reason)


def own_model(name: str) -> Checkpoint | None:
    """The checkpoint of a model of showtell's own; None for any other captioner."""
    try:
        find_checkpoint(name)
    except ShowtellError:
        return None
    return load_checkpoint(name)


def train_student(
    dataset: Dataset,
    plan: Plan,
    request: DistilRequest,
    data: Path,
    folder: Path,
    report: Reporter,
) -> TrainingResult:
    """Start the student's run, or go on with it."""
    asked = TrainRequest(
        DataRequest(str(data), store=request.store_folder),
        folder,
        resume=(folder / CONFIG).is_file(),
        device=request.device,
        proposes=False,
    )
    return train_on(dataset, asked, plan.config, report=report)


def segmentation_of(config: Config, captions: Sequence[str]) -> tuple[Segmentation, str]:
    """How the teacher's captions are cut into words, as the student's training cuts them.

    Returns:
        It, and a line that says why; "" for plain English.

    Raises:
        ShowtellError: as ``choose_segmentation``, or ``training.init_from`` cannot be read.
    """
    source = config.training.init_from
    vocabulary = load_checkpoint(source).vocabulary if source else teachers_vocabulary(config)
    records = (Record("captions", Path(), tuple(captions), "train"),)
    return choose_segmentation(records, config.data, vocabulary)


def made_of(config: Config) -> dict[str, Any]:
    """The settings with hashes in place of the paths of models and files."""
    values = config.model_dump(mode="json")
    values["data"]["max_caption_length"] = config.longest_caption
    values["decoding"] = json.loads(config.decoding.identity())
    values["objective"]["teachers"] = [weights_of(name) for name in config.objective.teachers]
    if config.training.init_from:
        values["training"]["init_from"] = weights_of(config.training.init_from)
    return values


def weights_of(model: str) -> str:
    """A hash of a checkpoint's weights."""
    with (find_checkpoint(model) / MODEL).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _why_no_probabilities(config: Config, teacher: Checkpoint) -> str | None:
    settings, words = config.encoder, teacher.vocabulary.words
    encoder = build_encoder(settings.name, weights=settings.weights, squash=settings.squash)
    if why_not(teacher, teacher.vocabulary, encoder):
        return "the teacher's encoder is not the student's"
    if config.training.init_from is not None:
        known: Sequence[str] = load_checkpoint(config.training.init_from).vocabulary.words
        if tuple(known[: len(words)]) != words:
            return "the student starts with other words than the teacher's"
    elif config.data.vocab_file or config.data.subwords or getattr(config.decoder, "lm", None):
        return "the student has a vocabulary of its own"
    return None
