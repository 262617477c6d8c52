"""What these tests share: two small real runs on the built-in pictures, and files of captions."""

import io
import shutil
from pathlib import Path

import pytest
from caption_files import CaptionFiles, write_caption_files
from cli_shell import SMALL, Shell
from PIL import Image

from showtell.report import figures

ATTENDING = ("-s", "decoder.kind=attention", "-s", "decoder.hidden_size=32")


@pytest.fixture(scope="session")
def showtell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("cache"))


def _train(showtell: Shell, folder: Path, *settings: str) -> Path:
    result = showtell("train", "scenes:40", "-o", folder, *settings)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="session")
def trained(showtell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a decoder that attends; not to be written into."""
    settings = (*SMALL[:6], *ATTENDING, *SMALL[10:])
    return _train(showtell, tmp_path_factory.mktemp("runs") / "looks", *settings)


@pytest.fixture(scope="session")
def other(showtell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of one that does not, with another learning rate; not to be written into."""
    settings = (*SMALL, "-s", "optimizer.lr=5e-3")
    return _train(showtell, tmp_path_factory.mktemp("runs") / "tells", *settings)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """For pages whose words and charts' names are looked at: drawing takes most of their time."""
    file = io.BytesIO()
    Image.new("L", (8, 4)).save(file, "PNG")
    monkeypatch.setattr(figures, "_render", lambda *_: file.getvalue())


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of ``trained`` to break."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(scope="session")
def caption_files(tmp_path_factory: pytest.TempPathFactory) -> CaptionFiles:
    return write_caption_files(tmp_path_factory.mktemp("files"))
