import json
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from showtell.errors import MissingExtraError, install_line, unknown_name


def _installed(monkeypatch: pytest.MonkeyPatch, direct_url: dict[str, object] | None) -> None:
    text = None if direct_url is None else json.dumps(direct_url)
    found = SimpleNamespace(read_text=lambda name: text)
    monkeypatch.setattr(metadata, "distribution", lambda name: found)


def test_an_extra_of_an_editable_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my checkout"
    folder.mkdir()
    (folder / "constraints.txt").touch()
    _installed(monkeypatch, {"url": folder.as_uri(), "dir_info": {"editable": True}})
    assert install_line("train") == (
        f"pip install -c '{folder}/constraints.txt' -e '{folder}[train]'"
    )


def test_an_extra_of_a_wheel_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "showtell-0.2.0-py3-none-any.whl"
    wheel.touch()
    _installed(monkeypatch, {"url": wheel.as_uri(), "archive_info": {}})
    assert install_line("serve") == f"pip install '{wheel}[serve]'"


def test_an_extra_of_a_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(monkeypatch, None)
    monkeypatch.setattr("showtell.errors.__file__", str(tmp_path / "a" / "b" / "errors.py"))
    assert str(MissingExtraError("hf", "this")) == (
        "this needs an extra: pip install 'showtell[hf]'"
    )


def test_an_unknown_name_suggests_the_nearest() -> None:
    assert unknown_name("decoder", "shwo_tell", ["show_tell", "up_down"]) == (
        "unknown decoder 'shwo_tell'. Did you mean 'show_tell'? Known: show_tell, up_down."
    )
