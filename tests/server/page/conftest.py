"""What the tests of the page share: two small real models, a server, photos."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_shell import SMALL, Shell
from page_visit import Visit, visit
from serve_process import ServeProcess

ATTENDING = ("-s", "decoder.kind=attention", "-s", "decoder.hidden_size=32")


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def models(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One that attends and one that does not."""
    folder = tmp_path_factory.mktemp("runs")
    settings = {"looks": (*SMALL[:6], *ATTENDING, *SMALL[10:]), "tells": SMALL}
    for name, changes in settings.items():
        result = shell("train", "scenes:40", "-o", folder / name, *changes)
        assert result.returncode == 0, result.stderr
    return [folder / name for name in settings]


@pytest.fixture(scope="session")
def server(shell: Shell, models: list[Path]) -> Iterator[ServeProcess]:
    with ServeProcess(shell, *models) as started:
        yield started


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two photos, each with a shape of its own, and a broken one."""
    import skimage

    folder = tmp_path_factory.mktemp("photos")
    bundled = Path(skimage.__file__).parent / "data"
    paths = [folder / "coffee.png", folder / "rocket.jpg", folder / "broken.jpg"]
    for path in paths[:2]:
        shutil.copy(bundled / path.name, path)
    paths[2].write_bytes(b"\xff\xd8\xff\xe0" + bytes(200))
    return paths


@pytest.fixture
def filled(browser: Any, server: ServeProcess, photos: list[Path]) -> Iterator[Visit]:
    """The page after the three were dropped and captioned."""
    with visit(browser, server.url, reduced_motion="reduce") as opened:
        opened.drop(*photos)
        opened.wait_until_done(3)
        yield opened
