"""Errors of writing speak of the file that was asked for, not of its temporary name."""

import errno
import os
from pathlib import Path
from typing import IO

import pytest

from showtell.bulk.journal import Journal
from showtell.cli.console import exit_code_for
from showtell.core import files
from showtell.core.files import (
    CannotWriteError,
    InUseError,
    locked_folder,
    read_json,
    write_json,
    write_text,
)


def said(error: Exception, capsys: pytest.CaptureFixture[str]) -> str:
    assert exit_code_for(error) == 1
    return capsys.readouterr().err


def test_a_missing_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_text(tmp_path / "missing" / "x.json", "")
    assert said(caught.value, capsys) == f"error: no such folder: {tmp_path}/missing\n"


@pytest.mark.parametrize("write", ["text", "journal"])
def test_a_folder_that_is_read_only(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    write: str,
) -> None:
    def refuse(path: object, *_: object, **__: object) -> None:  # root may write anywhere
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("builtins.open", refuse)
    out = tmp_path / "x.csv"
    with pytest.raises(CannotWriteError) as caught:
        if write == "text":
            write_text(out, "")
        else:
            Journal(out.with_name("x.csv.partial"), {})
    monkeypatch.undo()
    assert said(caught.value, capsys) == f"error: cannot write {out}: Permission denied\n"
    assert not list(tmp_path.iterdir())


def test_errors_about_other_files_stay_as_they_are(tmp_path: Path) -> None:
    from showtell.core.files import atomic_write

    with (
        pytest.raises(FileNotFoundError, match=r"No such file.*other"),
        atomic_write(tmp_path / "x"),
    ):
        open(tmp_path / "other")  # noqa: SIM115
    assert not list(tmp_path.iterdir())


def test_a_locked_folder_keeps_others_out_while_it_is_locked(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with locked_folder(folder):
        with pytest.raises(InUseError), locked_folder(folder):
            pass
        (folder / "file").touch()
    with locked_folder(folder):
        pass
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_a_folder_that_nothing_came_of_is_gone_and_one_that_was_there_stays(tmp_path: Path) -> None:
    with locked_folder(tmp_path / "new" / "run"):
        pass
    assert not (tmp_path / "new" / "run").exists()
    (tmp_path / "old").mkdir()
    with locked_folder(tmp_path / "old"):
        pass
    assert not list((tmp_path / "old").iterdir())


def test_what_is_no_number_in_json_is_null(tmp_path: Path) -> None:
    nan, infinity = float("nan"), float("inf")
    write_json(
        tmp_path / "a.json", {"a": nan, "b": [(1.5, -infinity), {"c": infinity}], "d": "NaN"}
    )
    found = read_json(tmp_path / "a.json", 1000)
    assert found == {"a": None, "b": [[1.5, None], {"c": None}], "d": "NaN"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_stays_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match="is a device or a pipe"):
            write_text(tmp_path / name, "")
        assert (tmp_path / name).is_fifo()


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process ends between opening and locking, and a third one makes the file anew."""
    path, lock = tmp_path / "x", files.lock
    others = []

    def slow(file: IO[bytes]) -> bool:
        if not others:
            path.unlink()
            others.append(open(path, "ab"))  # noqa: SIM115
            assert lock(others[0])
        return lock(file)

    monkeypatch.setattr(files, "lock", slow)
    with pytest.raises(InUseError):
        files.open_locked(path)
    others[0].close()
    files.open_locked(path).close()


def test_deep_nesting_is_bad_json() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        files.parse_json(b"[" * 200_000)
