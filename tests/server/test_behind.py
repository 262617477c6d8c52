"""Models behind a server that is slow, full or broken: what clients and the owner are told."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from rogue_server import BROKEN, KEY, Deed, RogueServer, asks_to_wait, numbered, rogue_server
from tiny_server import TinyServer, serving

from showtell.inference.loading import ModelRequest
from showtell.inference.specs import BackendSettings
from showtell.server.models import load_models
from showtell.server.run import Failures

REFUSED = Deed(401, b'{"error": {"message": "no such key"}}')


@pytest.fixture
def pictures(tmp_path: Path) -> list[bytes]:
    """Those that ``RogueServer`` tells apart by their numbers."""
    return [path.read_bytes() for path in sorted(numbered(tmp_path / "numbered", 6).iterdir())]


@contextmanager
def before(behind: RogueServer, said: list[str], **settings: object) -> Iterator[TinyServer]:
    """A server of ours; ``said`` takes what its owner is told."""
    found = BackendSettings.of({"base_url": behind.url, "retries": 0, **settings})
    models = load_models([ModelRequest("openai:tiny", settings=found)])
    with serving(models, say=said.append) as (port, server):
        yield TinyServer(port, models, server, None)  # type: ignore[arg-type]


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[RogueServer]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with rogue_server() as found:
        yield found


def test_the_owner_is_told_why_a_model_fails(behind: RogueServer, pictures: list[bytes]) -> None:
    said: list[str] = []
    with before(behind, said) as server:
        behind.everything = REFUSED
        answers = [server.caption(picture) for picture in pictures[:3]]
        assert [answer.status for answer in answers] == [503] * 3
        assert server.figure("showtell_model_failures_total") == 3
        assert server.figure('showtell_model_failures_total{model="tiny"}') == 3
    [line] = said
    assert line == (
        f"warning: the server behind tiny fails: {behind.url}/v1 refuses the key in "
        "OPENAI_API_KEY: the server answers 401: no such key"
    )
    assert all(b"401" not in answer.body for answer in answers)


def test_reasons_are_not_repeated_for_each_picture() -> None:
    said: list[str] = []
    now = [0.0]
    failures = Failures(said.append, lambda: now[0])
    for now[0], reason in ((0, "a"), (1, "a"), (2, "b"), (11, "b"), (12, "a"), (22, "b")):
        failures.note("one", reason)
    failures.note("other", "b")
    assert [line.removeprefix("warning: the server behind ") for line in said] == [
        "one fails: a",
        "one fails: b",
        "other fails: b",
    ]
    now[0] = 611.0
    failures.note("one", "b")
    assert said[3:] == ["warning: the server behind one fails: b"]


def test_a_picture_has_one_status_alone_or_beside_others(
    behind: RogueServer, pictures: list[bytes]
) -> None:
    with before(behind, []) as server:
        behind.deeds[1] = [BROKEN] * 2
        alone = server.caption(pictures[1])
        assert (alone.status, alone.headers["retry-after"]) == (503, "1")
        beside = server.caption(*pictures[:3])
        assert beside.status == 200
        good, bad, other = beside.json["results"]
        assert (good["caption"], other["caption"]) == ("picture 0", "picture 2")
        assert bad["error"]["status"] == 503
        assert bad["error"]["detail"] == alone.json["detail"]
        assert b"out of memory" not in beside.body


def test_a_server_that_asks_to_wait_is_not_waited_for_long(
    behind: RogueServer, pictures: list[bytes]
) -> None:
    said: list[str] = []
    with before(behind, said, retries=1) as server:
        behind.deeds[0] = [asks_to_wait(0.2)]
        assert server.caption(pictures[0]).json["results"][0]["caption"] == "picture 0"
        behind.everything = asks_to_wait(29.5)
        started = time.monotonic()
        for answer in (server.caption(pictures[1]), server.caption(*pictures[1:3])):
            assert (answer.status, answer.headers["retry-after"]) == (503, "30")
        body = b'{"images": [], "messages": []}'
        assert server.ask("/api/chat", method="POST", body=body).status == 200
    assert time.monotonic() - started < 5  # stopping has not waited either
    assert said == [
        f"warning: the server behind tiny fails: {behind.url}/v1: the server answers 429: slow "
        "down, and asks to wait for 30 s"
    ]


def test_pictures_are_asked_about_at_a_time_up_to_the_concurrency(
    behind: RogueServer, pictures: list[bytes]
) -> None:
    """One that takes long keeps none of the others."""
    with before(behind, [], concurrency=3) as server, ThreadPoolExecutor(6) as threads:
        behind.delay = 0.1
        behind.deeds[0] = [Deed(stalls=1.0, body=b"{}")]
        slow = threads.submit(server.caption, pictures[0])
        answers = list(threads.map(server.caption, pictures[1:]))
        assert [answer.status for answer in answers] == [200] * 5
        assert not slow.done()
        assert behind.most == 3
