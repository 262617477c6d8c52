"""One run, from the first step to the last, and in pieces."""

import errno
import json
import math
import re
import shutil
from pathlib import Path

import pytest
from tiny_run import Notes, StopAt, log_of, make_run, run, same_weights
from tiny_world import tiny_config

import showtell.inference.checkpoint as checkpoint_module
from showtell.data.records import Dataset
from showtell.errors import CheckpointError, ShowtellError
from showtell.inference.checkpoint import load_checkpoint
from showtell.training.validation import measure

STEPS_PER_EPOCH = 15  # 40 training pictures, 3 captions each, 8 a batch
LINE = re.compile(
    r"Epoch \[(\d+)/(\d+)\], Step \[(\d+)/(\d+)\], Loss: \d+\.\d{4}, Perplexity: \d+\.\d{4}"
)


def test_learns_what_the_pictures_show(tmp_path: Path, dataset: Dataset, store) -> None:
    result = run(tmp_path / "run", dataset, store, tiny_config("training.num_epochs=12"))
    assert result.metrics["CIDEr-D"] > 2.5
    assert result.metrics["val_perplexity"] < 3
    assert not result.stopped


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, store) -> Path:
    """A run of three epochs that was never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder, dataset, store, tiny_config())
    return folder


def test_writes_the_notebooks_log_and_the_same_as_data(whole: Path) -> None:
    lines = (whole / "training_log.txt").read_text().splitlines()
    assert len(lines) == 3 * STEPS_PER_EPOCH
    found = [LINE.fullmatch(line).groups() for line in lines]
    assert found[0] == ("1", "3", "1", str(STEPS_PER_EPOCH))
    assert found[-1] == ("3", "3", str(STEPS_PER_EPOCH), str(STEPS_PER_EPOCH))
    data = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    steps = [entry for entry in data if "loss" in entry]
    assert [entry["step"] for entry in steps] == list(range(1, 3 * STEPS_PER_EPOCH + 1))
    for line, entry in zip(lines, steps, strict=True):
        assert f"Loss: {entry['loss']:.4f}, Perplexity: {entry['perplexity']:.4f}" in line
    epochs = [entry["validation"] for entry in data if "validation" in entry]
    assert len(epochs) == 3
    assert {"val_loss", "val_perplexity", "BLEU-4", "CIDEr-D", "bad_endings"} <= set(epochs[0])


def test_no_caption_is_withheld_from_validation(tmp_path: Path, dataset: Dataset, store) -> None:
    sure = tiny_config("decoding.min_confidence=1.0")
    one, other = (
        run(tmp_path / str(n), dataset, store, config)
        for n, config in enumerate((sure, tiny_config()))
    )
    assert one.metrics == other.metrics
    assert one.metrics["CIDEr-D"] > 0
    kept = load_checkpoint(tmp_path / "0" / "best").config.decoding
    assert kept.min_confidence == 1.0


def test_figures_that_a_language_has_none_of_are_left_out(
    tmp_path: Path, dataset: Dataset, store
) -> None:
    german = tiny_config("data.segmentation=spaces", "data.language=de")
    made = make_run(tmp_path / "run", dataset, store, german)
    made.state.eval()
    values, scores = measure(made.captioner, made.data)
    assert math.isnan(scores.bad_endings)
    assert "bad_endings" not in values
    assert all(map(math.isfinite, values.values()))


def test_keeps_the_best_the_last_and_each_save_every(
    tmp_path: Path, dataset: Dataset, store
) -> None:
    folder = tmp_path / "run"
    result = run(folder, dataset, store, tiny_config("training.save_every=2"))
    assert {p.name for p in folder.iterdir() if p.is_dir()} == {"best", "last", "epoch-002"}
    assert load_checkpoint(folder / "best").metrics["epoch"] == result.best_epoch
    assert same_weights(folder, folder / "best")
    assert load_checkpoint(folder / "last").metrics["step"] == 3 * STEPS_PER_EPOCH


@pytest.mark.parametrize("stops", [(1, 20), (STEPS_PER_EPOCH, 44)])
def test_a_stopped_run_goes_on_to_the_same_weights(
    tmp_path: Path, whole: Path, dataset: Dataset, store, stops: tuple[int, ...]
) -> None:
    pieces, done = tmp_path / "pieces", 0
    for stop in stops:
        result = run(
            pieces, dataset, store, tiny_config(), report=StopAt(stop - done), resume=done > 0
        )
        assert result.stopped
        assert load_checkpoint(pieces / "last").metrics["step"] == stop
        done = stop
    run(pieces, dataset, store, tiny_config(), resume=True)
    assert same_weights(whole / "last", pieces / "last")
    assert same_weights(whole / "best", pieces / "best")
    assert log_of(whole) == log_of(pieces)


def test_a_finished_run_has_nothing_to_go_on_with(
    tmp_path: Path, whole: Path, dataset: Dataset, store
) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    run(folder, dataset, store, tiny_config(), resume=True)
    assert log_of(folder) == log_of(whole)


def test_other_data_is_not_gone_on_with(
    tmp_path: Path, whole: Path, dataset: Dataset, store
) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    with pytest.raises(CheckpointError, match="the data is not what"):
        run(folder, dataset, store, tiny_config(), resume=True, fingerprint="data-2")


def test_a_full_disk_leaves_the_last_good_checkpoint(
    tmp_path: Path, dataset: Dataset, store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    save_tensors, calls = checkpoint_module.save_tensors, []

    def fails_in_the_second_epoch(path: Path, tensors: dict) -> None:
        calls.append(path)
        if len(calls) > 5:
            path.write_bytes(b"half a fi")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        save_tensors(path, tensors)

    monkeypatch.setattr(checkpoint_module, "save_tensors", fails_in_the_second_epoch)
    with pytest.raises(CheckpointError, match=r"No space left.*resume \(train: --resume; else"):
        run(folder, dataset, store, tiny_config("training.save_every=9"))
    monkeypatch.undo()
    assert not list(folder.glob(".*"))
    assert load_checkpoint(folder / "last").metrics["step"] == STEPS_PER_EPOCH
    run(folder, dataset, store, tiny_config("training.save_every=9"), resume=True)
    run(tmp_path / "whole", dataset, store, tiny_config("training.save_every=9"))
    assert same_weights(tmp_path / "whole" / "last", folder / "last")


def test_stops_early_when_nothing_gets_better(tmp_path: Path, dataset: Dataset, store) -> None:
    config = tiny_config(
        "training.num_epochs=50", "training.patience=2", "optimizer.lr=1e-9", "seed=3"
    )
    result = run(tmp_path / "run", dataset, store, config)
    epochs = load_checkpoint(tmp_path / "run" / "last").metrics["epoch"]
    assert epochs == result.best_epoch + 2 < 50


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path, dataset: Dataset, store) -> None:
    with pytest.raises(ShowtellError, match=r"is (nan|inf) at step.*lower optimizer\.lr"):
        run(tmp_path / "run", dataset, store, tiny_config("optimizer.lr=1e30"))


def test_a_tiny_set_is_called_tiny(tmp_path: Path, dataset: Dataset, store) -> None:
    report = Notes()
    run(tmp_path / "run", dataset, store, tiny_config("training.num_epochs=1"), report=report)
    notes = report.notes
    assert any("tiny: 40 training pictures" in note for note in notes)
    assert any("15 steps in 1 epoch: too few" in note and "num_epochs=67" in note for note in notes)
