"""Validation features of an encoder that trains: made anew after each epoch, and not kept."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from showtell.captioner import Captioner
from showtell.features.extract import extract_features
from showtell.features.store import FeatureStore
from showtell.training.setup import TrainingData
from showtell.training.state import TrainingState


@contextmanager
def validation_data(
    data: TrainingData,
    state: TrainingState,
    captioner: Captioner,
    folder: Path,
    watch: Callable[[int, int], None],
) -> Iterator[TrainingData]:
    """``data`` with features of its validation pictures, as the measured encoder sees them now.

    Args:
        captioner: the one that is to be measured.
        folder: the run's, on whose disk the store lies meanwhile.
        watch: called with (pictures done, pictures in all).

    Raises:
        StoreError: a picture can no longer be read, or the disk is full.
    """
    if data.pictures is None:
        yield data
        return
    encoder, grid = state.measured_encoder, captioner.needs_regions
    assert encoder is not None
    path = folder / ".validation.tmp"
    shutil.rmtree(path, ignore_errors=True)
    try:
        extract_features(
            data.val_records,
            encoder,
            path,
            views=0,
            grid=grid,
            seed=0,
            runtime=captioner.runtime,
            progress=lambda progress: watch(progress.done, progress.total),
        )
        store = FeatureStore.open(path, fingerprint=encoder.fingerprint, grid=grid)
        image_ids = [record.image_id for record in data.val_records]
        row_in_store = np.full(len(data.pictures.records), -1)
        row_in_store[data.pictures.rows(image_ids)] = store.rows(image_ids)
        val = replace(data.val, pictures=row_in_store[data.val.pictures])
        yield replace(data, store=store, val=val)
    finally:
        shutil.rmtree(path, ignore_errors=True)
