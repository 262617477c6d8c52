"""`showtell models FOLDER`: what a folder says of its model."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cli_shell import Shell
from decoder_cases import CASES
from tiny_export import native

from showtell.errors import CheckpointError
from showtell.inference.checkpoint import Checkpoint, save_checkpoint
from showtell.inference.described import describe_folder


def checkpoint(**metrics: object) -> Checkpoint:
    found = native(*CASES[0])._checkpoint
    known = {
        "data": "scenes:40",
        "num_pictures": {"train": 40, "val": 5},
        "epoch": 2,
        "metrics": {"CIDEr-D": 0.5, "val_loss": 1.25, "BLEU-1": 0.125},
    }
    return replace(found, metrics=found.metrics | known | metrics)


def test_a_run_is_described_by_its_best_checkpoint(tmp_path: Path, showtell: Shell) -> None:
    run = tmp_path / "run"
    save_checkpoint(run / "best", checkpoint())
    save_checkpoint(run / "last", checkpoint(epoch=4))
    num_bytes = sum(path.stat().st_size for path in (run / "best").iterdir())
    said = showtell("models", run)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.splitlines() == [
        "encoder:    lite2",
        "decoder:    show_tell",
        "vocabulary: 30 words",
        f"size:       {num_bytes / 1e6:.1f} MB, weights in fp32",
        "trained on: scenes:40",
        "pictures:   train 40, val 5",
        "epoch:      2",
        "validation: CIDEr-D 0.500, val_loss 1.250",
        "",
        f"Folder: {run / 'best'}",
    ]
    values = json.loads(showtell("models", run, "--json").stdout)
    assert (values["name"], values["epoch"], values["card"]) == ("run", 2, None)
    assert values["metrics"]["BLEU-1"] == 0.125
    assert describe_folder(run / "last").epoch == 4


def test_a_mean_has_members_and_no_epoch(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(averaged=["run/epoch-1", "run/epoch-2"], metrics=None))
    described = describe_folder(tmp_path)
    assert described.epoch is None
    assert "mean of:    run/epoch-1, run/epoch-2" in described.lines()
    assert not any(line.startswith("validation") for line in described.lines())


def test_a_card_is_shown(tmp_path: Path, showtell: Shell) -> None:
    save_checkpoint(tmp_path / "model", checkpoint())
    (tmp_path / "model" / "MODEL_CARD.md").write_text("The card.")
    assert showtell("models", tmp_path / "model").stdout.startswith("The card.")
    values = json.loads(showtell("models", tmp_path / "model", "--json").stdout)
    assert (values["card"], values["data"]) == ("The card.", "scenes:40")


def test_a_folder_that_is_not_there_is_no_unknown_name(tmp_path: Path, showtell: Shell) -> None:
    result = showtell("models", tmp_path / "runs")
    assert result.returncode == 1
    assert f"no model '{tmp_path}/runs': give the folder that `train -o` made" in result.stderr
    assert result.stderr.count("\n") == 1 and "Did you mean" not in result.stderr
    assert showtell("models", "defalt").stderr.endswith("Did you mean 'default'?\n")


def test_what_is_no_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no model: give the folder of a run"):
        describe_folder(tmp_path)
    save_checkpoint(tmp_path / "model", checkpoint())
    (tmp_path / "model" / "metrics.json").write_text("[")
    with pytest.raises(CheckpointError, match=r"is incomplete: .*not JSON"):
        describe_folder(tmp_path / "model")
    (tmp_path / "model" / "metrics.json").write_text("[]")
    with pytest.raises(CheckpointError, match="model is incomplete: "):
        describe_folder(tmp_path / "model")
