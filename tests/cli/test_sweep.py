"""Sweeps from the command line: whole, stopped and resumed, with a run that fails."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
from cli_shell import SMALL, Shell
from safetensors.numpy import load_file

from showtell.cli.console import ConsoleReporter
from showtell.cli.train import print_table
from showtell.core.progress import StepReport
from showtell.training.sweep import Sweep

DATA = ("train", "scenes:40")
GRID = (*SMALL, "-s", "optimizer.lr=1e-2,.005")


def sweep_of(folder: Path) -> dict:
    return json.loads((folder / "sweep.json").read_text())


def same_weights(one: Path, two: Path) -> bool:
    a, b = (load_file(folder / "last" / "model.safetensors") for folder in (one, two))
    return a.keys() == b.keys() and all((a[key] == b[key]).all() for key in a)


@pytest.fixture(scope="module")
def whole(showtell: Shell, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A sweep of two runs, and what it printed."""
    folder = tmp_path_factory.mktemp("sweeps") / "whole"
    result = showtell(*DATA, "-o", folder, *GRID)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("encoded ") <= 1  # one store for both
    return folder, result.stdout


def test_a_sweep_trains_every_combination_and_ends_with_a_table(whole: tuple[Path, str]) -> None:
    folder, printed = whole
    assert {path.name for path in folder.iterdir()} == {
        "sweep.json",
        "optimizer.lr=0.01",
        "optimizer.lr=.005",
    }
    kept = sweep_of(folder)
    assert [run["status"] for run in kept["runs"]] == ["finished"] * 2
    assert [run["settings"] for run in kept["runs"]] == [
        {"optimizer.lr": 0.01},
        {"optimizer.lr": ".005"},
    ]
    for run in kept["runs"]:
        best = json.loads((folder / run["name"] / "best" / "metrics.json").read_text())
        assert run["metrics"] == best["metrics"]
        assert run["best_epoch"] == best["epoch"]
        assert run["seconds"] > 0
    header, _, *rows = [line.split() for line in printed.splitlines() if line.strip()][:4]
    assert header == ["optimizer.lr", "best", "epoch", "CIDEr-D", "BLEU-4", "val_loss", "time"]
    assert [row[0] for row in rows] == ["0.01", ".005"]
    scores = {f"optimizer.lr={row[0]}": float(row[2]) for row in rows}
    [marked] = [f"optimizer.lr={row[0]}" for row in rows if row[-1] == "best"]
    assert marked == kept["best"]
    assert scores[marked] == max(scores.values())
    assert f"showtell report {folder}/*/" in printed


def test_a_run_of_a_sweep_is_the_same_as_that_run_alone(
    showtell: Shell, whole: tuple[Path, str], tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    result = showtell(*DATA, "-o", alone, *SMALL, "-s", "optimizer.lr=0.005", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["metrics"] == sweep_of(whole[0])["runs"][1]["metrics"]
    assert same_weights(alone, whole[0] / "optimizer.lr=.005")
    config = (alone / "config.toml").read_text()
    assert (whole[0] / "optimizer.lr=.005" / "config.toml").read_text() == config


def test_a_finished_sweep_is_left_alone_and_what_is_gone_is_made_again(
    showtell: Shell, whole: tuple[Path, str], tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(whole[0], folder)
    again = showtell(*DATA, "-o", folder, *GRID)
    assert (again.returncode, again.stdout) == (1, "")
    command = f"showtell train scenes:40 -o {folder} --resume"
    assert f"already holds a sweep; to continue it: {command};" in again.stderr
    again = showtell(*DATA, "-o", folder, *GRID, "--resume")
    assert f"a resumed sweep keeps its own settings; to continue it: {command}\n" in again.stderr
    other = showtell("train", "scenes:48", "-o", folder, "--resume")
    assert other.returncode == 1
    assert "the data is not what" in other.stderr
    shutil.rmtree(folder / "optimizer.lr=.005")
    result = showtell(*DATA, "-o", folder, "--resume", "--json")
    assert result.returncode == 0, result.stderr
    assert "run 1 of 2, optimizer.lr=0.01: finished before" in result.stderr
    assert json.loads(result.stdout) == sweep_of(folder)
    assert same_weights(folder / "optimizer.lr=.005", whole[0] / "optimizer.lr=.005")


def test_a_stopped_sweep_goes_on(
    showtell: Shell, whole: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of the second of two runs."""
    folder, steps = tmp_path / "sweep", []

    def step(self: ConsoleReporter, report: StepReport) -> None:
        steps.append(report)
        if len(steps) == 2 * report.num_steps + 2:  # the first run has two epochs
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(ConsoleReporter, "step", step)
        result = showtell(*DATA, "-o", folder, *GRID)
    assert result.returncode == 130, result.stderr
    assert result.stdout == ""
    hint = f"stopped; to resume: showtell train scenes:40 -o {folder} --resume"
    assert result.stderr.splitlines()[-1] == hint
    assert [run["status"] for run in sweep_of(folder)["runs"]] == ["finished", "stopped"]
    metrics = folder / "optimizer.lr=.005" / "last" / "metrics.json"
    assert json.loads(metrics.read_text())["step"] == 2
    before = (folder / "optimizer.lr=0.01" / "training_log.txt").stat().st_mtime_ns
    result = showtell(*DATA, "-o", folder, "--resume")
    assert result.returncode == 0, result.stderr
    assert "resuming after epoch 0, step 2" in result.stderr
    assert (folder / "optimizer.lr=0.01" / "training_log.txt").stat().st_mtime_ns == before
    assert [run["status"] for run in sweep_of(folder)["runs"]] == ["finished"] * 2
    for run in ("optimizer.lr=0.01", "optimizer.lr=.005"):
        assert same_weights(folder / run, whole[0] / run)


def test_a_run_that_fails_does_not_end_the_sweep(showtell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    grid = ("-s", "optimizer.lr=1e30,1e-2", "-s", "optimizer.warmup_steps=0")
    result = showtell(*DATA, "-o", folder, *SMALL, *grid, "-s", "training.precision=fp32")
    assert result.returncode == 1, result.stderr
    failed, fine = sweep_of(folder)["runs"]
    assert (failed["status"], fine["status"]) == ("failed", "finished")
    assert "the loss is nan at step" in failed["reason"]
    assert result.stderr.splitlines()[-1] == f"error: optimizer.lr=1e+30 failed: {failed['reason']}"
    row = next(line for line in result.stdout.splitlines() if "1e+30" in line)
    assert row.split() == ["1e+30", "-", "-", "-", "-", "-", "failed"]
    assert sweep_of(folder)["best"] == "optimizer.lr=0.01"


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (
            ("optimizer.lr=1,-1,-2",),
            "optimizer.lr=-1: wrong settings: optimizer.lr = -1: .*; optimizer.lr=-2: wrong",
        ),
        (("optimizer.lr=1,2", "decoder.kidn=x"), "error: wrong settings: decoder.kidn: no such"),
        (("optimizer.lr=0.5,.5",), "optimizer.lr=.5: the same settings as optimizer.lr=0.5"),
        (("encoder.name=lite0,lite3",), "encoder.name=lite3: unknown encoder 'lite3'"),
        (("encoder.train_from=stage5,stage9",), "train_from=stage9: .*'stage9'.*Known: "),
        (("training.init_from=nowhere,/none",), "init_from=nowhere: no model.*; init_from=none:"),
        (
            ("objective.kind=distil", 'objective.teachers=["default"],["nowhere"]'),
            "error: teachers=.*nowhere.*: no model",
        ),
        (("optimizer.lr=1e-3,",), "nothing before or after a comma"),
        (("seed=1,2", "seed=3"), "seed is given twice"),
    ],
)
def test_all_that_is_wrong_is_said_before_the_first_run(
    showtell: Shell, tmp_path: Path, grid: tuple[str, ...], message: str
) -> None:
    settings = [part for setting in grid for part in ("-s", setting)]
    result = showtell(*DATA, "-o", tmp_path / "sweep", *settings)
    assert (result.returncode, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    assert re.search(message, result.stderr), result.stderr
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"runs": [{"name": "../x=1"}]}'])
def test_a_damaged_sweep_is_one_line(showtell: Shell, tmp_path: Path, text: str) -> None:
    (tmp_path / "sweep.json").write_text(text)
    result = showtell(*DATA, "-o", tmp_path, "--resume")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "sweep.json" in result.stderr


def test_a_sweep_does_not_go_into_a_runs_folder(showtell: Shell, model: Path) -> None:
    result = showtell(*DATA, "-o", model, *GRID)
    assert result.returncode == 1
    assert "already holds a run" in result.stderr
    assert not (model / "sweep.json").exists()


def test_a_sweep_reads_what_it_wrote(whole: tuple[Path, str]) -> None:
    assert Sweep.read(whole[0]).to_dict() == sweep_of(whole[0])


def test_the_table_is_never_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    value = "[bold]" + 30 * "long/"
    done = {"status": "finished", "best_epoch": 12, "seconds": 3725.4}
    metrics = {"CIDEr-D": 0.5, "BLEU-4": 0.25, "val_loss": 3.0}
    runs = [
        {"name": "a=1", "settings": {"training.init_from": value, "training.compile": True}},
        {"name": "a=2", "settings": {"training.init_from": "b", "training.compile": False}},
    ]
    for run in runs:
        run["values"] = {}
    runs[0] |= done | {"metrics": metrics | {"val_loss": 3.5}}
    runs[1] |= done | {"metrics": metrics}
    print_table(Sweep.model_validate({"runs": runs}), Path("a b"))
    _, _, one, two, *_, model, report = filter(str.strip, capsys.readouterr().out.splitlines())
    assert one.split() == [value, "true", "12", "0.5000", "0.2500", "3.5000", "1:02:05"]
    assert two.split() == ["b", "false", "12", "0.5000", "0.2500", "3.0000", "1:02:05", "best"]
    assert model == "the model is a b/a=2/best"
    assert report == "to compare all: showtell report 'a b'/*/"
