"""Several processes that train together, by gloo on this machine: as one process would.

What is compared with one process has no dropout, whose random numbers each process has its own.
"""

import json
import socket
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import tiny_run
import torch
from prepared import start
from process_worker import check_together
from tiny_run import log_of, run, same_weights, scst_config, steps_of
from tiny_world import WIDTH, attending_config, tiny_config, tiny_records, tiny_store

from showtell.config import Config
from showtell.core.device import choose_runtime
from showtell.core.distributed import Processes
from showtell.data.records import Dataset
from showtell.decoders.layers import BatchNorm, share_batch_norms
from showtell.encoders.store import FeatureStore
from showtell.errors import ConfigError
from showtell.inference.checkpoint import load_checkpoint
from showtell.training.batches import ViewLoader

GRID = (5, WIDTH)


def test_the_parts_are_the_whole() -> None:
    for size in (1, 2, 3, 7):
        for num in range(12):
            parts = [list(Processes(rank, size).part(num)) for rank in range(size)]
            assert list(chain.from_iterable(parts)) == list(range(num))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_who_is_who(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Processes.from_environment() == Processes(0, 1, 0, 1)
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    for name, value in zip(names, "5812", strict=True):
        monkeypatch.setenv(name, value)
    assert Processes.from_environment() == Processes(5, 8, 1, 2)
    assert Processes(1, 2).device("cpu") == "cpu"
    with pytest.raises(ConfigError, match="expected auto, cpu or cuda"):
        Processes(1, 2).device("cuda:1")
    assert Processes().device("cuda:1") == "cuda:1"


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_captions_of_a_picture_stay_together(tmp_path: Path, size: int) -> None:
    store = tiny_store(tmp_path, tiny_records(12), grid_size=GRID)
    load = ViewLoader(store, choose_runtime("cpu", "fp32"), seed=3, num_views=2, regions=True)
    rows = np.random.default_rng(0).integers(0, 8, 20)
    everything = load.of_captions(rows, 5, np.arange(20))
    assert everything.regions is not None
    whole = everything.by_caption(everything.regions)
    seen, pictures = [], []
    for rank in range(size):
        part = load.part_of_captions(rows, Processes(rank, size))
        seen.extend(part)
        if len(part):
            pictures.extend(np.unique(rows[part]))
            own = load.of_captions(rows, 5, part)
            assert own.regions is not None
            assert torch.equal(own.by_caption(own.regions), whole[part])
    assert sorted(seen) == list(range(20))
    assert sorted(pictures) == sorted(set(rows))


def test_one_process_has_what_torch_has() -> None:
    """A batch norm whose rows are all here gives what ``nn.BatchNorm1d`` gives."""
    for num in (1, 6):
        own, other = BatchNorm(4), BatchNorm(4)
        share_batch_norms(other, lambda tensor: None)
        outcomes = [
            _norm(norm, torch.arange(4.0 * num).view(num, 4).sin()) for norm in (own, other)
        ]
        for one, two in zip(*outcomes, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def _norm(norm: BatchNorm, rows: torch.Tensor) -> list[torch.Tensor]:
    """Output, gradients and averages of a step whose loss is not symmetric."""
    rows = (rows + 10).requires_grad_()
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, 4))
    out = norm(rows)
    (out * torch.arange(out.numel()).view_as(out)).square().sum().backward()
    grads = [rows.grad, norm.weight.grad, norm.bias.grad]
    return [out.detach(), *grads, norm.running_mean, norm.running_var, norm.num_batches_tracked]


def test_processes_compute_together(tmp_path: Path) -> None:
    """Three of them, in one test."""
    port, output = _free_port(), tmp_path / "output.txt"
    started = [start(check_together, rank, 3, port, output=output) for rank in range(3)]
    for process in started:
        process.join(120)
    assert [process.exitcode for process in started] == [0, 0, 0], output.read_text()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def train_together(num: int, folder: Path, store: Path, *settings: str) -> None:
    """As torchrun would start them; tests/cli/test_torchrun.py has it do so."""
    output = folder.with_name(f"{folder.name}.txt")
    world = {"WORLD_SIZE": num, "LOCAL_WORLD_SIZE": num}
    master = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _free_port()}
    started = [
        start(
            *(tiny_run.main, str(folder), str(store), *settings),
            output=output,
            **(world | master | {"RANK": rank, "LOCAL_RANK": rank}),
        )
        for rank in range(num)
    ]
    for process in started:
        process.join(600)
    assert [process.exitcode for process in started] == [0] * num, output.read_text()


@pytest.fixture
def grid_store(tmp_path: Path, dataset: Dataset) -> FeatureStore:
    return tiny_store(tmp_path / "grid", dataset.records, grid_size=GRID)


# 120 captions; of 17 a step, the short step has one caption, of which the second process has none.
FEW = ["training.num_epochs=2", "training.batch_size=17", "decoder.dropout=0"]


def settings_of(config: Config) -> list[str]:
    """A configuration as ``section.key=value``, for another process."""
    values = config.model_dump(mode="json", exclude_none=True)
    sections = {name: part for name, part in values.items() if isinstance(part, dict)}
    return [f"{s}.{key}={json.dumps(v)}" for s, part in sections.items() for key, v in part.items()]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["show_tell", "attention", "scst"])
def test_two_processes_train_as_one(
    tmp_path: Path, dataset: Dataset, store: FeatureStore, grid_store: FeatureStore, way: str
) -> None:
    if way == "show_tell":
        config = tiny_config(*FEW, "training.ema_decay=0.9")
    elif way == "attention":
        store = grid_store
        config = attending_config("attention", *FEW)
    else:
        run(tmp_path / "start", dataset, store, tiny_config("training.num_epochs=2"))
        config = scst_config(tmp_path / "start", *FEW[:1], "training.batch_size=13", FEW[2])
    run(tmp_path / "one", dataset, store, config)
    train_together(2, tmp_path / "two", store.path, *settings_of(config))
    one, two = (steps_of(tmp_path / name) for name in ("one", "two"))
    assert len(one) == len(two) == (8 if way == "scst" else 16)
    for name in ("loss", "tokens", "lr", "reward" if way == "scst" else "objective"):
        expected = [step[name] for step in one]
        assert [step[name] for step in two] == pytest.approx(expected, rel=2e-4, abs=2e-5), name
    validations = [
        [entry["validation"] for entry in log_of(tmp_path / name) if "validation" in entry]
        for name in ("one", "two")
    ]
    assert len(validations[0]) == 2
    for expected, found in zip(*validations, strict=True):
        assert found == pytest.approx(expected, rel=2e-3, abs=1e-4)
    # A bias before a batch norm has no gradient but rounding errors, which Adam makes large.
    no_matter = ("linear.bias", "norm.running_mean")
    states = [
        load_checkpoint(tmp_path / name / "last").decoder.state_dict() for name in ("one", "two")
    ]
    weights = [{k: v for k, v in one.items() if not k.endswith(no_matter)} for one in states]
    assert len(weights[0]) == len(states[0]) - 2
    torch.testing.assert_close(*weights, rtol=0, atol=2e-3)


@pytest.mark.slow
def test_stopped_and_resumed_they_come_to_the_same_weights(
    tmp_path: Path, dataset: Dataset, store: FeatureStore
) -> None:
    """With dropout. A stop that only the second process was asked for is everyone's."""
    settings = settings_of(tiny_config("training.num_epochs=3"))
    train_together(2, tmp_path / "whole", store.path, *settings)
    pieces = tmp_path / "pieces"
    train_together(2, pieces, store.path, *settings, "--stop-second-at=20")
    assert load_checkpoint(pieces / "last").metrics["step"] == 20
    train_together(2, pieces, store.path, *settings)
    assert same_weights(tmp_path / "whole" / "last", pieces / "last")
    assert same_weights(tmp_path / "whole" / "best", pieces / "best")
    assert log_of(tmp_path / "whole") == log_of(pieces)
