"""TensorBoard's event files, read back by TensorBoard itself."""

import builtins
import json
from pathlib import Path
from typing import Any

import pytest

from showtell.errors import MissingExtraError
from showtell.training.run_log import RunLog


def write(folder: Path, steps: range, offsets: dict[str, int] | None = None) -> dict[str, int]:
    """Log ``steps``, with a validation after each third; the offsets as of the step before last."""
    log = RunLog(folder, "log.txt", offsets, event_files=True, next_step=steps[0])
    with log:
        for step in steps:
            if step == steps[-1]:
                offsets = log.offsets()
            values = {"epoch": 1, "step": step, "loss": 10.0 / step, "lr": 0.1, "tokens": 7}
            log.step(f"step {step}", values | {"perplexity": 2.0, "seconds": 1.5})
            if step % 3 == 0:
                found = {"val_loss": 1.0, "val_perplexity": 2.7, "CIDEr-D": step / 10}
                log.epoch({"epoch": step // 3, "step": step, "validation": found})
    assert offsets
    return offsets


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {
        tag: [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_steps_and_validations_are_scalars(tmp_path: Path) -> None:
    write(tmp_path, range(1, 7))
    found = scalars(tmp_path)
    train, val = ["loss", "lr", "perplexity"], ["CIDEr-D", "loss", "perplexity"]
    assert sorted(found) == [f"train/{name}" for name in train] + [f"val/{name}" for name in val]
    assert found["train/loss"] == [(step, 10.0 / step) for step in range(1, 7)]
    assert found["val/CIDEr-D"] == [(3, 0.3), (6, 0.6)]


def test_a_resumed_run_has_each_step_once(tmp_path: Path) -> None:
    offsets = write(tmp_path, range(1, 6))  # stopped after step 5, saved after step 4
    write(tmp_path, range(5, 10), offsets)
    found = scalars(tmp_path)
    assert [step for step, _ in found["train/loss"]] == list(range(1, 10))
    assert [step for step, _ in found["val/loss"]] == [3, 6, 9]
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    steps = [entry["step"] for entry in map(json.loads, lines) if "loss" in entry]
    assert steps == list(range(1, 10))


def test_none_are_written_unless_asked_for(tmp_path: Path) -> None:
    with RunLog(tmp_path, "log.txt") as log:
        log.step("step 1", {"epoch": 1, "step": 1, "loss": 1.0})
    assert not (tmp_path / "tensorboard").exists()


def test_without_tensorboard_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_module = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return import_module(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[train\]"):
        RunLog(tmp_path, "log.txt", event_files=True)
