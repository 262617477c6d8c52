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
from showtell.models.trained_encoder import train_from
from showtell.progress import Reporter
from showtell.runtime import Runtime, choose_runtime
from showtell.training.checkpoints import fingerprints, fit_encoder
from showtell.training.loop import Run, TrainingResult
from showtell.training.picture_files import PictureFiles
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
    """
    config = _settings(folder, config_file, overrides, resume)
    language_model = _language_model(config, folder, resume)
    if language_model:
        config = config.with_decoder(language_model.sizes())
    dataset = usable_splits(load_dataset(data, format=format, images=images))
    for note in dataset.notes:
        report.note(note)
    for kind, count in dataset.problem_counts().items():
        report.note(f"skipped: {count} x {kind} (`showtell data inspect` lists them)")
    runtime = choose_runtime(device, config.training.precision)
    report.note(runtime.describe())
    start = _start(config, folder, resume, report)
    encoder = _encoder(config, start, folder)
    store: FeatureStore | PictureFiles
    if config.encoder.train_from is not None:
        if store_folder:
            report.note(f"{store_folder} is not used: with encoder.train_from pictures are read")
        store = PictureFiles.check(dataset.split("train") + dataset.split("val"), report)
    else:
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
    provenance = _provenance(config, dataset, encoder, runtime)
    vocabulary = start.vocabulary if start else None
    if language_model and not start:
        vocabulary = language_model.vocabulary()
    prepared = prepare(dataset, config.data, store, report, vocabulary=vocabulary)
    folder.mkdir(parents=True, exist_ok=True)
    if not resume:
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
        encoder=encoder if encoder.changed else None,
        language_model=language_model,
        resume=resume,
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
    if (folder / CONFIG).exists() or _has_checkpoint(folder):
        raise CheckpointError(
            f"{folder} already holds a run: add --resume to go on with it, or give another -o"
        )
    return Config.load(config_file, overrides)


def _language_model(config: Config, folder: Path, resume: bool) -> LanguageModel | None:
    """What the decoder begins with; a state to go on from has all of it."""
    if not isinstance(config.decoder, PrefixLmConfig) or config.decoder.lm is None:
        return None
    if resume and recover_folder(folder / "last").exists():
        return None
    return LanguageModel.open(config.decoder.lm)


def _start(config: Config, folder: Path, resume: bool, report: Reporter) -> Checkpoint | None:
    """The checkpoint that a run goes on from: its own, or the one that it is to start with."""
    last = recover_folder(folder / "last")
    if resume and last.exists():
        return load_checkpoint(last)
    source = config.training.init_from
    if source is None:
        return None
    report.note(f"starting with the weights and the vocabulary of {source}")
    return load_checkpoint(source)


def _encoder(config: Config, start: Checkpoint | None, folder: Path) -> Encoder:
    """The encoder of a run: as published or as ``start`` has it; ready to train where asked."""
    settings = config.encoder
    encoder = build_encoder(settings.name, weights=settings.weights)
    if start is not None:
        own = recover_folder(folder / "last").exists()
        source = str(folder) if own else f"training.init_from = {config.training.init_from}"
        fit_encoder(encoder, start, source)
    if settings.train_from is not None:
        live_norms = settings.batch_norm == "train"
        train_from(encoder, settings.train_from, live_norms=live_norms)
    return encoder


def _has_checkpoint(folder: Path) -> bool:
    try:
        find_checkpoint(folder)
    except ShowtellError:
        return False
    return True


def _places(
    dataset: Dataset, images: Path | None, store: FeatureStore | PictureFiles
) -> dict[str, Any]:
    """Where things lay on this machine, for ``showtell report``; no checkpoint has it."""
    is_path = dataset.format != "scenes"
    return {
        "data_at": str(Path(dataset.name).resolve()) if is_path else dataset.name,
        "images_at": str(images.resolve()) if images else None,
        "features_at": str(store.path.resolve()) if isinstance(store, FeatureStore) else None,
    }


def _provenance(
    config: Config, dataset: Dataset, encoder: Encoder, runtime: Runtime
) -> dict[str, Any]:
    """What is needed to make a run again, and to refuse what does not belong to it."""
    return {
        **fingerprints(encoder),
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
