"""Which settings the runs of a sweep have: those of the same runs started one by one."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from showtell.config import Config
from showtell.core.progress import SilentReporter
from showtell.data.records import dataset_fingerprint
from showtell.data.request import DataRequest, open_data
from showtell.errors import CheckpointError
from showtell.training.request import TrainRequest
from showtell.training.settings import NONE, Layers
from showtell.training.sweep import Sweep, run_sweep


@pytest.mark.parametrize("preset", ["tiny", "small", "medium", "coco", NONE])
@pytest.mark.parametrize(
    ("common", "key", "values"),
    [
        ((), "decoder.kind", ("show_tell", "transformer", "up_down")),
        (("decoder.kind=attention",), "optimizer.lr", ("0.1", "0.2")),
        (("training.init_from=default",), "training.init_parts", ("model", "encoder")),
        (("training.init_from=default",), "data.graded", ("a.csv", "b.csv")),
    ],
)
def test_the_settings_are_those_of_single_runs(
    preset: str, common: tuple[str, ...], key: str, values: tuple[str, ...]
) -> None:
    axis = f"{key}={','.join(values)}"
    runs = Sweep.plan(Layers(preset=preset, overrides=[*common, axis])).runs
    for run, value in zip(runs, values, strict=True):
        alone = Layers(preset=preset, overrides=[*common, f"{key}={value}"])
        assert run.config() == alone.config()


def test_a_sweep_reads_the_settings_that_it_wrote(tmp_path: Path) -> None:
    layers = Layers(preset="tiny", overrides=["decoder.kind=show_tell,attention"])
    sweep = Sweep.plan(layers)
    sweep.write(tmp_path)
    read = Sweep.read(tmp_path)
    assert [run.config() for run in read.runs] == [run.config() for run in sweep.runs]
    assert [run.config().optimizer.lr for run in read.runs] == [2e-3, 1e-3]


def test_a_sweep_of_an_earlier_version_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file has what the runs share apart, and does not say whether there is old data."""
    data, old, seen = DataRequest("scenes:40"), DataRequest("scenes:48"), []

    def train_on(dataset: Any, request: TrainRequest, config: Config, **_: Any) -> None:
        seen.append((request.old, config))
        raise CheckpointError("this run fails")

    monkeypatch.setattr("showtell.training.sweep.train_on", train_on)
    common = {"decoder": {"kind": "attention"}, "training": {"init_from": "default"}}
    runs = [{"name": f"seed={seed}", "settings": {"seed": seed}} for seed in (1, 2)]
    file = tmp_path / "sweep.json"
    fingerprint = dataset_fingerprint(open_data(data, report=SilentReporter()))
    values = {"data": fingerprint, "settings": common, "runs": runs}
    file.write_text(json.dumps(values))
    shared = {"decoder": common["decoder"], "training": common["training"]}
    read = Sweep.read(tmp_path)
    assert [run.values for run in read.runs] == [shared | {"seed": seed} for seed in (1, 2)]
    del common["decoder"]
    file.write_text(json.dumps(values))
    run_sweep(TrainRequest(data, tmp_path, resume=True, old=old), report=SilentReporter())
    assert [(place, config.seed) for place, config in seen] == [(old, 1), (old, 2)]
    assert Sweep.read(tmp_path).old is not None
    file.write_text(json.dumps({"settings": {}, "runs": 3}))
    with pytest.raises(CheckpointError, match=r"cannot read .*sweep\.json"):
        Sweep.read(tmp_path)


def test_a_resumed_sweep_rehearses_the_same_old_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the runs that had not begun."""
    seen = []

    def train_on(dataset: Any, request: TrainRequest, *_: Any, **__: Any) -> None:
        seen.append(request.old)
        raise CheckpointError("this run fails")

    monkeypatch.setattr("showtell.training.sweep.train_on", train_on)
    old = DataRequest("scenes:48")
    asked = TrainRequest(
        DataRequest("scenes:40"), tmp_path / "with", overrides=["seed=1,2"], start="default"
    )
    resumed = TrainRequest(asked.data, asked.folder, resume=True)
    run_sweep(replace(asked, old=old), report=SilentReporter())
    run_sweep(resumed, report=SilentReporter())
    assert seen == [old] * 4
    run_sweep(replace(asked, folder=tmp_path / "without"), report=SilentReporter())
    with pytest.raises(CheckpointError, match="was begun without --old"):
        run_sweep(replace(resumed, folder=tmp_path / "without", old=old), report=SilentReporter())
