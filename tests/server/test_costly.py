"""The costliest requests that are allowed, and those that are refused, beside good clients.

No kind may make a good client wait a second longer than it waits without.
"""

import functools
import io
import itertools
import json
import random
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image
from tiny_server import TinyServer, form, picture, running

from showtell.server.limits import Limits

CLIENTS = 16
LONGER = 1.0  # seconds
ATTEMPTS = 3  # the machine may be busy with something else
GOOD = [picture(n) for n in range(CLIENTS)]
LIMITS = Limits()
Send = Callable[[TinyServer], int]


@pytest.fixture(scope="module")
def server() -> Iterator[TinyServer]:
    """Its own, as nothing of these requests is to be in another test's way."""
    with running() as server:
        yield server


def asks(pictures: list[bytes], make: Callable[[int], dict[str, object]], **fields: str) -> Send:
    """A form with settings that differ each time, so that no table is there already."""
    numbers = itertools.count()

    def send(server: TinyServer) -> int:
        decoding = json.dumps(make(next(numbers)))
        return server.caption(*pictures, decoding=decoding, **fields).status

    return send


def phrases(seed: int, num: int, size: int) -> list[str]:
    """Words that the tiny model knows."""
    words = random.Random(seed)
    return [" ".join(f"w{words.randrange(12)}" for _ in range(size)) for _ in range(num)]


@functools.cache
def flat_png(width: int, height: int) -> bytes:
    """A black and white PNG of few bytes and many pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes(height * (width // 8 + 1)), 9)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    return start + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@functools.cache
def scanned_jpeg(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan comes over and over."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), "grey").save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (scans - data.count(b"\xff\xda")) + data[-2:]


@functools.cache
def rle_bmp(width: int, height: int, runs: bytes) -> bytes:
    """A run-length encoded BMP of 8 bits a pixel."""
    start = 14 + 40 + 1024
    head = struct.pack("<IHHI", start + len(runs), 0, 0, start)
    head += struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    return b"BM" + head + bytes(1024) + runs


def one_byte_chunks(server: TinyServer) -> int:
    """A body of 100,000 chunks."""
    body, headers = form([GOOD[0] + bytes(100_000)], {})
    lines = ["POST /v1/captions HTTP/1.1", "Host: localhost", "Transfer-Encoding: chunked"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    with server.connect() as client:
        client.sendall("\r\n".join([*lines, "", ""]).encode() + chunks)
        return int(client.recv(65536).split()[1])


def long_head(server: TinyServer) -> int:
    """Headers up to the limit."""
    headers = {f"X-{n}": "x" * 100 for n in range(90)}
    return server.ask("/healthz", headers=headers).status


WORDS = [f"w{n}" for n in range(10)]
LARGE = flat_png(7000, 7000)
COSTLY: dict[str, tuple[Send, int]] = {
    "beam": (
        asks(GOOD * 2, lambda n: {"beam_size": 10, "min_length": 60, "max_length": 60}),
        200,
    ),
    "samples": (
        asks(
            GOOD * 2,
            lambda n: {
                "method": "sample",
                "num_captions": 5,
                "min_length": 60,
                "max_length": 60,
                "temperature": 99.0,
                "top_p": 0.99,
                "seed": n,
            },
        ),
        200,
    ),
    "groups": (
        asks(
            GOOD * 2,
            lambda n: {"method": "diverse", "beam_size": 5, "min_length": 60, "max_length": 60},
        ),
        200,
    ),
    "n-grams": (
        asks(GOOD * 2, lambda n: {"no_repeat_ngram": 1 + n % 60, "max_length": 30 + n % 30}),
        200,
    ),
    "required words and a table within the limit": (
        asks(
            GOOD,
            lambda n: {
                "beam_size": 1,
                "max_length": 54,
                "required_words": WORDS,
                "forbidden_words": phrases(n, 2, 8),
            },
        ),
        200,
    ),
    "forbidden words up to the limit": (
        asks(GOOD, lambda n: {"forbidden_words": phrases(n, 30, 10)}),
        200,
    ),
    "a table beyond the limit": (
        asks(
            GOOD,
            lambda n: {
                "beam_size": 1,
                "max_length": 54,
                "required_words": WORDS,
                "forbidden_words": phrases(n, 30, 10),
            },
        ),
        422,
    ),
    "words without end": (
        asks(GOOD[:1], lambda n: {"forbidden_words": [f"x{i}" for i in range(1500)]}),
        422,
    ),
    "a word without end": (asks(GOOD[:1], lambda n: {"required_words": ["x" * 16_000]}), 422),
    "deep JSON": (lambda server: server.caption(GOOD[0], decoding="[" * 16_000).status, 422),
    "digits": (lambda server: server.caption(GOOD[0], decoding="9" * 16_000).status, 422),
    "a name without end": (lambda server: server.caption(GOOD[0], model="plai" * 4000).status, 422),
    "attention": (
        asks(
            GOOD * 2,
            lambda n: {"beam_size": 2, "num_captions": 2, "min_length": 60, "max_length": 60},
            model="looks",
            attention="true",
        ),
        200,
    ),
    "pixels": (lambda server: server.caption(*[LARGE] * 4).status, 200),
    "scans": (
        lambda server: server.caption(*[scanned_jpeg(4000, 4000, LIMITS.scans)] * 2).status,
        200,
    ),
    "scans beyond the limit": (
        lambda server: server.caption(*[scanned_jpeg(4000, 4000, 300)] * 4).status,
        413,
    ),
    "short rows of a BMP": (
        lambda server: server.caption(*[rle_bmp(400, 400, b"\1\0\0\0" * 400)] * 32).status,
        200,
    ),
    "short rows of a large BMP": (
        lambda server: server.caption(*[rle_bmp(16_000, 1000, b"\1\0\0\0" * 1000)] * 32).status,
        413,
    ),
    "runs of a BMP that lead nowhere": (
        lambda server: server.caption(*[rle_bmp(400, 400, b"\xff\0" * 160_000)] * 4).status,
        422,
    ),
    "runs of a larger BMP that lead nowhere": (
        lambda server: server.caption(*[rle_bmp(700, 700, b"\xff\0" * 1_000_000)] * 4).status,
        413,
    ),
    "a PPM of another white": (
        lambda server: server.caption(b"P6 3000 2000 254\n" + bytes(18_000_000)).status,
        200,
    ),
    "pictures": (lambda server: server.caption(*GOOD, *GOOD).status, 200),
    "bytes": (lambda server: server.caption(*[GOOD[0] + bytes(1_900_000)] * 32).status, 200),
    "parts": (lambda server: server.caption(*[b""] * 33).status, 413),
    "chunks": (one_byte_chunks, 200),
    "head": (long_head, 200),
}


def worst_wait(server: TinyServer, beside: Send | None = None) -> tuple[float, set[int]]:
    """Seconds that a good client waited at most, and what came of the requests beside them."""
    found: set[int] = set()
    is_over, has_begun = threading.Event(), threading.Event()

    def attack() -> None:
        assert beside is not None
        while not is_over.is_set():
            has_begun.set()
            found.add(beside(server))

    def wait(n: int) -> float:
        started = time.monotonic()
        assert server.caption(GOOD[n % CLIENTS]).status == 200
        return time.monotonic() - started

    attacker = threading.Thread(target=attack)
    if beside is not None:
        attacker.start()
        has_begun.wait()
        time.sleep(0.1)
    try:
        with ThreadPoolExecutor(CLIENTS) as threads:
            waits = list(threads.map(wait, range(3 * CLIENTS)))
    finally:
        is_over.set()
        if beside is not None:
            attacker.join(60)
    return max(waits), found


@pytest.fixture(scope="module")
def usual_wait(server: TinyServer) -> float:
    """Seconds that a good client waits at most where nobody asks for anything costly."""
    return worst_wait(server)[0]


@pytest.mark.parametrize("kind", COSTLY)
def test_no_request_makes_good_clients_wait(
    server: TinyServer, usual_wait: float, kind: str
) -> None:
    send, status = COSTLY[kind]
    longer = []
    for attempt in range(ATTEMPTS):
        without = worst_wait(server)[0] if attempt else usual_wait
        beside, found = worst_wait(server, send)
        assert found == {status}
        longer.append(beside - without)
        print(f"{kind}: {without:.2f} s without, {beside:.2f} s beside")
        if longer[-1] < LONGER:
            break
    assert min(longer) < LONGER, longer
