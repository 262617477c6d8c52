"""Clients that dawdle, go away, or come in crowds."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import pytest
from tiny_server import TinyServer, form, picture, running, until

from showtell.server import connections as connection
from showtell.server.limits import Limits

PNG = picture(0)
IMPATIENT = Limits(upload_seconds=1.0, idle_seconds=1.0, request_bytes=2_000_000)


@pytest.fixture(scope="module")
def impatient() -> Iterator[TinyServer]:
    with running(IMPATIENT) as server:
        yield server


def request(*pictures: bytes, length: int | None = None) -> tuple[bytes, bytes]:
    """Head and body of a request for captions."""
    body, headers = form(pictures or [PNG], {})
    lines = ["POST /v1/captions HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body) if length is None else length}", "", ""]
    return "\r\n".join(lines).encode(), body


def everything(client: socket.socket) -> bytes:
    """What comes until the server hangs up."""
    parts = []
    try:
        while part := client.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def test_a_slow_upload_is_408(impatient: TinyServer) -> None:
    head, body = request(bytes(100_000))
    started = time.monotonic()
    with impatient.connect() as client:
        client.sendall(head + body[:50])
        for n in range(80):  # it is the whole that has its time, not each piece
            try:
                client.sendall(body[50 + n : 51 + n])
            except (BrokenPipeError, ConnectionResetError):
                break
            time.sleep(0.02)
        answer = everything(client)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in answer
    assert time.monotonic() - started < 10
    assert impatient.figure("showtell_upload_bytes") == 0


@pytest.mark.parametrize(
    "start", [b"", b"GET / HT", b"POST /v1/captions HTTP/1.1\r\nHost: localhost\r\nX-"]
)
def test_what_never_becomes_a_request_is_hung_up_on(impatient: TinyServer, start: bytes) -> None:
    with impatient.connect() as client:
        started = time.monotonic()
        client.sendall(start)
        assert everything(client) == b""
        assert 0.7 < time.monotonic() - started < 10


def test_a_refused_body_is_not_waited_for(impatient: TinyServer) -> None:
    """The answer comes at once; a client that sends on and on is hung up on."""
    head, _ = request(length=10**12)
    with impatient.connect() as client:
        client.sendall(head)
        answer = client.recv(65536)
        assert answer.startswith(b"HTTP/1.1 413 ")
        started = time.monotonic()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while time.monotonic() - started < 10:
                client.sendall(bytes(1000))
                time.sleep(0.01)


def test_a_connection_serves_many_requests(impatient: TinyServer) -> None:
    head, body = request()
    connection = HTTPConnection("127.0.0.1", impatient.port, timeout=30)
    for _ in range(3):
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b'{"status":"ok"}'
        time.sleep(0.4)  # together longer than its patience
    connection.close()
    with impatient.connect() as client:
        client.sendall(head + body + head + body)  # not waiting for the answer
        assert everything(client).count(b"HTTP/1.1 200 ") == 2


def test_nonsense_is_400(impatient: TinyServer) -> None:
    for nonsense in (b"\x16\x03\x01\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/1.1\r\nA" * 9000):
        with impatient.connect() as client:
            client.sendall(nonsense)
            answer = everything(client)
            assert answer.startswith(b"HTTP/1.1 400 ") or not answer
            assert not answer or b"application/problem+json" in answer


def test_a_client_that_goes_away_frees_its_places(server: TinyServer) -> None:
    head, body = request(*[picture(n) for n in range(6)])
    with server.held() as backbone, ThreadPoolExecutor(1) as threads:
        first = threads.submit(server.caption, picture(50))
        assert backbone.reached.wait(20)
        backbone.sizes.clear()
        with server.connect() as client:
            client.sendall(head + body)
            until(lambda: server.figure("showtell_pictures_queued") == 6)
        until(lambda: server.figure("showtell_pictures_waiting") == 1)
        assert server.figure("showtell_upload_bytes") > 0  # the first one's
        backbone.gate.set()
        assert first.result().status == 200
    assert backbone.sizes == []  # nobody asked for those any more
    assert server.figure("showtell_upload_bytes") == 0


def test_a_client_that_goes_away_within_its_upload(server: TinyServer) -> None:
    head, body = request(bytes(500_000))
    gone = 'showtell_requests_total{method="POST",path="/v1/captions",status="499"}'
    before = server.figure(gone)
    for _ in range(5):
        with server.connect() as client:
            client.sendall(head + body[:200_000])
            until(lambda: server.figure("showtell_upload_bytes") > 0)
        until(lambda: server.figure("showtell_upload_bytes") == 0)
    assert server.figure(gone) == before + 5


def test_uploads_in_memory_are_bounded() -> None:
    limits = Limits(held_bytes=300_000)
    head, body = request(bytes(250_000))
    with running(limits) as server:
        with server.connect() as client:
            client.sendall(head + body[:200_000])
            until(lambda: server.figure("showtell_upload_bytes") > 100_000)
            refused = server.caption(bytes(250_000))
            assert refused.status == 503
            assert refused.headers["retry-after"] == "1"
            assert server.caption(PNG).status == 200
        until(lambda: server.figure("showtell_upload_bytes") == 0)
        assert server.caption(PNG + bytes(250_000)).status == 200


def test_connections_are_bounded(server: TinyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    until(lambda: not server.server.server_state.connections)
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 3)
    kept = [server.connect() for _ in range(3)]
    try:
        until(lambda: len(server.server.server_state.connections) == 3)
        with server.connect() as client:
            answer = everything(client)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1\r\n" in answer
    finally:
        for client in kept:
            client.close()
    until(lambda: not server.server.server_state.connections)
    assert server.ask("/healthz").status == 200


def test_crowds_are_answered_rightly(server: TinyServer) -> None:
    """Good and hostile clients at once: every good one gets its own caption."""
    expected = [server.caption(picture(n)).json["results"][0]["caption"] for n in range(10)]
    wrong: list[object] = []

    def good(n: int) -> None:
        answer = server.caption(picture(n % 10))
        if answer.status != 200 or answer.json["results"][0]["caption"] != expected[n % 10]:
            wrong.append(answer)

    def hostile(n: int) -> None:
        head, body = request(picture(n))
        with server.connect() as client:
            client.sendall([head + body[: len(body) // 2], head + body, b"\x00" * 99][n % 3])

    threads = [threading.Thread(target=good if n % 2 else hostile, args=(n,)) for n in range(80)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    until(lambda: server.figure("showtell_pictures_waiting") == 0)
    until(lambda: server.figure("showtell_upload_bytes") == 0)
