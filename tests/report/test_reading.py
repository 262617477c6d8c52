"""Logs of every kind of run, and the curves that are made of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from showtell.errors import CheckpointError
from showtell.report.reading import MAX_POINTS, Log, mean_speed, read_run, smooth, speed


def step(number: int, epoch: int = 1, **more: float) -> str:
    values = {"epoch": epoch, "step": number, "loss": 5 / number, "lr": 0.1, "tokens": 100}
    return json.dumps(values | {"seconds": number * 0.5} | more)


def epoch(number: int, step: int, score: float = 0.5) -> str:
    found = {"CIDEr-D": score, "val_loss": 1.0}
    return json.dumps({"epoch": number, "step": step, "validation": found})


def log_of(folder: Path, *lines: str, end: str = "\n") -> Log:
    (folder / "metrics.jsonl").write_text("\n".join(lines) + end)
    return read_run(folder).log


def test_steps_and_epochs_are_read(tmp_path: Path) -> None:
    log = log_of(tmp_path, step(1), step(2), epoch(1, 2), step(3, 2), step(4, 2), epoch(2, 4))
    assert log.series("loss")[0].tolist() == [1, 2, 3, 4]
    assert log.series("loss")[1] == pytest.approx([5, 2.5, 5 / 3, 1.25])
    assert [(e.epoch, e.step) for e in log.epochs] == [(1, 2), (2, 4)]
    assert log.validation("CIDEr-D")[1].tolist() == [0.5, 0.5]
    assert (log.last_step, log.num_unreadable) == (4, 0)
    assert [len(part) for part in log.series("reward")] == [0, 0]


@pytest.mark.parametrize("log", [None, ""])
def test_a_run_without_a_step_and_without_a_checkpoint_is_refused(
    tmp_path: Path, log: str | None
) -> None:
    (tmp_path / "run.json").write_text("{}")
    if log is not None:
        (tmp_path / "metrics.jsonl").write_text(log)
    with pytest.raises(CheckpointError, match=f"{tmp_path} has nothing to report: no step in"):
        read_run(tmp_path)


@pytest.mark.parametrize("cut", range(1, len(step(3)), 7))
def test_a_half_written_last_line_is_not_there_yet(tmp_path: Path, cut: int) -> None:
    log = log_of(tmp_path, step(1), step(2), step(3)[:cut], end="")
    assert log.last_step == 2
    assert log.num_unreadable == 0


def test_lines_that_are_no_figures_are_counted(tmp_path: Path) -> None:
    odd = (
        "nonsense",
        "[]",
        '{"loss": 1}',
        '{"epoch": 1, "step": "x"}',
        '{"epoch": 1, "step": NaN}',
    )
    log = log_of(tmp_path, step(1), *odd, step(2))
    assert (log.last_step, log.num_unreadable) == (2, len(odd))


def test_what_was_done_again_counts_once(tmp_path: Path) -> None:
    """A copy of a log that was not cut back: killed after step 5, resumed from step 3."""
    again = [step(4, 2, loss=9.0), step(5, 2, loss=9.0), epoch(2, 5, 0.9)]
    first = [*map(step, (1, 2)), epoch(1, 2), *(step(n, 2) for n in (3, 4, 5)), epoch(2, 5, 0.1)]
    log = log_of(tmp_path, *first, *again)
    assert log.series("loss")[0].tolist() == [1, 2, 3, 4, 5]
    assert log.series("loss")[1][3:].tolist() == [9, 9]
    assert log.validation("CIDEr-D")[1].tolist() == [0.5, 0.9]


def test_figures_that_only_some_steps_have(tmp_path: Path) -> None:
    log = log_of(tmp_path, step(1), step(2, reward=0.5), step(3), step(4, loss=float("nan")))
    assert [part.tolist() for part in log.series("reward")] == [[2], [0.5]]
    assert log.series("loss")[0].tolist() == [1, 2, 3]


def test_intervals_of_a_validation(tmp_path: Path) -> None:
    """Older runs log none, and what is not an interval is none."""
    later = json.loads(epoch(2, 4)) | {"intervals": {"CIDEr-D": [0.4, 0.6], "BLEU-4": [0.1]}}
    odd = json.loads(epoch(3, 6)) | {"intervals": {"CIDEr-D": [float("nan"), "x"], "METEOR": 1}}
    log = log_of(tmp_path, epoch(1, 2), json.dumps(later), json.dumps(odd))
    low, high = log.band("CIDEr-D")
    assert low.tolist() == pytest.approx([np.nan, 0.4, np.nan], nan_ok=True)
    assert high.tolist() == pytest.approx([np.nan, 0.6, np.nan], nan_ok=True)
    assert log.band("BLEU-4") is None
    assert log_of(tmp_path, epoch(1, 2)).band("CIDEr-D") is None


def test_the_best_epoch_is_that_of_the_best_checkpoint(tmp_path: Path) -> None:
    log_of(tmp_path, step(1), epoch(1, 1, 0.2), step(2, 2), epoch(2, 2, 0.4), epoch(3, 2, 0.3))
    assert read_run(tmp_path).best_epoch.epoch == 2
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "metrics.json").write_text('{"epoch": 3}')
    assert read_run(tmp_path).best_epoch.epoch == 3


def test_speed_leaves_out_what_lies_between_epochs(tmp_path: Path) -> None:
    """100 tokens a step of half a second; a validation of a minute after step 20."""
    steps = [step(n) for n in range(1, 21)]
    steps += [step(n, 2, seconds=60 + n * 0.5) for n in range(21, 41)]
    log = log_of(tmp_path, *steps)
    assert mean_speed(log) == pytest.approx(200)
    assert speed(log)[1] == pytest.approx(np.full(20, 200))
    assert mean_speed(Log()) is None


def test_a_long_run_becomes_few_points() -> None:
    x = np.arange(1.0, 100_001)
    curve = smooth(x, 3 + np.sin(x))
    assert [len(part) for part in curve] == [MAX_POINTS] * 4
    assert curve.y == pytest.approx(np.full(MAX_POINTS, 3), abs=0.02)


@given(st.lists(st.floats(-1e6, 1e6), max_size=700))
def test_smoothing_keeps_the_mean_the_order_and_the_bounds(values: list[float]) -> None:
    y, x = np.array(values), np.arange(1.0, len(values) + 1)
    curve = smooth(x, y)
    assert len(curve.x) == len(curve.y) <= MAX_POINTS
    assert np.all(np.diff(curve.x) > 0)
    if values:
        assert y.min() - 1e-6 <= curve.y.min() and curve.y.max() <= y.max() + 1e-6
        assert np.all(curve.low <= curve.high)
    if 0 < len(values) <= 20:
        assert curve.y.tolist() == values
