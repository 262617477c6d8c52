from pathlib import Path

import pytest
from tiny_world import tiny_records, tiny_store

from showtell.data.records import Dataset
from showtell.encoders.store import FeatureStore


@pytest.fixture
def dataset() -> Dataset:
    return Dataset("tiny", "folder", tiny_records())


@pytest.fixture
def store(tmp_path: Path, dataset: Dataset) -> FeatureStore:
    return tiny_store(tmp_path / "store", dataset.records)
