"""The notebooks run from top to bottom, and the Chinese ones have the same code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = ("1_training", "2_captioning")
# Smaller than what they show: fewer scenes, a smaller encoder, a smaller model.
SMALLER = {
    '"scenes:400"': '"scenes:40"',
    "hidden_size = 512": "hidden_size = 64",
    "embed_size = 256": "embed_size = 32",
    "num_epochs = 6": "num_epochs = 2",
    '"encoder.views=1"': '"encoder.views=0", "encoder.name=lite0"',
}


def code_of(name: str) -> list[str]:
    """The code cells of a notebook."""
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    return ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]


@pytest.mark.slow
def test_both_run_one_after_the_other(tmp_path: Path) -> None:
    said = {}
    replaced = set()
    for name in NAMES:
        code = "\n\n".join(code_of(name))
        for what, by in SMALLER.items():
            if what in code:
                replaced.add(what)
                code = code.replace(what, by)
        script = tmp_path / f"{name}.py"
        # Training starts processes, which read the script again.
        script.write_text(code, encoding="utf-8")
        result = subprocess.run(
            [sys.executable, str(script)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        said[name] = result.stdout
    assert replaced == set(SMALLER)
    assert "Epoch [1/2], Step [" in said["1_training"]
    assert "best epoch:" in said["1_training"]
    assert (tmp_path / "models" / "notebook" / "best" / "model.safetensors").is_file()
    assert said["2_captioning"].count("greedy: ") == 4


def test_the_chinese_notebooks_have_the_same_code() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(
        [*NAMES, *(f"{name}_zh" for name in NAMES)]
    )
    for name in NAMES:
        assert code_of(name) == code_of(f"{name}_zh")
        compile("\n".join(code_of(name)), name, "exec")


def test_the_names_are_those_of_the_course() -> None:
    settings = code_of("1_training")[0]
    for name in (
        *("batch_size", "vocab_threshold", "vocab_from_file", "embed_size", "hidden_size"),
        *("num_epochs", "save_every", "print_every", "log_file"),
    ):
        assert f"{name} = " in settings
