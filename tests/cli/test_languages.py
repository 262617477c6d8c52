"""Models that speak German and Chinese, from the command line on real pixels."""

import json
from pathlib import Path

import pytest
from cli_shell import SMALL, Shell
from PIL import Image

from showtell.inference.checkpoint import load_checkpoint


@pytest.mark.slow(30)
@pytest.mark.parametrize(
    ("language", "changes", "kind", "space", "exports"),
    [
        ("zh", ("-s", "data.segmentation=characters"), "characters", False, True),
        (
            "zh",
            ("-s", "data.subwords=60", "-s", "data.segmentation=characters"),
            "pieces",
            False,
            False,
        ),
        ("de", (), "spaces", True, False),
    ],
)
def test_from_training_to_captions(
    language: str,
    changes: tuple[str, ...],
    kind: str,
    space: bool,
    exports: bool,
    showtell: Shell,
    tmp_path: Path,
) -> None:
    data, run = f"scenes:{language}:40", tmp_path / "run"
    done = showtell("train", data, "-o", run, *SMALL, "-s", "optimizer.lr=1e-2", *changes)
    assert done.returncode == 0, done.stderr
    vocabulary = load_checkpoint(run).vocabulary
    assert vocabulary.language == language
    assert vocabulary.segmentation.kind == ("characters" if kind == "pieces" else kind)
    assert {"zh": "Chinese (zh)", "de": "German (de)"}[language] in done.stderr
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all("bad_endings" not in line for line in log)

    Image.new("RGB", (80, 60), "green").save(tmp_path / "photo.png")
    done = showtell("caption", tmp_path / "photo.png", "-m", run, "--json")
    assert done.returncode == 0, done.stderr
    [said] = json.loads(done.stdout)["captions"]
    assert len(said["words"]) > 1
    assert said["caption"].replace(" ", "") == "".join(said["words"])
    assert (" " in said["caption"]) == space

    done = showtell("evaluate", run, data, "--split", "val", "--json")
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    name = {"zh": "tok:characters-v1-zh", "de": "tok:spaces-v1-de"}[language]
    assert name in scores["signature"]
    assert scores["metrics"]["BLEU-1"] > 0.1

    if not exports:
        return
    export = tmp_path / "onnx"
    done = showtell("export", run, "-o", export)
    assert done.returncode == 0, done.stderr
    done = showtell("caption", tmp_path / "photo.png", "-m", export, "--json")
    assert done.returncode == 0, done.stderr
    [exported] = json.loads(done.stdout)["captions"]
    assert exported["caption"] == said["caption"]
    assert exported["words"] == said["words"]


def test_a_run_goes_on_with_its_own_words(showtell: Shell, tmp_path: Path) -> None:
    """Whatever would be chosen now: a vocabulary keeps how it was cut."""
    run = tmp_path / "run"
    asked = ("-s", "data.segmentation=characters", "-s", "decoding.max_length=20")
    done = showtell("train", "scenes:zh:40", "-o", run, *SMALL, *asked)
    assert done.returncode == 0, done.stderr
    assert "training captions are longer than decoding.max_length = 20 words" in done.stderr
    settings = (run / "config.toml").read_text()
    settings = settings.replace('segmentation = "characters"', 'segmentation = "auto"')
    (run / "config.toml").write_text(settings.replace("num_epochs = 2", "num_epochs = 3"))
    done = showtell("train", "scenes:zh:40", "-o", run, "--resume")
    assert done.returncode == 0, done.stderr
    assert "by characters, Chinese (zh), as before" in done.stderr
    assert load_checkpoint(run).vocabulary.segmentation.kind == "characters"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ("-s", "data.segmentation=jieba"),
            "data.segmentation = 'jieba': input should be",
        ),
        (
            ("-s", "data.language=Klingon"),
            "data.language = 'Klingon': expected auto, or a",
        ),
    ],
)
def test_wrong_settings_are_one_line(
    changes: tuple[str, ...], message: str, showtell: Shell, tmp_path: Path
) -> None:
    done = showtell("train", "scenes:zh:40", "-o", tmp_path / "run", *SMALL, *changes)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_score_says_how_it_cuts(showtell: Shell, tmp_path: Path) -> None:
    (tmp_path / "said.json").write_text(
        json.dumps([{"image_id": 1, "caption": "一只狗"}, {"image_id": 2, "caption": "两只猫"}])
    )
    (tmp_path / "people.json").write_text(json.dumps({"1": ["一只大狗"], "2": ["两只小猫"]}))
    files = (tmp_path / "said.json", tmp_path / "people.json")
    done = showtell("score", *files, "--segmentation", "characters")
    assert done.returncode == 0, done.stderr
    assert "|tok:characters-v1-zh|" in done.stdout
    assert "METEOR is left out" in done.stderr
    done = showtell("score", *files, "--segmentation", "icu")
    assert done.returncode == 1
    assert "segmentation 'icu': expected auto, ptb, spaces, characters, words" in done.stderr
