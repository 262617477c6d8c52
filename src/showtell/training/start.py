"""From what a user asks for to a run: settings, data, features, and what is kept of them."""

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch

from showtell import __version__
from showtell.checkpoint import (
    CONFIG,
    Checkpoint,
    find_checkpoint,
    load_checkpoint,
    recover_folder,
)
from showtell.config import Config, PrefixLmConfig
from showtell.data.fingerprint import dataset_fingerprint
from showtell.data.records import Dataset
from showtell.data.sources import load_dataset
from showtell.data.splits import usable_splits
from showtell.errors import CheckpointError, ConfigError, ShowtellError
from showtell.feature_cache import features_for
from showtell.features.store import FeatureStore
from showtell.files import write_json, write_text
from showtell.metrics import meteor
from showtell.models.decoders import needs_regions
from showtell.models.encoders import Encoder, build_encoder
from showtell.models.language_model import LanguageModel
from showtell.processes import ALONE, Processes
from showtell.progress import Reporter
from showtell.runtime import Runtime, choose_runtime
from showtell.training.checkpoints import load_start
from showtell.training.loop import Run, TrainingResult
from showtell.training.setup import prepare

RUN_FILE = "run.json"


def start_training(
    data: str,
    folder: Path,
    *,
    report: Reporter,
    config_file: Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    format: str | None = None,
    images: Path | None = None,
    store_folder: Path | None = None,
    device: str = "auto",
) -> TrainingResult:
    """Train on ``data`` into ``folder``.

    Args:
        data: path, or ``scenes``.
        overrides: ``section.key=value``.
        resume: go on with the run in ``folder``, with its own settings.

    Raises:
        ShowtellError: anything that the user can mend; what was written stays.

    Under ``torchrun`` it is called in each process: all train together, the first writes.
    """
    processes = Processes.from_environment()
    with processes.joined(own_device := processes.device(device)):
        config = _settings(folder, config_file, overrides, resume)
        return train_on(
            open_data(data, format=format, images=images, report=report),
            folder,
            config=config,
            report=report,
            resume=resume,
            images=images,
            store_folder=store_folder,
            device=own_device,
            processes=processes,
        )


def open_data(
    data: str, *, report: Reporter, format: str | None = None, images: Path | None = None
) -> Dataset:
    """Read ``data`` and say what is wrong with it.

    Raises:
        DataError: there is nothing to train on.
    """
    dataset = usable_splits(load_dataset(data, format=format, images=images))
    for note in dataset.notes:
        report.note(note)
    for kind, count in dataset.problem_counts().items():
        report.note(f"skipped: {count} x {kind} (`showtell data inspect` lists them)")
    return dataset


def train_on(
    dataset: Dataset,
    folder: Path,
    *,
    config: Config,
    report: Reporter,
    resume: bool = False,
    images: Path | None = None,
    store_folder: Path | None = None,
    device: str = "auto",
    processes: Processes = ALONE,
) -> TrainingResult:
    """As ``start_training``, with data and settings at hand.

    Raises:
        ShowtellError: anything that the user can mend; what was written stays.
    """
    language_model = _language_model(config, folder, resume)
    if language_model:
        config = config.with_decoder(language_model.sizes())
    runtime = choose_runtime(device, config.training.precision)
    report.note(runtime.describe())
    if processes.are_many:
        report.note(f"{processes.size} processes train together; this is the first of them")
    with processes.in_turn():
        encoder = build_encoder(config.encoder.name, weights=config.encoder.weights)
        store = features_for(
            dataset,
            encoder,
            runtime=runtime,
            folder=store_folder,
            views=config.encoder.views,
            flips=config.encoder.flips,
            grid=needs_regions(config.decoder),
            report=report,
        )
        meteor.prepare_aloud(report.note)
    provenance = _provenance(config, dataset, encoder, runtime) | {"processes": processes.size}
    start = _start(config, folder, encoder, resume, report)
    vocabulary = start.vocabulary if start else None
    if language_model and not start:
        vocabulary = language_model.vocabulary()
    prepared = prepare(dataset, config.data, store, report, vocabulary=vocabulary)
    if processes.is_first:
        folder.mkdir(parents=True, exist_ok=True)
    if processes.is_first and not resume:
        write_text(folder / CONFIG, config.to_toml())
        write_json(folder / RUN_FILE, provenance | _places(dataset, images, store))
    return Run(
        config=config,
        data=prepared,
        folder=folder,
        runtime=runtime,
        provenance=provenance,
        report=report,
        start=start,
        language_model=language_model,
        resume=resume,
        processes=processes,
    ).run()


def _settings(
    folder: Path, config_file: Path | None, overrides: Sequence[str], resume: bool
) -> Config:
    if resume:
        if config_file or overrides:
            raise ConfigError(
                "a resumed run keeps its own settings: leave -c and -s out, or start a new run"
            )
        if not (folder / CONFIG).is_file():
            raise CheckpointError(f"{folder} holds no run to resume; start it without --resume")
        return Config.load(folder / CONFIG)
    refuse_used(folder)
    return Config.load(config_file, overrides)


def refuse_used(folder: Path) -> None:
    """Raise CheckpointError where there is a run already."""
    if (folder / CONFIG).exists() or _has_checkpoint(folder):
        raise CheckpointError(
            f"{folder} already holds a run: add --resume to go on with it, or give another -o"
        )


def check_start(config: Config, device: str) -> None:
    """Raise ShowtellError where a run cannot start, as far as that shows without its data."""
    choose_runtime(device, config.training.precision)
    build_encoder(config.encoder.name, weights=config.encoder.weights)
    if config.training.init_from:
        find_checkpoint(config.training.init_from)
    elif isinstance(config.decoder, PrefixLmConfig) and config.decoder.lm:
        config.with_decoder(LanguageModel.open(config.decoder.lm).sizes())


def _language_model(config: Config, folder: Path, resume: bool) -> LanguageModel | None:
    """What the decoder begins with; a state to go on from has all of it."""
    if not isinstance(config.decoder, PrefixLmConfig) or config.decoder.lm is None:
        return None
    if resume and recover_folder(folder / "last").exists():
        return None
    return LanguageModel.open(config.decoder.lm)


def _start(
    config: Config, folder: Path, encoder: Encoder, resume: bool, report: Reporter
) -> Checkpoint | None:
    """The checkpoint that a run goes on from: its own, or the one that it is to start with."""
    last = recover_folder(folder / "last")
    if resume and last.exists():
        return load_checkpoint(last)
    source = config.training.init_from
    if source is None:
        return None
    report.note(f"starting with the weights and the vocabulary of {source}")
    return load_start(source, encoder.fingerprint)


def _has_checkpoint(folder: Path) -> bool:
    try:
        find_checkpoint(folder)
    except ShowtellError:
        return False
    return True


def _places(dataset: Dataset, images: Path | None, store: FeatureStore) -> dict[str, Any]:
    """Where things lay on this machine, for ``showtell report``; no checkpoint has it."""
    is_path = dataset.format != "scenes"
    return {
        "data_at": str(Path(dataset.name).resolve()) if is_path else dataset.name,
        "images_at": str(images.resolve()) if images else None,
        "features_at": str(store.path.resolve()),
    }


def _provenance(
    config: Config, dataset: Dataset, encoder: Encoder, runtime: Runtime
) -> dict[str, Any]:
    """What is needed to make a run again, and to refuse what does not belong to it."""
    return {
        "encoder_fingerprint": encoder.fingerprint,
        "feature_size": encoder.pooled_size,
        "region_size": encoder.grid_size[1],
        "data": dataset.name,
        "data_format": dataset.format,
        "data_fingerprint": dataset_fingerprint(dataset),
        "num_pictures": {s: len(dataset.split(s)) for s in ("train", "val", "test")},
        "seed": config.seed,
        "runtime": runtime.describe(),
        "versions": {
            "showtell": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "pillow": PIL.__version__,
            "platform": platform.platform(),
        },
    }
