"""Every command as a user types it."""

import json
import re
import sys
import time
from pathlib import Path

import pytest
from cli_shell import SMALL, Shell
from PIL import Image

PHOTO_SIZE = (64, 48)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, colour in (("a.jpg", "red"), ("b.png", "blue"), ("c.webp", "green")):
        Image.new("RGB", PHOTO_SIZE, colour).save(folder / name)
    return folder


def test_help_imports_no_torch() -> None:
    import subprocess

    code = (
        "import sys, showtell, showtell.cli\n"
        "print([m for m in ('torch', 'numpy', 'PIL', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_and_version(showtell: Shell) -> None:
    result = showtell("--help")
    assert result.returncode == 0
    for command in ("demo", "data", "features", "train", "evaluate", "score", "caption"):
        assert re.search(rf"^  {command} ", result.stdout, re.MULTILINE)
    assert re.fullmatch(r"showtell \d+\.\d+\.\d+\n", showtell("--version").stdout)


@pytest.mark.parametrize(
    "arguments", [("caption",), ("train", "scenes"), ("nonsense",), ("caption", "--beam-size", "x")]
)
def test_wrong_usage_exits_with_2(showtell: Shell, arguments: tuple[str, ...]) -> None:
    result = showtell(*arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_training_leaves_what_the_readme_says(model: Path) -> None:
    assert {path.name for path in model.iterdir()} == {
        *("best", "last", "epoch-001", "epoch-002"),
        *("config.toml", "run.json", "training_log.txt", "metrics.jsonl"),
    }
    run = json.loads((model / "run.json").read_text())
    assert run["num_pictures"] == {"train": 40, "val": 10, "test": 20}
    assert run["versions"]["torch"]
    assert len(run["data_fingerprint"]) == 64


def test_one_photo_gives_one_caption(showtell: Shell, model: Path, photos: Path) -> None:
    result = showtell("caption", photos / "a.jpg", "--model", model)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 1
    assert "<" not in result.stdout
    assert str(photos) not in result.stdout


def test_a_folder_a_glob_and_json(showtell: Shell, model: Path, photos: Path) -> None:
    result = showtell("caption", photos, "--model", model)
    assert [line.split(": ")[0] for line in result.stdout.splitlines()] == [
        str(photos / name) for name in ("a.jpg", "b.png", "c.webp")
    ]
    result = showtell("caption", str(photos / "*.jpg"), "--model", model, "--json")
    value = json.loads(result.stdout)
    assert value["failures"] == []
    [entry] = value["captions"]
    assert entry["path"] == str(photos / "a.jpg")
    assert entry["caption"]
    assert 0 < entry["confidence"] <= 1


def test_broken_pictures_do_not_stop_the_others(
    showtell: Shell, model: Path, photos: Path, tmp_path: Path
) -> None:
    (photos / "aa.jpg").write_bytes((photos / "a.jpg").read_bytes()[:300])
    (photos / "bb.png").write_text("not a picture")
    out = tmp_path / "captions.jsonl"
    result = showtell(
        "caption", photos, photos / "gone.jpg", "--model", model, "--format", "jsonl", "-o", out
    )
    assert result.returncode == 1
    assert result.stdout == ""
    captioned = [Path(json.loads(line)["path"]).name for line in out.read_text().splitlines()]
    assert captioned == ["a.jpg", "b.png", "c.webp"]
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3
    for name, error in zip(("aa.jpg", "bb.png", "gone.jpg"), errors, strict=True):
        assert name in error


def test_greedy_and_beam_settings(showtell: Shell, model: Path, photos: Path) -> None:
    result = showtell(
        "caption", photos / "a.jpg", "-m", model, "--beam-size", "1", "--max-length", "3"
    )
    assert len(result.stdout.split()) <= 3
    result = showtell("caption", photos / "a.jpg", "-m", model, "--beam-size", "0")
    assert result.returncode == 1
    assert "beam_size = 0" in result.stderr


def test_evaluate_writes_scores_and_predictions(
    showtell: Shell, model: Path, tmp_path: Path
) -> None:
    predictions = tmp_path / "out" / "said.json"
    result = showtell("evaluate", model, "scenes:40", "--json", "--predictions", predictions)
    assert result.returncode == 0, result.stderr
    value = json.loads(result.stdout)
    assert list(value["metrics"])[:4] == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"]
    assert {"ROUGE-L", "CIDEr-D"} <= set(value["metrics"])
    said = json.loads(predictions.read_text())
    assert len(said) == 20
    assert set(said[0]) == {"image_id", "caption"}
    assert (tmp_path / "out" / "said.scores.json").exists()


def test_data_inspect(showtell: Shell) -> None:
    result = showtell("data", "inspect", "scenes:40")
    assert "train:" in result.stdout
    assert "no problems" in result.stdout
    value = json.loads(showtell("data", "inspect", "scenes:40", "--json").stdout)
    assert value["splits"]["train"] == {"num_pictures": 40, "num_captions": 200}


def test_a_run_is_not_overwritten_and_a_resumed_one_keeps_its_settings(
    showtell: Shell, model: Path
) -> None:
    result = showtell("train", "scenes:40", "-o", model, *SMALL)
    assert result.returncode == 1
    assert "--resume" in result.stderr
    result = showtell("train", "scenes:40", "-o", model, "--resume", *SMALL)
    assert result.returncode == 1
    assert "keeps its own settings" in result.stderr
    result = showtell("train", "scenes:48", "-o", model, "--resume")
    assert result.returncode == 1
    assert "the data is not what" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "nowhere", "-o", "RUN"), "nowhere"),
        (("train", "scenes:40", "-o", "RUN", "-s", "optimizer.lr=-1"), "optimizer.lr = -1"),
        (("train", "scenes:40", "-o", "RUN", "-s", "decoder.kidn=x"), "decoder.kidn: no such"),
        (("train", "scenes:40", "-o", "RUN", "-s", "novalue"), "key=value"),
        (("train", "scenes:40", "-o", "RUN", "-c", "none.toml"), "no configuration file"),
        (("train", "scenes:40", "-o", "RUN", "-s", "encoder.name=lite3"), "Did you mean"),
        (("train", "scenes:40", "-o", "RUN", "--resume"), "no run to resume"),
        (("caption", "x.jpg", "--model", "nowhere"), "no model 'nowhere'"),
        (("evaluate", "nowhere", "scenes:40"), "no model 'nowhere'"),
        (("caption", "nothing-*.jpg", "--model", "nowhere"), "no file matches"),
        (("train", "scenes:40", "-o", "RUN", "--device", "tpu"), "device 'tpu'"),
    ],
)
def test_a_mistake_is_one_line(
    showtell: Shell, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = showtell(*(str(tmp_path / "run") if a == "RUN" else a for a in arguments))
    assert result.returncode == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run" / "config.toml").exists()


@pytest.mark.slow
def test_kill_9_loses_only_the_steps_since_the_last_save(showtell: Shell, tmp_path: Path) -> None:
    """A real process, killed at moments that nobody chose, then resumed: same weights."""
    import random
    import subprocess

    from safetensors.torch import load_file

    settings = [*SMALL, "-s", "training.num_epochs=6", "-s", "training.save_minutes=0.001"]
    base = ("train", "scenes:40")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert showtell(*base, "-o", whole, *settings).returncode == 0
    chance = random.Random(7)
    command = [sys.executable, "-m", "showtell", *base, "-o", str(killed)]
    for attempt in range(3):
        extra = [*settings] if attempt == 0 else ["--resume"]
        process = subprocess.Popen(
            [*command, *extra],
            env=showtell.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        log, before = killed / "training_log.txt", _size(killed / "training_log.txt")
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if _size(log) > before + 200:  # some steps were made
                time.sleep(chance.uniform(0, 0.3))
                break
            time.sleep(0.01)
        process.kill()
        process.wait()
        for name in ("last", "best"):
            if (killed / name).exists():
                load_file(killed / name / "model.safetensors")
    result = showtell(*base, "-o", killed, "--resume")
    assert result.returncode == 0, result.stderr
    assert not list(killed.glob(".*.tmp"))
    for name in ("last", "best"):
        one, two = (load_file(run / name / "model.safetensors") for run in (whole, killed))
        assert all((one[key] == two[key]).all() for key in one)
    assert (whole / "training_log.txt").read_text() == (killed / "training_log.txt").read_text()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["attention", "up_down", "transformer"])
def test_a_decoder_that_attends_from_training_to_captions(
    showtell: Shell, tmp_path: Path, photos: Path, kind: str
) -> None:
    """Grid features are made for it, by training, evaluation and captioning alike."""
    settings = [
        part
        for option, value in zip(SMALL[::2], SMALL[1::2], strict=True)
        if not value.startswith("decoder.")
        for part in (option, value)
    ]
    run = tmp_path / "run"
    width = ("-s", f"decoder.kind={kind}", "-s", "decoder.hidden_size=24")
    result = showtell("train", "scenes:40", "-o", run, *settings, *width)
    assert result.returncode == 0, result.stderr
    assert json.loads((run / "run.json").read_text())["region_size"] == 1280
    result = showtell("evaluate", run, "scenes:40", "--split", "test", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["metrics"]["CIDEr-D"] >= 0
    result = showtell("caption", photos / "a.jpg", "--model", run)
    assert (result.returncode, len(result.stdout.splitlines())) == (0, 1), result.stderr
