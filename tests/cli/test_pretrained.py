"""Names of models that come with showtell, with a small model in place of the real ones."""

import json
import re
from pathlib import Path

import pytest
import torch
from cli_shell import Shell
from PIL import Image

from showtell import Captioner, pretrained
from showtell.config import Config
from showtell.decoders.registry import build_decoder
from showtell.encoders.encoder import build_encoder
from showtell.errors import CheckpointError
from showtell.inference.checkpoint import (
    Checkpoint,
    find_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from showtell.inference.described import describe_folder, describe_model
from showtell.pretrained import CARD, model_names, shipped_folder
from showtell.text.vocabulary import WordVocabulary

NAME = "photos13k-lite2"


@pytest.fixture(scope="module")
def encoder_fingerprint() -> str:
    return build_encoder("lite0").fingerprint


@pytest.fixture
def shipped(tmp_path: Path, encoder_fingerprint: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped models with one in it, small, but with a real encoder."""
    folder = tmp_path / "pretrained"
    words = WordVocabulary({"a": 4, "dog": 3, "ball": 2, "on": 1}, 1)
    settings = ["encoder.name=lite0", "decoder.embed_size=8", "decoder.hidden_size=8"]
    config = Config.load(None, settings)
    torch.manual_seed(0)
    decoder = build_decoder(config.decoder, vocab_size=len(words), feature_size=1280)
    metrics = {
        "feature_size": 1280,
        "encoder_fingerprint": encoder_fingerprint,
        "data": "flickr8k",
        "metrics": {"BLEU-4": 0.25, "CIDEr-D": 0.65},
        "measured_on": "Flickr8k dev",
    }
    save_checkpoint(folder / NAME, Checkpoint(decoder.eval(), words, config, metrics))
    (folder / NAME / CARD).write_text("# The card\n\nIt says **all**.\n", encoding="utf-8")
    monkeypatch.setattr(pretrained, "FOLDER", folder)
    return folder / NAME


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 48), "red").save(tmp_path / "photo.jpg")
    return tmp_path / "photo.jpg"


def test_names_are_models_and_paths_are_folders(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("default").mkdir()
    assert find_checkpoint("default") == find_checkpoint(NAME) == shipped
    for folder in ("./default", Path("default"), str(tmp_path / "default")):
        with pytest.raises(CheckpointError, match="default holds no checkpoint"):
            find_checkpoint(folder)
    assert shipped_folder("elsewhere") is None
    with pytest.raises(CheckpointError, match=f"no model 'nowhere'.* names default, {NAME}"):
        load_checkpoint("nowhere")


def test_the_default_needs_no_name(shipped: Path) -> None:
    captioner = Captioner.load(device="cpu", precision="fp32")
    assert captioner.metrics["metrics"] == {"BLEU-4": 0.25, "CIDEr-D": 0.65}
    captions = captioner.caption([Image.new("RGB", (64, 48), "red")])
    assert len(captions) == 1


def test_caption_without_a_model(shipped: Path, photo: Path, showtell: Shell) -> None:
    said = showtell("caption", photo)
    assert (said.returncode, len(said.stdout.splitlines())) == (0, 1)
    assert showtell("caption", photo, "--model", NAME).stdout == said.stdout
    lost = showtell("caption", photo, "--model", "flickr8k")
    assert lost.returncode == 1
    assert re.fullmatch(
        rf"error: no model 'flickr8k'.*default, {NAME}; .*ollama:MODEL\.\n", lost.stderr
    )


def test_a_caption_that_is_not_sure_is_withheld(
    shipped: Path, photo: Path, showtell: Shell
) -> None:
    said = showtell("caption", photo).stdout.strip()
    withheld = showtell("caption", photo, "--min-confidence", "1")
    assert (withheld.returncode, withheld.stdout) == (0, "\n")
    assert re.fullmatch(rf"withheld: {photo}: confidence 0\.\d\d\n", withheld.stderr)
    record = json.loads(showtell("caption", photo, "--min-confidence", "1", "--json").stdout)
    assert (record["captions"][0]["caption"], record["captions"][0]["withheld"]) == ("", said)
    assert "withheld" not in showtell("caption", photo, "--json").stdout


def test_a_sheet_of_pictures(shipped: Path, photo: Path, showtell: Shell, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(photo.read_bytes()[:200])
    for name in ("sheet.jpg", "sheet.png"):
        done = showtell("sheet", photo, tmp_path / "broken.jpg", "-o", tmp_path / name)
        assert done.returncode == 1
        assert "broken.jpg" in done.stderr
        with Image.open(tmp_path / name) as sheet:
            assert sheet.format == {"jpg": "JPEG", "png": "PNG"}[name[-3:]]


def test_reliability_calibrates_a_model_but_not_the_shipped_one(
    shipped: Path, showtell: Shell, tmp_path: Path
) -> None:
    refused = showtell("reliability", "default", "scenes:40", "--calibrate")
    assert refused.returncode == 1
    assert "comes with showtell and is not changed" in refused.stderr
    assert showtell("pack", "default", "-o", tmp_path / "own").returncode == 0
    figure = tmp_path / "out.png"
    done = showtell(
        *("reliability", tmp_path / "own", "scenes:40", "--acceptable", "0", "--json"),
        *("--figure", figure),
    )
    assert done.returncode == 0, done.stderr
    now = json.loads(done.stdout)["now"]
    assert (now["num_captions"], now["acceptable"]) == (10, 1.0)
    assert sum(part["num"] for part in now["bins"]) == 10
    with Image.open(figure) as drawn:
        assert drawn.format == "PNG"


def test_the_list(shipped: Path, showtell: Shell) -> None:
    table = showtell("models").stdout
    assert re.search(rf"^{NAME} +default +0\.650 +0\.250 +0\.\d +lite0 +flickr8k$", table, re.M)
    assert f"figures of {NAME}: on Flickr8k dev\n" in table
    [values] = json.loads(showtell("models", "--json").stdout)["models"]
    assert values["measured_on"] == "Flickr8k dev"
    assert values["name"] == NAME
    assert values["metrics"]["CIDEr-D"] == 0.65
    assert values["aliases"] == ["default"]
    assert describe_model(NAME) == describe_model("default")
    assert model_names() == [NAME]


def test_a_card_is_shown_and_an_unknown_name_is_one_line(shipped: Path, showtell: Shell) -> None:
    shown = showtell("models", "default").stdout
    assert "The card" in shown
    assert "**" not in shown  # rendered
    assert shown.endswith(f"\nFolder: {shipped}\n")
    values = json.loads(showtell("models", NAME, "--json").stdout)
    assert values["card"] == describe_folder(shipped).card == "# The card\n\nIt says **all**.\n"
    lost = showtell("models", "photos13k-lite")
    assert lost.returncode == 1
    assert lost.stderr.count("\n") == 1
    assert f"Did you mean '{NAME}'" in lost.stderr


def test_a_model_that_is_not_whole_is_one_line(shipped: Path, showtell: Shell) -> None:
    (shipped / "metrics.json").write_text("[")
    with pytest.raises(CheckpointError, match="is incomplete"):
        describe_model("default")
    assert showtell("models").returncode == 1


def test_evaluating_a_shipped_model_writes_nothing_into_it(
    shipped: Path, showtell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(shipped.iterdir())
    done = showtell("evaluate", "default", "scenes:40", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    digits = found["fingerprint"][:8]
    assert found["predictions"] == f"evaluation/default-scenes-40-test-{digits}.json"
    assert sorted(shipped.iterdir()) == before


def test_training_starts_from_a_shipped_model(
    shipped: Path, showtell: Shell, tmp_path: Path
) -> None:
    settings = ["training.init_from=default", "training.num_epochs=1", "encoder.name=lite0"]
    settings += ["encoder.views=0", "decoder.embed_size=8", "decoder.hidden_size=8"]
    options = [option for setting in settings for option in ("-s", setting)]
    done = showtell("train", "scenes:40", "-o", tmp_path / "run", "--preset", "none", *options)
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(tmp_path / "run").vocabulary == load_checkpoint(NAME).vocabulary


def test_a_shipped_model_is_averaged_by_its_name(
    shipped: Path, showtell: Shell, tmp_path: Path
) -> None:
    done = showtell("average", "default", shipped, "-o", tmp_path / "mean")
    assert done.returncode == 0, done.stderr
    mean, own = (
        load_checkpoint(folder).decoder.state_dict() for folder in (tmp_path / "mean", NAME)
    )
    assert all(torch.equal(mean[name], own[name]) for name in own)


def test_the_name_of_an_older_model_loads_its_successor(shipped: Path) -> None:
    with pytest.warns(FutureWarning, match="'flickr8k-lite2' is gone: its successor 'photos13k"):
        assert shipped_folder("flickr8k-lite2") == shipped
