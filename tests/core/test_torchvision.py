"""torchvision that was built for another torch can be imported, each time in a fresh process.

That timm is imported beside the torchvision that is installed, each test with timm shows.
"""

import subprocess
import sys
from pathlib import Path

import pytest

# What torchvision does when it is imported, where its operators could not be loaded.
DESCRIBES = """
import torch

@torch.library.register_fake("torchvision::nms")
def nms(dets, scores, iou_threshold):
    return dets
"""
USE = """
from showtell.core.torchvision import make_torchvision_importable
make_torchvision_importable()
import torchvision
print(torchvision.TRANSFORMS)
"""


def run(code: str, search: Path) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path.insert(0, {str(search)!r})\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A folder with a torchvision whose operators are not there."""
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "operators.py").write_text(DESCRIBES)
    (package / "__init__.py").write_text("import torchvision.operators\nTRANSFORMS = 'transforms'")
    return tmp_path


def test_it_cannot_be_imported_without_help(fake: Path) -> None:
    done = run("import torchvision", fake)
    assert done.returncode == 1
    assert "operator torchvision::nms does not exist" in done.stderr


def test_its_operators_are_declared_where_they_are_not_there(fake: Path) -> None:
    done = run(USE, fake)
    assert done.stdout == "transforms\n", done.stderr


def test_another_error_of_it_stays(fake: Path) -> None:
    (fake / "torchvision" / "operators.py").write_text("raise RuntimeError('no disk')")
    done = run(USE, fake)
    assert done.returncode == 1
    assert "RuntimeError: no disk" in done.stderr
