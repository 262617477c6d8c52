"""Clients that dawdle, go away, or come in crowds."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection

import pytest
from tiny_server import TinyServer, form, picture, running, until

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


POST = (  # a body is to follow
    b"POST /v1/captions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
)
IDLING = {
    "nothing": b"",
    "half a head": b"POST /v1/captions HTTP/1.1\r\nHost: localhost\r\nX-",
    "an answer taken": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no body": POST,
    "a bit of a body": POST + b"--b\r\n",
}


@pytest.mark.parametrize("sent", IDLING)
def test_too_many_idle_connections_keep_nobody_out(sent: str) -> None:
    """They make way, though they come from the good clients' own address."""
    with running(Limits(connections=80)) as server:
        idle = []
        try:
            for _ in range(120):
                client = server.connect()
                idle.append(client)
                with suppress(BrokenPipeError, ConnectionResetError):  # it has made way already
                    client.sendall(IDLING[sent])
                if sent == "an answer taken":
                    assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
            if sent.endswith("body"):
                time.sleep(1.1)  # a body has a second to arrive before it makes way
            with ThreadPoolExecutor(16) as threads:
                answers = list(threads.map(lambda n: server.caption(picture(n % 10)), range(64)))
            assert {answer.status for answer in answers} == {200}
            assert len(server.server.server_state.connections) <= 80
        finally:
            for client in idle:
                client.close()


def test_requests_at_work_do_not_make_way() -> None:
    """One client has three quarters of the connections at most; the others stay for others."""
    with (
        running(Limits(connections=16)) as server,
        server.held(),
        ThreadPoolExecutor(16) as threads,
    ):
        good = [threads.submit(server.caption, picture(n)) for n in range(12)]
        until(lambda: len(server.server.server_state.connections) == 12)
        until(lambda: server.backbone.reached.is_set())
        time.sleep(0.2)  # until they all have been read
        with server.connect() as client:
            answer = everything(client)
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"Retry-After: 1\r\n" in answer
        head, body = request()
        other = ("127.0.0.2", 0)
        clients = [
            socket.create_connection(("127.0.0.1", server.port), 30, other) for _ in range(4)
        ]
        for client in clients:
            client.sendall(head + body)
        time.sleep(0.2)
        with socket.create_connection(("127.0.0.1", server.port), 30, other) as client:
            answer = everything(client)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1\r\n" in answer
        server.backbone.gate.set()
        assert [answer.result().status for answer in good] == [200] * 12
        for client in clients:
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
            client.close()
    until(lambda: not server.server.server_state.connections)


def test_a_body_has_to_keep_its_pace() -> None:
    limits = Limits(upload_patience=0.5, upload_rate=100_000, idle_seconds=1.0)
    with running(limits) as server:
        head, body = request(PNG + bytes(200_000))
        started = time.monotonic()
        with server.connect() as client:  # as fast as it has to be
            client.sendall(head)
            for n in range(0, len(body), 20_000):
                client.sendall(body[n : n + 20_000])
                time.sleep(0.1)
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert time.monotonic() - started > 1
        with server.connect() as client:
            client.sendall(head + body[:10_000])
            started = time.monotonic()
            answer = everything(client)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"came too slowly" in answer
        assert time.monotonic() - started < 10


def test_an_answer_has_to_be_taken_in(impatient: TinyServer) -> None:
    """Requests without end whose answers nobody reads."""
    get = b"GET /page/page.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with impatient.connect() as client:
        client.settimeout(20)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                client.sendall(get * 100)
    until(lambda: not impatient.server.server_state.connections)
