import subprocess
import sys
import tomllib
from pathlib import Path
from runpy import run_path

import pytest

import showtell
from showtell.config import Config

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.toml"))


def test_the_public_surface() -> None:
    assert sorted(showtell.__all__) == [
        "Caption",
        "Captioner",
        "Config",
        "DecodingConfig",
        "ShowtellError",
        "__version__",
        "load_dataset",
        "open_image",
    ]
    for name in showtell.__all__:
        assert getattr(showtell, name) is not None
    assert dir(showtell) == showtell.__all__
    with pytest.raises(AttributeError, match="no attribute 'Captoiner'"):
        _ = showtell.Captoiner


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, showtell; print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_preset_is_valid() -> None:
    assert len(CONFIGS) == 7
    for path in CONFIGS:
        is_second = path.stem.endswith("-scst")
        config = Config.load(path, ["training.init_from=run"] if is_second else [])
        assert config.objective.kind == ("scst" if is_second else "cross_entropy")
        assert tomllib.loads(config.to_toml())["decoder"]["kind"] in path.stem.replace("-", "_")


def test_generated_docs_are_up_to_date() -> None:
    page = run_path(str(ROOT / "docs" / "generate.py"))
    advice = "run: python docs/generate.py"
    assert page["HELP"].read_text(encoding="utf-8") == page["help_page"](), advice
    assert page["README"].read_text(encoding="utf-8") == page["readme"](), advice
