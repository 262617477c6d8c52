"""``hf:`` behind the commands, as a user types them."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import tiny_hf
from cli_shell import Shell
from PIL import Image

import showtell as library
from showtell.inference.backends.hf import HfCaptioner

CPU = ("--device", "cpu", "--precision", "fp32")
SHORT = ("--max-length", "8")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, torchvision_operators: Any) -> dict[str, str]:
    place = tmp_path_factory.mktemp("hf")
    return {
        kind: f"hf:{tiny_hf.save_captioner(kind, place / kind)}"
        for kind in ("vision-encoder-decoder", "llava")
    }


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, image in enumerate(tiny_hf.pictures(6)):
        image.save(folder / f"{number}.png")
    return folder


def captions_of(model: str, photos: Path, **settings: Any) -> dict[str, str]:
    loaded = library.load(model, device="cpu", precision="fp32", settings=settings)
    paths = sorted(photos.glob("*.png"))
    found = loaded.caption(paths, decoding={"max_length": 8})
    return {str(path): caption.text for path, caption in zip(paths, found, strict=True)}


def records(file: Path) -> dict[str, dict[str, Any]]:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len({line["path"] for line in lines}) == len(lines)
    return {line["path"]: line for line in lines}


def test_captions_on_the_screen_and_in_files(
    showtell: Shell, models: dict[str, str], photos: Path, tmp_path: Path
) -> None:
    model = models["vision-encoder-decoder"]
    expected = captions_of(model, photos)
    out = tmp_path / "out.jsonl"
    done = showtell("caption", photos, "-m", model, *CPU, *SHORT, "-o", out)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Computing on cpu (as asked), fp32 (as asked)") == 1
    found = records(out)
    assert {path: record["caption"] for path, record in found.items()} == expected
    names = {record["captioner"] for record in found.values()}
    assert names == {"hf:vision-encoder-decoder"}
    shown = showtell("caption", photos / "0.png", "-m", model, *CPU, *SHORT)
    assert shown.stdout == expected[str(photos / "0.png")] + "\n"
    done = showtell("caption", photos, "-m", model, *CPU, *SHORT, "--format", "sidecar")
    assert done.returncode == 0, done.stderr
    assert (photos / "3.txt").read_text().strip() == expected[str(photos / "3.png")]


def test_a_stopped_run_goes_on_with_the_same_prompt_alone(
    showtell: Shell,
    models: dict[str, str],
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, real = tmp_path / "out.jsonl", HfCaptioner.caption_images
    asked = ("caption", photos, "-m", models["llava"], *CPU, *SHORT, "-o", out, "--batch-size", "2")
    num_batches = 0

    def interrupted(self: HfCaptioner, *args: Any, **options: Any) -> Any:
        nonlocal num_batches
        if num_batches == 2:
            raise KeyboardInterrupt
        num_batches += 1
        return real(self, *args, **options)

    with monkeypatch.context() as changed:
        changed.setattr(HfCaptioner, "caption_images", interrupted)
        stopped = showtell(*asked, "--prompt", "alt")
    assert stopped.returncode == 130, stopped.stderr
    assert not out.exists()
    other = showtell(*asked, "--prompt", "detailed")
    assert other.returncode == 1
    assert "was begun with another model or other settings" in other.stderr
    done = showtell(*asked, "--prompt", "alt")
    assert done.returncode == 0, done.stderr
    assert "2 captioned, 4 had one before" in done.stderr
    found = {path: record["caption"] for path, record in records(out).items()}
    assert found == captions_of(models["llava"], photos, prompt="alt")


def test_what_means_nothing_is_named_before_any_work(
    showtell: Shell, models: dict[str, str], photos: Path
) -> None:
    model = models["vision-encoder-decoder"]
    for options, said in (
        (("--forbidden-word", "dog"), "forbidden_words = dog has no meaning for hf:"),
        (("--attention", "--json"), "cannot say where it looked"),
        (("--prompt", "alt"), "'vision-encoder-decoder' follows no instruction"),
        (("--ensemble", "default"), "only showtell's own models form an ensemble"),
        (("--runtime", "onnx"), "runtime 'onnx' is for showtell's models"),
    ):
        done = showtell("caption", photos, "-m", model, *CPU, *options)
        assert done.returncode == 1 and done.stdout == ""
        assert said in done.stderr.splitlines()[-1]
    done = showtell("caption", photos, "--yes")
    assert "--yes is for models of the hub (hf:ID), not for default" in done.stderr


def test_a_sheet(showtell: Shell, models: dict[str, str], photos: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    done = showtell("sheet", photos, "-m", models["llava"], *CPU, *SHORT, "-o", sheet)
    assert done.returncode == 0, done.stderr
    with Image.open(sheet) as drawn:
        assert drawn.size[0] > 100


@pytest.fixture
def data(models: dict[str, str], photos: Path) -> Path:
    """Pictures whose references are the model's own words where it is surest, else other words."""
    model = library.load(models["llava"], device="cpu", precision="fp32")
    paths = sorted(photos.glob("*.png"))
    for number in range(6, 30):
        image = tiny_hf.pictures(6)[number % 6].rotate(7 * number, fillcolor=(number, 0, 200))
        image.save(photos / f"{number}.png")
    paths = sorted(photos.glob("*.png"))
    said = model.caption(paths, decoding={"max_length": 8})
    middle = sorted(caption.mean_log_prob for caption in said)[len(said) // 2]
    table = photos / "captions.csv"
    with open(table, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "caption"])
        for path, caption in zip(paths, said, strict=True):
            is_sure = caption.mean_log_prob >= middle
            rows.writerow([path.name, caption.text if is_sure else "nothing like it at all"])
    return table


def test_evaluate_and_calibrate(
    showtell: Shell,
    models: dict[str, str],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    model = models["llava"]
    evaluated = showtell("evaluate", model, data, "--split", "all", *CPU, *SHORT, "--json")
    assert evaluated.returncode == 0, evaluated.stderr
    found = json.loads(evaluated.stdout)
    assert found["metrics"]["CIDEr-D"] > 0.5
    predictions = Path(found["predictions"])
    assert predictions.parent == Path("evaluation") and predictions.is_file()
    measured = ("reliability", model, data, "--split", "all", *CPU, *SHORT)
    before = json.loads(showtell(*measured, "--json").stdout)
    calibrated = showtell(*measured, "--calibrate", "--json")
    assert calibrated.returncode == 0, calibrated.stderr
    kept = Path(calibrated.stderr.partition("the calibration is ")[2].splitlines()[0])
    assert json.loads(kept.read_text())["model"] == model
    assert kept.parent.parent == showtell.cache / "captioners"
    assert kept.parent.name.endswith("llava")
    after = json.loads(showtell(*measured, "--json").stdout)
    assert after["now"]["error"] < before["now"]["error"]
    other = json.loads(showtell(*measured, "--prompt", "alt", "--json").stdout)
    assert other["now"]["bins"][0]["confidence"] < 0.2  # another prompt is not calibrated
    refused = showtell("evaluate", model, data, "--store", tmp_path / "store", *CPU)
    assert refused.returncode == 1


def test_models_are_compared(
    showtell: Shell,
    models: dict[str, str],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ("compare", *models.values(), "--data", data, "--split", "val", *CPU)
    done = showtell(*asked, "--bootstrap", "20", "--metric", "CIDEr-D")
    assert done.returncode == 0, done.stderr
    assert "CIDEr-D" in done.stdout
    again = showtell(*asked, "--bootstrap", "20", "--metric", "CIDEr-D")
    assert again.stderr.count("are taken from evaluation") == 2
    assert again.stdout == done.stdout
