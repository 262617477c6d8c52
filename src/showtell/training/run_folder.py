"""A run's folder: who may write into it, and what its ``run.json`` says of the run.

``run.json`` has what the run depends on (data, encoder, versions), so that it can be made again.
"""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch

from showtell.config import Config
from showtell.core.device import Runtime
from showtell.core.distributed import ALONE, Processes
from showtell.core.files import InUseError, locked_folder, parse_json
from showtell.data.records import Dataset, dataset_fingerprint
from showtell.data.request import DataRequest
from showtell.encoders.encoder import Encoder
from showtell.encoders.store import FeatureStore
from showtell.errors import CheckpointError, ShowtellError
from showtell.inference.checkpoint import find_checkpoint
from showtell.inference.files import CONFIG, RUN_FILE
from showtell.training.checkpoints import fingerprints
from showtell.training.old_pictures import OLD_AT, old_place
from showtell.training.pictures import PictureFiles
from showtell.training.rehearsal import REHEARSAL_FILE
from showtell.version import __version__

BEFORE_CONFIG = {REHEARSAL_FILE, RUN_FILE}  # what a start writes before its settings


@contextmanager
def locked(folder: Path, processes: Processes = ALONE) -> Iterator[None]:
    """Keep other runs out of a folder; of the processes of one run the first has the lock.

    Raises:
        CheckpointError: another run is writing into it.
    """
    if not processes.is_first:
        yield
        return
    names_in(folder)  # a file in its place is said
    try:
        with locked_folder(folder):
            yield
    except InUseError:
        raise CheckpointError(
            f"another process is training in {folder}: wait until it ends, stop it, or give "
            "another folder with -o"
        ) from None


def refuse_used(folder: Path) -> None:
    """Raise CheckpointError where there is a run already, a file, or a folder of something else.

    What a run left that failed before its first step, its settings and ``run.json``, is not a run.
    """
    names = names_in(folder)
    if not names or (names & BEFORE_CONFIG and names <= {*BEFORE_CONFIG, CONFIG}):
        return
    if holds_run(folder):
        raise CheckpointError(
            f"{folder} already holds a run: add --resume to continue it, or give another folder "
            "with -o"
        )
    raise CheckpointError(f"{folder} already exists and is not a run: give a new folder with -o")


def names_in(folder: Path) -> set[str]:
    """What is in a folder that results are to go to, hidden files aside; none where it is new.

    Raises:
        CheckpointError: it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder} is a file: give the name of a folder")
    if not folder.exists():
        return set()
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def holds_run(folder: Path) -> bool:
    """Whether a folder is a run's, or a checkpoint's."""
    try:
        find_checkpoint(folder)
    except ShowtellError:
        return (folder / CONFIG).exists()
    return True


def provenance_of(
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


def places_of(
    dataset: Dataset,
    data: DataRequest,
    old: DataRequest | None,
    store: FeatureStore | PictureFiles,
) -> dict[str, Any]:
    """Where things lay on this machine, for ``showtell report``; no checkpoint has it."""
    is_path, images = dataset.format != "scenes", data.images
    return {
        "data_at": str(Path(dataset.name).resolve()) if is_path else dataset.name,
        "images_at": str(images.resolve()) if images else None,
        "encoding": data.encoding,
        "features_at": str(store.path.resolve()) if isinstance(store, FeatureStore) else None,
        **({OLD_AT: old_place(old)} if old else {}),
    }


def what_is_known(folder: Path) -> dict[str, Any]:
    """What the run in ``folder`` says of itself; nothing where that cannot be read."""
    try:
        found = parse_json((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
