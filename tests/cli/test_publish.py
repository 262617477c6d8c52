"""A recipe by the command line: from pictures to a model with a card, on a set of some dozens."""

import json
import re
from pathlib import Path

import pytest
from cli_shell import Shell
from small_recipe import write_recipe

from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.captioner import Captioner
from showtell.pretrained import CARD
from showtell.publish import build, measure


@pytest.mark.slow(25)
def test_a_recipe_becomes_a_model_with_a_card(
    showtell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "REPEATS", 1)
    monkeypatch.setattr(measure, "NUM_SINGLE", 1)
    recipe = write_recipe(tmp_path / "recipe")
    work, output = tmp_path / "work", tmp_path / "small"
    command = ["publish", recipe, "scenes:40", "--work", work, "-o", output]
    lacking = showtell(*command)
    assert lacking.returncode == 1
    assert "error: this recipe needs --data other=PATH" in lacking.stderr
    assert not work.exists()
    command += ["--data", "other=scenes:48"]
    done = showtell(*command)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in output.iterdir()} == {
        *("model.safetensors", "config.toml", "vocabulary.json", "metrics.json"),
        *("MODEL_CARD.md", "examples.jpg", "reliability.png"),
        *("encoder.onnx", "init.onnx", "step.onnx", "weights.bin", "showtell-onnx.json"),
    }
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["measured_on"] == "scenes, dev"
    assert "images:40" in metrics["signature"]
    assert set(metrics["others"]) == {"other scenes"}
    installed = Captioner.load(output)  # which checks every file of the export
    assert installed.describe_runtime() in (output / CARD).read_text(encoding="utf-8")
    assert "onnxruntime" in installed.describe_runtime()
    assert "fp32 (and int8, as exported)" in installed.describe_runtime()
    assert installed.metrics["metrics"] == metrics["metrics"]
    captioner = NativeCaptioner.load(output, device="cpu")
    assert captioner.calibration is None  # it is no good yet, and the notes say so
    assert "confidence is not calibrated: of 40 captions none" in done.stderr
    assert captioner.config.decoding.beam_size == 2
    card = (output / CARD).read_text(encoding="utf-8")
    assert card.startswith("# small\n")
    assert "{{" not in card
    assert f"| scenes, dev | 40 | {metrics['metrics']['CIDEr-D']:.3f} [" in card
    assert re.search(r"first caption from the shell, one photo \| \d+\.\d\d s", card)
    assert str(tmp_path) not in card
    assert installed.name == output.name
    # A second call makes no stage again, and the same weights; here without an export.
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace('[export]\ncompute = "int8"\ndata = "other"\n', ""))
    before = (output / "model.safetensors").read_bytes()
    monkeypatch.setattr(build, "measure_speed", lambda *_: measure.Speed(1.0, 0.1, 20.0, "cpu"))
    again = showtell(*command, "--json")
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("made before") == 3
    assert set(json.loads(again.stdout)["scores"]) == {"scenes, dev", "other scenes"}
    assert (output / "model.safetensors").read_bytes() == before
    assert not list(output.glob("*.onnx")) and not list(work.glob(".packed*"))
    # A stage with other settings is not taken for the one that was made.
    text = recipe.read_text(encoding="utf-8").replace("optimizer.lr=1e-5", "optimizer.lr=2e-5")
    recipe.write_text(text, encoding="utf-8")
    other = showtell(*command)
    assert other.returncode == 1
    assert "optimizer.lr was 1e-05 and is 2e-05" in other.stderr
