"""What these tests share: a run to break, charts that are not drawn, and files of captions."""

import io
import shutil
from pathlib import Path

import pytest
from caption_files import CaptionFiles, write_caption_files
from PIL import Image

from showtell.report import figures


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """For pages whose words and charts' names are looked at: drawing takes most of their time."""
    file = io.BytesIO()
    Image.new("L", (8, 4)).save(file, "PNG")
    monkeypatch.setattr(figures, "_render", lambda *_: file.getvalue())


@pytest.fixture
def run(looks: Path, tmp_path: Path) -> Path:
    """A copy of ``looks`` to break."""
    return Path(shutil.copytree(looks, tmp_path / "run"))


@pytest.fixture(scope="session")
def caption_files(tmp_path_factory: pytest.TempPathFactory) -> CaptionFiles:
    return write_caption_files(tmp_path_factory.mktemp("files"))
