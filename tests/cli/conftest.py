"""One small model that these tests share."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def model(tells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that commands may write into."""
    return Path(shutil.copytree(tells, tmp_path_factory.mktemp("runs") / "small"))
