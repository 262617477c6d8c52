"""Registries that packages add to: their names, and what goes wrong."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from showtell.config import DECODER_SETTINGS, Config, DecoderSettings
from showtell.config.registry import Registry
from showtell.errors import ConfigError, DataError

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a package with an entry point of the group ``test.things``."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name: str, module: str, code: str, group: str = "test.things") -> None:
        info = tmp_path / f"{module}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}\n")
        (tmp_path / f"{module}.py").write_text(code)
        monkeypatch.delitem(sys.modules, module, raising=False)

    return install


THINGS: Registry[object] = Registry("thing", "test.things", DataError)


@pytest.fixture
def things(monkeypatch: pytest.MonkeyPatch) -> Registry[object]:
    monkeypatch.setattr(
        sys.modules[__name__], "THINGS", Registry("thing", "test.things", DataError)
    )
    THINGS.register("own", 1)
    monkeypatch.setitem(sys.modules, "the_test", sys.modules[__name__])
    return THINGS


def test_a_package_is_imported_when_its_name_is_asked_for(
    install: Install, things: Registry[object]
) -> None:
    install("other", "a_package", "from the_test import THINGS\nTHINGS.register('other', 2)\n")
    assert things.names() == ["own", "other"]
    assert list(things) == ["own"]
    assert "a_package" not in sys.modules
    assert things["other"] == things.find("other") == 2
    assert list(things) == ["own", "other"]


def test_load_all(install: Install, things: Registry[object]) -> None:
    install("other", "b_package", "from the_test import THINGS\nTHINGS.register('other', 2)\n")
    things.load_all()
    assert things == {"own": 1, "other": 2}


def test_an_unknown_name_lists_all(install: Install, things: Registry[object]) -> None:
    install("other", "c_package", "")
    with pytest.raises(DataError) as error:
        things.find("othr")
    assert str(error.value) == "unknown thing 'othr'. Did you mean 'other'? Known: other, own."
    with pytest.raises(KeyError):
        things["othr"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import no_such_module", "cannot be imported: ModuleNotFoundError: No module named"),
        ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
        ("raise ValueError", "cannot be imported: ValueError: ValueError"),
        ("", r"announces the thing 'other' \(test.things\), but d_package does not register"),
    ],
)
def test_a_broken_package_is_named(
    install: Install, things: Registry[object], code: str, message: str
) -> None:
    install("other", "d_package", code)
    with pytest.raises(ConfigError, match=message) as error:
        things["other"]
    assert "'d_package'" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_taken_name_is_refused() -> None:
    class Mine(DecoderSettings):
        kind: Literal["up_down"] = "up_down"

    before = dict(DECODER_SETTINGS)
    with pytest.raises(
        ConfigError, match=r"decoder 'up_down' is registered already, by showtell\."
    ):
        DECODER_SETTINGS.register("up_down", Mine)
    assert before == DECODER_SETTINGS


def test_the_same_class_defined_again_replaces_the_earlier() -> None:
    registry: Registry[type] = Registry("thing", "test.things")

    def cell() -> type:
        class Mine:
            pass

        return Mine

    first, second = cell(), cell()
    registry.register("mine", first)
    registry.register("mine", second)
    assert registry["mine"] is second


def test_a_registered_section_is_a_kind_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(DecoderSettings):
        kind: Literal["mine"] = "mine"
        width: int = 3

    monkeypatch.setitem(DECODER_SETTINGS, "mine", Mine)
    config = Config.load(None, ["decoder.kind=mine", "decoder.width=5"])
    assert config.decoder == Mine(width=5)
    assert Config.of(config.model_dump()) == config
    assert 'kind = "mine"\n' in config.to_toml()
    with pytest.raises(
        ConfigError, match=r"decoder\.widht: no such setting, did you mean decoder\.wi"
    ):
        Config.load(None, ["decoder.kind=mine", "decoder.widht=5"])
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="unknown decoder 'mine'"):
        Config.load(None, ["decoder.kind=mine"])
