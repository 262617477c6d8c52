"""Pictures behind URLs: how they are fetched for a stream, and that nobody waits who stops it."""

import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from showtell.cli.caption_screen import caption_to_screen
from showtell.core.prefetch import NUM_FETCHERS
from showtell.core.urls import TooManyBytesError
from showtell.errors import ImageError
from showtell.inference import stream as module
from showtell.inference.stream import Picture, PictureResult, fetched_ahead, picture_at, stream

URLS = [f"http://127.0.0.1/{number}.jpg" for number in range(NUM_FETCHERS)]


@dataclass
class Host:
    """Stands in for ``fetch``, so that no host is asked.

    Attributes:
        size: Of each picture, in bytes.
        answer: Called for each picture that is not refused for its size.
        asked: The URLs that it was asked for.
        threads: Those that asked.
    """

    size: int = 1
    answer: Callable[[], Any] = lambda: None
    asked: list[str] = field(default_factory=list)
    threads: set[threading.Thread] = field(default_factory=set)

    def fetch(self, url: str, refuses: Any = None, *, most: int | None = None) -> bytes:
        self.asked.append(url)
        self.threads.add(threading.current_thread())
        if most is not None and self.size > most:
            raise TooManyBytesError(f"has more than {most:,} bytes")
        self.answer()
        return b"x" * self.size


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host()

    def fetch(url: str, refuses: Any = None, *, most: int | None = None) -> bytes:
        return host.fetch(url, refuses, most=most)

    monkeypatch.setattr(module, "fetch", fetch)
    return host


class Recipe:
    """Of what is no picture there are no views."""

    decode_side = None

    def eval_view(self, image: Image.Image) -> None:
        raise AssertionError(np.asarray(image).shape)


class Captioner:
    """Reads pictures as captioners do, and captions none."""

    def caption_stream(self, pictures: Iterator[Picture], **_: Any) -> Iterator[PictureResult]:
        return stream(pictures, Recipe(), lambda *_: (), batch_size=1, overlaps=False)


class Inputs(list[Picture]):
    """What the user named."""

    is_one_picture = False

    def has_failed(self, failed: set[str]) -> bool:
        return bool(failed)


def caption(names: list[str], *, as_json: bool) -> bool:
    writing = SimpleNamespace(output=None, as_json=as_json, kind=SimpleNamespace(value="text"))
    making = SimpleNamespace(attention=False, batch_size=1, dedupe=False)
    request: Any = SimpleNamespace(
        load=lambda: (Captioner(), None),
        writing=writing,
        making=making,
        asking=SimpleNamespace(price=None),
        strict=False,
    )
    inputs: Any = Inputs(picture_at(name) for name in names)
    return caption_to_screen(request, inputs)


@pytest.mark.parametrize("as_json", [False, True])
def test_captions_on_the_screen_are_of_pictures_fetched_ahead(
    host: Host, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """As many at a time as there are fetchers, however few processors; in order."""
    host.answer = threading.Barrier(NUM_FETCHERS, timeout=60).wait
    assert caption(URLS, as_json=as_json)
    told = capsys.readouterr()
    text = told.out if as_json else told.err
    places = [text.index(url) for url in URLS]
    assert places == sorted(places) and sorted(host.asked) == sorted(URLS)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="Windows has no pthread_kill")
@pytest.mark.parametrize("way", ["screen", "json", "stream"])
def test_ctrl_c_waits_for_no_fetch(host: Host, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for that of a large picture either."""
    goes_on = threading.Event()
    finished: list[str] = []

    def answer() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        goes_on.wait(60)
        finished.append("fetch")

    host.answer = answer
    host.size = 2
    monkeypatch.setattr(module, "MOST_AHEAD", 1)
    with pytest.raises(KeyboardInterrupt):
        if way == "stream":
            ahead = fetched_ahead([picture_at(URLS[0])])
            list(Captioner().caption_stream(ahead))
        else:
            caption(URLS[:1], as_json=way == "json")
    assert not finished
    goes_on.set()
    for thread in host.threads:
        assert thread.daemon
        thread.join(60)


def test_a_large_picture_is_fetched_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that come much later are begun before, and fetched when their turn is near."""
    monkeypatch.setattr(module, "MOST_AHEAD", 1)
    host.size = 2
    [picture] = fetched_ahead([picture_at(URLS[0])])
    assert picture.num_held == 2 and picture.read is not None and picture.read() == b"xx"
    assert host.asked == URLS[:1]
    many = list(fetched_ahead(map(picture_at, URLS)))
    assert [picture.path for picture in many] == URLS
    assert all(picture.num_held == 2 for picture in many)


def test_a_picture_that_is_too_large_says_so(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise TooManyBytesError("has more than 268,435,456 bytes")

    monkeypatch.setattr(module, "MOST_AHEAD", 0)
    host.answer = refuse
    pictures = list(fetched_ahead(map(picture_at, URLS)))
    for picture in pictures:
        assert picture.read is not None
        with pytest.raises(ImageError, match=r"^has more than 268,435,456 bytes$"):
            picture.read()
    assert len(pictures) == NUM_FETCHERS
