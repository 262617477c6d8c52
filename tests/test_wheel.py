"""What is in the wheel: every module, and the models that come with showtell."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from showtell.pretrained import model_names, shipped_folder

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [wheel] = folder.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_every_module_is_in_the_wheel(names: set[str]) -> None:
    modules = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    assert len(modules) > 150
    assert modules <= names


def test_presets_and_the_marker_of_types_are_in_the_wheel(names: set[str]) -> None:
    assert "showtell/py.typed" in names
    presets = [name for name in names if name.startswith("showtell/config/presets/")]
    assert len(presets) == 14  # six of Flickr8k, four by size, four for a start from a model


def test_shipped_models_are_in_the_wheel_and_small(names: set[str]) -> None:
    """Of each model all of its folder, at most 15 MB of it weights."""
    for name in model_names():
        folder = shipped_folder(name)
        assert folder is not None
        files = {str(path.relative_to(ROOT / "src")) for path in folder.iterdir()}
        assert {"model.safetensors", "config.toml", "vocabulary.json", "metrics.json"} <= {
            Path(file).name for file in files
        }
        assert f"showtell/pretrained/{name}/MODEL_CARD.md" in files
        assert files <= names
        assert (folder / "model.safetensors").stat().st_size <= 15e6
