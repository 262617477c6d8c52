import pytest
from tiny_world import tiny_records, tiny_store

from showtell.data.records import Dataset
from showtell.encoders.store import FeatureStore


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset("tiny", "folder", tiny_records())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> FeatureStore:
    """Which runs read, and none writes."""
    return tiny_store(tmp_path_factory.mktemp("features") / "store", dataset.records)
