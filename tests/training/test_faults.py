"""A loss or a gradient that is not finite: the step is skipped, and many in a row end the run."""

from collections.abc import Collection
from pathlib import Path

import pytest
import torch
from tiny_run import Notes, make_run, same_weights, steps_of
from tiny_world import tiny_config

from showtell.data.records import Dataset
from showtell.errors import ShowtellError
from showtell.inference.checkpoint import load_checkpoint
from showtell.training.loop import MOST_SKIPPED, Run

CONFIG = tiny_config("training.num_epochs=2", "training.ema_decay=0.9", "decoder.dropout=0")
STEPS_PER_EPOCH = 15


def spoil_gradients(run: Run, steps: Collection[int]) -> None:
    """Have one number of a gradient be infinite at these steps, which count from 1."""

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        if run.state.progress.step + 1 in steps:
            gradient = gradient.clone()
            gradient.view(-1)[5] = float("inf")
        return gradient

    next(run.state.decoder.parameters()).register_hook(spoil)


def is_finite(folder: Path) -> bool:
    weights = load_checkpoint(folder).decoder.state_dict().values()
    return all(bool(weight.isfinite().all()) for weight in weights)


def test_an_infinite_gradient_changes_no_weight(tmp_path: Path, dataset: Dataset, store) -> None:
    report = Notes()
    run = make_run(tmp_path / "run", dataset, store, CONFIG, report=report)
    seen = {}
    spoil_gradients(run, {7})
    take = run._skip

    def remember(fault: str) -> None:
        seen["optimizer"] = [int(s["step"]) for s in run.state.optimizer.state.values()]
        take(fault)

    run._skip = remember
    result = run.run()
    told = [note for note in report.notes if "skipped" in note]
    assert told == ["step 7 is skipped: the norm of the gradient is inf; the weights are unchanged"]
    assert set(seen["optimizer"]) == {6}
    assert [step["step"] for step in steps_of(tmp_path / "run")] == [
        number for number in range(1, 2 * STEPS_PER_EPOCH + 1) if number != 7
    ]
    assert is_finite(tmp_path / "run" / "last") and is_finite(tmp_path / "run" / "best")
    assert result.best_epoch


def test_the_weights_are_to_the_bit_what_they_were(tmp_path: Path, dataset: Dataset, store) -> None:
    """Batch norm's running averages, too, although the step went forward."""
    run = make_run(tmp_path / "run", dataset, store, CONFIG)
    spoil_gradients(run, {2})
    states = []
    update = run._skip
    log = run._log_step

    def keep(*arguments: object) -> None:
        states.append({k: v.clone() for k, v in run.state.decoder.state_dict().items()})
        (update if isinstance(arguments[0], str) else log)(*arguments)

    run._skip = run._log_step = keep
    run.run()
    assert any("running_mean" in name for name in states[0])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[1][name], states[2][name]) for name in states[0])


def test_too_many_in_a_row_end_the_run(tmp_path: Path, dataset: Dataset, store) -> None:
    report, folder = Notes(), tmp_path / "run"
    run = make_run(folder, dataset, store, CONFIG, report=report)
    spoil_gradients(run, range(STEPS_PER_EPOCH + 3, 99))
    message = (
        rf"the norm of the gradient is inf at step {STEPS_PER_EPOCH + 3 + MOST_SKIPPED}, "
        rf"and {MOST_SKIPPED} steps before it.*lower optimizer\.lr"
    )
    with pytest.raises(ShowtellError, match=message):
        run.run()
    assert sum("is skipped" in note for note in report.notes) == MOST_SKIPPED
    assert load_checkpoint(folder / "last").metrics["step"] == STEPS_PER_EPOCH
    assert is_finite(folder / "last")


def test_some_that_are_not_in_a_row_do_not(tmp_path: Path, dataset: Dataset, store) -> None:
    run = make_run(tmp_path / "run", dataset, store, CONFIG)
    spoil_gradients(run, range(1, 99, 2))
    run.run()
    assert len(steps_of(tmp_path / "run")) == STEPS_PER_EPOCH


def test_a_run_that_skipped_a_step_resumes_to_the_same_weights(
    tmp_path: Path, dataset: Dataset, store
) -> None:
    for name, stop in (("whole", None), ("pieces", 9)):
        run = make_run(tmp_path / name, dataset, store, CONFIG)
        spoil_gradients(run, {8, 9, 10})
        if stop:
            skip = run._skip

            def stop_after(fault: str, run: Run = run, skip=skip) -> None:
                skip(fault)
                if run.state.progress.step == 9:
                    run.checkpoints.save(
                        "last", run.state, log_offsets={"text": 10**9, "data": 10**9}
                    )
                    raise ShowtellError("killed")

            run._skip = stop_after
            with pytest.raises(ShowtellError, match="killed"):
                run.run()
            run = make_run(tmp_path / name, dataset, store, CONFIG, resume=True)
            assert run.state.progress.num_skipped == 2
            spoil_gradients(run, {8, 9, 10})
        run.run()
    assert same_weights(tmp_path / "whole" / "last", tmp_path / "pieces" / "last")
