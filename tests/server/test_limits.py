"""Shares of addresses, lanes of costly work, and what a request may ask for."""

import asyncio
import json
import random
import sys
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from tiny_server import TinyServer, picture, running, tiny_models

from showtell.config import DecodingConfig
from showtell.errors import LargePictureError
from showtell.images.repair import check_scans
from showtell.server.limits import Lane, Limits, Shares, client_of, share
from showtell.server.problems import Problem
from showtell.server.uploads import Form, Upload
from showtell.server.wishes import check_words, read_wish, search_effort

PNG, JPEG = picture(0), picture(1, "JPEG")
LIMITS = Limits()


def run_alone(work: Coroutine[Any, Any, None]) -> None:
    """In a thread of its own: a browser of earlier tests has an event loop running in this one."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


def test_a_share_leaves_some_for_others() -> None:
    places = Shares(8, share(8), "full")
    with places.held_by("a") as one, places.held_by("b") as other:
        one.add(6)
        with pytest.raises(Problem) as refused:
            one.add(1)
        assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "1"})
        other.add(2)
        with pytest.raises(Problem) as refused:
            other.add(1)
        assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
        assert places.taken == 8
    assert places.taken == 0
    with places.held_by("a") as one:
        one.add(6)


def test_a_client_has_one_address_or_one_network() -> None:
    assert client_of("10.0.0.1") == "10.0.0.1"
    assert client_of("2001:db8:1:2:3::4") == client_of("2001:db8:1:2::") == "2001:db8:1:2::/64"
    assert client_of("fe80::1%eth0") == "fe80::/64"
    assert client_of("2001:db8:1:3::") != client_of("2001:db8:1:2::")
    assert client_of("") == ""


def test_a_lane_is_fair_and_never_over_full() -> None:
    lane, order, running = Lane(10), [], 0

    async def work(name: str, cost: int) -> None:
        nonlocal running
        taken = await lane.take(cost)
        running += taken
        assert running <= 10
        order.append(name)
        await asyncio.sleep(0.001)
        running -= taken
        lane.give_back(taken)

    async def main() -> None:
        tasks = [
            asyncio.create_task(work(*item))
            for item in [("a", 6), ("b", 6), ("gone", 50), ("c", 3), ("d", 99), ("e", 1)]
        ]
        await asyncio.sleep(0)
        tasks[2].cancel()  # while it waits
        await asyncio.gather(*tasks, return_exceptions=True)
        await work("last", 10)  # all of it was given back

    run_alone(main())
    assert order == ["a", "b", "c", "d", "e", "last"]


def test_a_turn_that_comes_with_its_cancelling_is_given_back() -> None:
    async def main() -> None:
        lane = Lane(1)
        await lane.take(1)
        waiting = asyncio.create_task(lane.take(1))
        await asyncio.sleep(0)
        lane.give_back(1)  # its turn has come
        waiting.cancel()  # and it goes away before it knows
        await asyncio.gather(waiting, return_exceptions=True)
        await asyncio.wait_for(lane.take(1), 5)

    run_alone(main())


def test_scans_are_counted_up_to_the_picture_s_end() -> None:
    progressive = picture(1, "JPEG", (64, 64))
    check_scans(progressive, 1)
    with pytest.raises(LargePictureError, match="more than 0 scans"):
        check_scans(progressive, 0)
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + b"\x12\xff\x00\xda"
    many = progressive[:-2] + scan * 9 + progressive[-2:]
    check_scans(many, 10)
    with pytest.raises(LargePictureError, match="more than 9 scans"):
        check_scans(many, 9)
    thumbnail = b"\xff\xe1" + (2 + 900).to_bytes(2, "big") + b"\xff\xda" * 450
    check_scans(b"\xff\xd8" + thumbnail + progressive[2:], 1)  # of another picture, within a field
    check_scans(progressive + b"\xff\xda" * 500, 1)  # what follows the end is not decoded
    check_scans(PNG + b"\xff\xda" * 500, 1)
    empty = b"\xff\xc4\0\2"
    check_scans(progressive[:2] + empty * 10_000 + progressive[2:], 1)
    for data in (b"\xff\xd8" + empty * 25_000, progressive[:-2] + empty * 25_000):
        with pytest.raises(LargePictureError, match="more than 20,000 segments"):
            check_scans(data, 1)
    noise = random.Random(0)
    for _ in range(300):
        data = bytes(noise.choices([0xFF, 0xDA, 0, 1, 2, 0xD9, 0xD0], k=50))
        with suppress(LargePictureError):
            check_scans(b"\xff\xd8" + data, 2)


def wish(decoding: dict[str, object], pictures: int = 1, **fields: str) -> None:
    """Check a form; its problem's detail is what the tests look at."""
    form = Form([Upload("", b"")] * pictures, fields | {"decoding": json.dumps(decoding)})
    check_words(read_wish(form, tiny_models(), LIMITS), LIMITS)


WORDS = [f"w{i}" for i in range(10)]
TOO_MUCH = {
    "no_repeat_ngram = 61: this server's limit is 60": {"no_repeat_ngram": 61},
    "max_length = 61: this server's limit is 60": {"max_length": 61},
    "a picture's search would cost 2,400": {"method": "diverse", "beam_size": 20, "max_length": 60},
    "would cost 13,200": {"beam_size": 20, "max_length": 60, "required_words": WORDS},
    "limit is 100 characters each": {"forbidden_words": ["dog" * 40]},
    "1,012 characters": {"forbidden_words": ["dog " * 25] * 10 + ["dog " * 3]},
    "and the limit is 16,777,216": {
        "beam_size": 1,
        "max_length": 54,
        "required_words": WORDS,
        "forbidden_words": [f"dog ball w{a} w{b} dog ball" for a in (1, 2) for b in range(8)],
    },
}


@pytest.mark.parametrize("reason", TOO_MUCH)
def test_settings_that_ask_for_too_much(reason: str) -> None:
    with pytest.raises(Problem) as refused:
        wish(TOO_MUCH[reason])
    assert refused.value.status == 422
    assert reason in refused.value.detail


def test_what_is_within_the_limits_is_allowed() -> None:
    wish({"beam_size": 10, "max_length": 60, "min_length": 60, "no_repeat_ngram": 60})
    wish({"beam_size": 1, "max_length": 54, "required_words": WORDS})
    wish({"method": "sample", "num_captions": 20, "max_length": 30})
    wish({"method": "diverse", "beam_size": 10, "max_length": 30})
    wish({"forbidden_words": ["dog " * 25] * 10})
    wish({"beam_size": 2, "num_captions": 2}, 32, model="looks", attention="true")
    with pytest.raises(Problem, match=r"attention: 96 captions; .* up to 64 a request"):
        wish({"beam_size": 3, "num_captions": 3}, 32, model="looks", attention="true")


def test_effort_counts_rows_times_words() -> None:
    def effort(**settings: object) -> int:
        return search_effort(DecodingConfig(max_length=10, **settings))  # type: ignore[arg-type]

    assert effort(method="greedy") == 10
    assert effort(beam_size=4) == 40
    assert effort(beam_size=4, required_words=("a", "b")) == 120
    assert effort(method="diverse", beam_size=4) == 80
    assert effort(method="sample", num_captions=5) == 50
    assert effort(method="sample", num_captions=5, top_p=0.9) == 100


ODD = [
    {"length_penalty": 1e308},
    {"length_penalty": 1e400},
    {"method": "diverse", "diversity": 1e308},
    {"method": "sample", "temperature": 1e-320},
    {"method": "sample", "temperature": 1e308},
    {"method": "sample", "top_k": 10**18},
    {"method": "sample", "top_k": 10**30},
    {"method": "sample", "top_p": 1e-320},
    {"method": "sample", "seed": 2**32 - 1},
    {"no_repeat_ngram": 60},
    {"no_repeat_ngram": 10**30},
    {"method": "diverse", "beam_size": 4, "groups": 10**30},
    {"min_confidence": 1},
]


@pytest.mark.parametrize("decoding", ODD, ids=str)
def test_the_oddest_numbers_are_answered(server: TinyServer, decoding: dict[str, object]) -> None:
    text = json.dumps(decoding).replace("Infinity", "1e400")
    answer = server.caption(PNG, decoding=text)
    assert answer.status in (200, 422), answer.body


_watched: set[int] = set()
_touched: list[tuple[str, object]] = []
EVENTS = (
    "open",
    "os.",
    "socket.connect",
    "socket.getaddrinfo",
    "subprocess.",
    "urllib.",
    "ctypes.",
)


def _audit(event: str, args: tuple[object, ...]) -> None:
    if _watched and threading.get_ident() not in _watched and event.startswith(EVENTS):
        _touched.append((event, args))


@pytest.fixture
def touched() -> Iterator[list[tuple[str, object]]]:
    """Files opened and addresses looked up by threads other than this one."""
    if not hasattr(sys, "_showtell_audited"):
        sys.addaudithook(_audit)  # there is no way to take one away
        sys._showtell_audited = True  # type: ignore[attr-defined]
    _touched.clear()
    _watched.add(threading.get_ident())
    yield _touched
    _watched.clear()


ADDRESSES = [
    "http://169.254.169.254/latest/meta-data/",
    "http://127.0.0.1:9/a.jpg",
    "file:///etc/passwd",
    "/etc/passwd",
    "\\\\host\\share\\a.jpg",
    "hf:someone/something",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_address_that_a_stranger_names_is_fetched(
    server: TinyServer, touched: list[tuple[str, object]], address: str
) -> None:
    """Not as a picture's bytes or name, in a field, or in a header; nor is any file opened."""
    svg = f'<svg xmlns:xlink="x"><image xlink:href="{address}"/></svg>'.encode()
    link = f'<!DOCTYPE a [<!ENTITY b SYSTEM "{address}">]><a>&b;</a>'.encode()
    hosts = {"Referer": address, "X-Forwarded-Host": address, "Link": f"<{address}>"}
    server.caption(PNG)  # what is loaded once
    server.caption(b"x")
    touched.clear()
    server.headers |= hosts
    try:
        assert server.caption((address, PNG)).status == 200
        for data in (address.encode(), svg, link, address.encode() + b"\n" + PNG):
            assert server.caption((address, data)).status == 415
        for field in ("model", "decoding", "attention", "image_url", "url"):
            assert server.caption(PNG, **{field: address}).status == 422
        for setting in ("forbidden_words", "required_words"):
            answer = server.caption(PNG, decoding=json.dumps({setting: [address]}))
            assert answer.status == 422
        assert server.caption(PNG, decoding=json.dumps({"encoder": address})).status == 422
    finally:
        server.headers.clear()
    assert touched == []


def test_one_address_cannot_fill_the_queue() -> None:
    with running(Limits(queue=8, pictures=4)) as server, server.held():
        threads = [
            threading.Thread(target=server.caption, args=[picture(n) for n in range(3)])
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        while server.figure("showtell_pictures_waiting") < 6:
            pass
        refused = server.caption(PNG)
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        server.headers["X-Forwarded-For"] = "203.0.113.9"  # as a proxy on this machine says
        others = threading.Thread(target=server.caption, args=[PNG, PNG])
        others.start()
        while server.figure("showtell_pictures_waiting") < 8:
            pass
        assert server.caption(PNG).status == 503
        server.backbone.gate.set()
        for thread in (*threads, others):
            thread.join(60)
        assert server.caption(PNG).status == 200
