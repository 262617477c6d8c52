"""Fixtures for every test: real data where it is at hand, two small models, timm importable."""

import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import shared_cache
from cli_shell import SMALL, Shell
from hypothesis import settings

from showtell.core.memory import tune_allocator
from showtell.core.torchvision import make_torchvision_importable
from showtell.images import heif

# One thread, here and in the processes that tests start: the models are tiny, and threads that
# wait for each other on a busy machine make such steps a hundred times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # tests import onnxruntime by itself, too
# What a script starts in the background ignores Ctrl-C, and so does all that it starts in turn.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("showtell", deadline=None)  # speed is measured in benchmarks/
settings.load_profile("showtell")
tune_allocator()  # as every run of the program does; the tests take less time with it

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slowest files come first.

    Workers take whole files in this order, and the last ones should be short: otherwise all but one
    wait at the end.
    """
    seconds: Counter[Path] = Counter()
    for item in items:
        for marker in item.iter_markers("slow"):
            seconds[item.path] += marker.args[0] if marker.args else 5
    items.sort(key=lambda item: -seconds[item.path])


@pytest.fixture(scope="session", autouse=True)
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    shared_cache.open_folder(tmp_path_factory)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real captioned photos; the test is skipped where it is absent."""
    folder = Path(os.environ.get("SHOWTELL_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set SHOWTELL_TEST_DATA to where it is")
    return folder


@pytest.fixture(scope="session")
def showtell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """The command line, with one cache for all tests of this process."""
    return Shell(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def tells(showtell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a decoder that does not attend, on real pixels; not to be written into.

    It knows little, and that is enough.
    """
    return _train(showtell, tmp_path_factory.mktemp("runs") / "tells", *SMALL)


@pytest.fixture(scope="session")
def looks(showtell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one that attends, with another learning rate; not to be written into."""
    attending = ("-s", "decoder.kind=attention", "-s", "decoder.hidden_size=32")
    folder = tmp_path_factory.mktemp("runs") / "looks"
    return _train(showtell, folder, *SMALL, *attending, "-s", "optimizer.lr=5e-3")


def _train(showtell: Shell, folder: Path, *settings: str) -> Path:
    result = showtell("train", "scenes:40", "-o", folder, *settings)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def without_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the extra ``heif`` were not installed."""
    monkeypatch.setattr(heif, "is_installed", lambda: False)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, started once: a process can have one Playwright at a time."""
    from playwright.sync_api import sync_playwright

    cameras = "--use-fake-device-for-media-stream=device-count=2"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", cameras, "--use-fake-ui-for-media-stream"],
            timeout=180_000,
        )
        yield started
        started.close()


@pytest.fixture(scope="session")
def torchvision_operators() -> None:
    """For tests that import timm or transformers themselves."""
    make_torchvision_importable()
