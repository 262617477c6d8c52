"""One small model, trained by the command line on real pixels, that these tests share."""

from pathlib import Path

import pytest
from cli_shell import SMALL, Shell


@pytest.fixture(scope="session")
def showtell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def model(showtell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a small built-in set; it knows little, and that is enough."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    result = showtell("train", "scenes:40", "-o", folder, *SMALL)
    assert result.returncode == 0, result.stderr
    return folder
