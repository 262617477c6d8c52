"""Two runs in one folder: the second is told, and the first is not disturbed."""

from pathlib import Path
from unittest.mock import Mock

import pytest
from tiny_pictures import paint, train

from showtell.core.files import LOCK_FILE, locked_folder
from showtell.core.progress import SilentReporter
from showtell.data.request import DataRequest
from showtell.errors import CheckpointError
from showtell.training.request import TrainRequest
from showtell.training.sweep import run_sweep


def test_a_folder_has_one_run_at_a_time(tmp_path: Path) -> None:
    records = paint(tmp_path / "pictures")
    folder = tmp_path / "run"
    with (
        locked_folder(folder),
        pytest.raises(CheckpointError, match=r"another process is training in .*run: wait"),
    ):
        train(folder, records, "training.num_epochs=1")
    assert not folder.exists()
    train(folder, records, "training.num_epochs=1")
    assert not (folder / LOCK_FILE).exists()
    with locked_folder(folder), pytest.raises(CheckpointError, match="another process"):
        train(folder, records, resume=True)


def test_a_run_that_ended_while_data_were_read_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from showtell.training import request

    records, folder = paint(tmp_path / "pictures"), tmp_path / "run"
    train(folder, records, "training.num_epochs=1")
    before = (folder / "config.toml").read_bytes()
    refuse, calls = request.refuse_used, []

    def refuse_later(place: Path) -> None:  # as if the folder had been empty at first
        calls.append(place)
        if len(calls) > 1:
            refuse(place)

    monkeypatch.setattr(request, "refuse_used", refuse_later)
    with pytest.raises(CheckpointError, match="already holds a run"):
        train(folder, records, "training.num_epochs=2")
    assert (folder / "config.toml").read_bytes() == before


def test_a_start_that_is_killed_before_its_settings_are_written_is_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it rehearses is in run.json, so a run without that would go on without it."""
    from showtell.training import request

    records, folder = paint(tmp_path / "pictures"), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(request, "write_text", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(folder, records, "training.num_epochs=1")
    assert {path.name for path in folder.iterdir()} == {"run.json"}
    with pytest.raises(CheckpointError, match="no run to resume; start it without --resume"):
        train(folder, records, resume=True)
    train(folder, records, "training.num_epochs=1")
    assert (folder / "best").is_dir()


def test_a_sweep_has_its_folder_alone_too(tmp_path: Path) -> None:
    overrides = ("optimizer.lr=1e-3,5e-4", "training.num_epochs=1")
    request = TrainRequest(DataRequest("scenes:40"), tmp_path / "sweep", overrides=overrides)
    with (
        locked_folder(tmp_path / "sweep"),
        pytest.raises(CheckpointError, match=r"another process is training in .*sweep"),
    ):
        run_sweep(request, report=SilentReporter())
