"""Runs that are stopped or killed anywhere end with the same weights as one that never was."""

import json
import random
import shutil
import signal
import time
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import prepared
import pytest
import tiny_run
import torch
from tiny_run import StopAt, log_of, run, same_weights, scst_config
from tiny_world import SETTINGS, WIDTH, attending_config, tiny_config, tiny_store

from showtell.config import Config
from showtell.data.records import Dataset
from showtell.decoders.registry import build_decoder
from showtell.decoders.transformer import NUM_CLASSES
from showtell.encoders.concepts import Classes
from showtell.errors import CheckpointError, ConfigError
from showtell.inference.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from showtell.training.checkpoints import LEARNT_FROM
from showtell.training.run_log import RunLog
from showtell.training.state import TrainingState

WAYS = {
    "moving average": ("training.ema_decay=0.9",),
    "scheduled sampling": (
        "objective.scheduled_sampling_max_prob=0.5",
        "objective.scheduled_sampling_start=0",
        "objective.scheduled_sampling_increase_prob=0.3",
    ),
    "scst": ("objective.kind=scst",),
    "scst and moving average": (
        "objective.kind=scst",
        "training.ema_decay=0.9",
        "objective.baseline=greedy",
    ),
}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, store) -> Path:
    folder = tmp_path_factory.mktemp("start")
    run(folder, dataset, store, tiny_config("training.num_epochs=1"))
    return folder


def config_of(way: str, start: Path) -> Config:
    if "scst" in way:
        return scst_config(start, *WAYS[way])
    return tiny_config(*WAYS[way])


@pytest.mark.parametrize("way", WAYS)
def test_a_stopped_run_goes_on_to_the_same_weights(
    tmp_path: Path, dataset: Dataset, store, start: Path, way: str
) -> None:
    config, whole, pieces = config_of(way, start), tmp_path / "whole", tmp_path / "pieces"
    run(whole, dataset, store, config)
    for stop in (13, 26 - 13):  # in the middle of the second and of the third epoch, or near
        run(pieces, dataset, store, config, report=StopAt(stop), resume=True)
    assert load_checkpoint(pieces / "last").metrics["step"] == 26
    run(pieces, dataset, store, config, resume=True)
    assert same_weights(whole / "last", pieces / "last")
    assert same_weights(whole / "best", pieces / "best")
    assert log_of(whole) == log_of(pieces)


def test_other_captions_and_another_order_are_not_gone_on_with(
    tmp_path: Path, dataset: Dataset, store
) -> None:
    """What stands beside the data set, and the order of its pictures, make other batches."""
    text = tmp_path / "text.txt"
    captions = "a red kite\na blue kite\nthe white kite\n" * 9
    text.write_text(captions)
    names = ("kite", "dog", *[""] * (NUM_CLASSES - 2))
    classes = Classes(torch.zeros(NUM_CLASSES, WIDTH), torch.zeros(NUM_CLASSES), names)
    grid = tiny_store(tmp_path / "grid", dataset.records, grid_size=(2, WIDTH))
    config = attending_config(
        "transformer",
        "decoder.concepts=2",
        "decoder.num_layers=1",
        "training.num_epochs=1",
        "training.text_batch_size=4",
        "data.text_threshold=5",
        f"data.text={text}",
    )
    folder = tmp_path / "run"
    run(folder, dataset, grid, config, classes=classes, report=StopAt(2))
    before = (folder / "last" / "model.safetensors").read_bytes()
    said = r"the captions that .*run learns from are not the same now, or stand in another order"
    text.write_text(captions.replace("red kite", "white dog"))
    with pytest.raises(CheckpointError, match=said):
        run(folder, dataset, grid, config, classes=classes, resume=True)
    text.write_text(captions)
    turned = replace(dataset, records=dataset.records[::-1])
    with pytest.raises(CheckpointError, match=said):
        run(folder, turned, grid, config, classes=classes, resume=True)
    with pytest.raises(CheckpointError, match="give the folder of the run's features with --store"):
        run(folder, turned, grid, config, classes=classes, resume=True)
    assert (folder / "last" / "model.safetensors").read_bytes() == before
    # A state of 0.1.0, which does not say what it has learnt from, is gone on with.
    state = folder / "last" / "resume.json"
    data = json.loads(state.read_text())
    older = {name: value for name, value in data.items() if name not in LEARNT_FROM}
    assert len(older) == len(data) - 2
    state.write_text(json.dumps(older))
    assert not run(folder, turned, grid, config, classes=classes, resume=True).stopped


def test_other_weights_of_the_start_are_not_gone_on_with(
    tmp_path: Path, dataset: Dataset, store, start: Path
) -> None:
    """They are read again only where the run is averaged with them at its end."""
    own = shutil.copytree(start, tmp_path / "start")
    again = [f"training.init_from={own}", "training.num_epochs=1"]
    averaged = tiny_config(*again, "training.average_start=true")
    for folder, config in ((tmp_path / "a", averaged), (tmp_path / "b", tiny_config(*again))):
        run(folder, dataset, store, config, report=StopAt(2))
    weights = load_checkpoint(own)
    weights.decoder.output.bias.data += 1
    save_checkpoint(own / "best", weights)
    with pytest.raises(CheckpointError, match=r"the models that .*a learns from .* other weights"):
        run(tmp_path / "a", dataset, store, averaged, resume=True)
    assert not run(tmp_path / "b", dataset, store, tiny_config(*again), resume=True).stopped


def test_the_random_numbers_of_mps_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"state": torch.tensor([1, 2, 3], dtype=torch.uint8)}
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: kept["state"])
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda state: kept.update(state=state))
    decoder = build_decoder(tiny_config().decoder, vocab_size=9, feature_size=4)
    state = TrainingState.of(decoder, tiny_config())
    packed = state.pack("mps")
    before, kept["state"] = kept["state"], torch.zeros(3, dtype=torch.uint8)
    drawn = torch.rand(1)
    state.unpack(packed, Checkpoint(state.measured, None, tiny_config(), {}), "mps")
    assert torch.equal(kept["state"], before) and torch.equal(torch.rand(1), drawn)
    state.unpack(state.pack("cpu"), Checkpoint(state.measured, None, tiny_config(), {}), "mps")
    assert torch.equal(kept["state"], before)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["cross-entropy", "scst"])
def test_a_killed_process_goes_on_to_the_same_weights(
    tmp_path: Path, dataset: Dataset, store, start: Path, way: str
) -> None:
    """A real process, killed with SIGKILL at random steps, wherever in a step it then is."""
    extra = ["training.save_minutes=0.001", "training.ema_decay=0.9", "training.num_epochs=2"]
    if way == "scst":
        extra += ["objective.kind=scst", f"training.init_from={start}", "training.batch_size=4"]
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    run(whole, dataset, store, Config.load(None, (*SETTINGS, *extra)))
    rng, steps = random.Random(way), 20 if way == "scst" else 30
    for target in sorted(rng.sample(range(1, steps), 2)):
        process = start_process(pieces, store.path, extra)
        wait_for_step(process, pieces, target, rng.random() / 20)
        process.kill()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
    process = start_process(pieces, store.path, extra)
    process.join(300)
    assert process.exitcode == 0
    assert same_weights(whole / "last", pieces / "last")
    assert same_weights(whole / "best", pieces / "best")
    assert log_of(whole) == log_of(pieces)
    assert not list(pieces.glob(".*"))


def start_process(folder: Path, store: Path, settings: list[str]) -> BaseProcess:
    output = folder.with_name("output.txt")
    return prepared.start(tiny_run.main, str(folder), str(store), *settings, output=output)


def wait_for_step(process: BaseProcess, folder: Path, step: int, then_seconds: float) -> None:
    """Until the log has so many steps, and a moment more, so as not to meet a step's end alone."""
    log = folder / "training_log.txt"
    for _ in range(60_000):
        assert process.is_alive(), "the run ended before it was killed"
        if log.exists() and log.read_bytes().count(b"\n") >= step:
            time.sleep(then_seconds)
            return
        time.sleep(0.002)
    pytest.fail("no step for two minutes")


@pytest.mark.parametrize("name", ["../mine.txt", "/tmp/mine.txt", "a/../../mine.txt"])
def test_a_log_outside_of_the_runs_folder_is_not_cut(name: str, tmp_path: Path) -> None:
    """Settings of a run that somebody else made could name any file."""
    (tmp_path / "mine.txt").write_text("precious")
    (tmp_path / "run").mkdir()
    with pytest.raises(ConfigError, match=r"log_file = .* is not in the run's folder"):
        RunLog(tmp_path / "run", name, {"text": 0, "data": 0})
    assert (tmp_path / "mine.txt").read_text() == "precious"
