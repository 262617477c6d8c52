"""Pieces of words and language models, from the command line on real pixels."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from cli_shell import Shell
from PIL import Image
from pretrained_lm import save_language_model

from showtell.inference.checkpoint import load_checkpoint
from showtell.text.subwords import SubwordVocabulary

QUICK = (
    *("-s", "encoder.name=lite0", "-s", "encoder.views=0", "-s", "training.num_epochs=1"),
    *("-s", "training.batch_size=16", "-s", "optimizer.lr=3e-3", "--preset", "none"),
)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (80, 60), "green").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_a_checkpoint_needs_no_language_model_any_more(
    showtell: Shell, photo: Path, tmp_path: Path, torchvision_operators: Any
) -> None:
    original = save_language_model(tmp_path / "lm")
    run, lm = tmp_path / "run", tmp_path / "lm"
    prefix_lm = ("-s", "decoder.kind=prefix_lm", "-s", f"decoder.lm={lm}")
    done = showtell("train", "scenes:40", "-o", run, *QUICK, *prefix_lm)
    assert done.returncode == 1, "its 64 positions cannot hold the prefix and captions of 60 pieces"
    assert "max_caption_length = 80 and a prefix of 10 do not fit into" in done.stderr
    assert not run.exists()
    prefix_lm += ("-s", "data.max_caption_length=50")
    done = showtell("train", "scenes:40", "-o", run, *QUICK, *prefix_lm)
    assert done.returncode == 0, done.stderr
    assert "pieces of words" in done.stderr
    shutil.rmtree(lm)
    model = load_checkpoint(run)
    assert model.config.decoder.hidden_size == original.config.n_embd
    assert isinstance(model.vocabulary, SubwordVocabulary)
    assert "<|endoftext|>" in model.vocabulary.pieces
    assert showtell("caption", photo, "-m", run).returncode == 0
    settings = (run / "config.toml").read_text()
    (run / "config.toml").write_text(settings.replace("num_epochs = 1", "num_epochs = 2"))
    done = showtell("train", "scenes:40", "-o", run, "--resume")
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(run / "last").metrics["epoch"] == 2
    done = showtell("evaluate", run, "scenes:40", "--split", "val")
    assert done.returncode == 0, done.stderr


def test_pieces_from_training_to_captions(showtell: Shell, photo: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = showtell("train", "scenes:40", "-o", run, *QUICK, "-s", "data.subwords=200")
    assert done.returncode == 0, done.stderr
    for command in (("caption", photo, "-m", run), ("evaluate", run, "scenes:40")):
        assert showtell(*command).returncode == 0


def test_a_language_model_that_is_not_there(showtell: Shell, tmp_path: Path) -> None:
    prefix_lm = ("-s", "decoder.kind=prefix_lm", "-s", f"decoder.lm={tmp_path / 'none'}")
    done = showtell("train", "scenes:40", "-o", tmp_path / "run", *QUICK, *prefix_lm)
    assert done.returncode == 1
    assert "no such folder" in done.stderr
    assert done.stderr.count("\n") < 4
