"""What is said of URLs that cannot be fetched, and whether they are tried again."""

import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from showtell.core import urls
from showtell.errors import DataError, ImageError, UnavailableError

Serve = Callable[[bytes], str]

NOT_HTTP = "answered with something that is not HTTP"
CUT = "its answer was cut off, or damaged on the way"


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that answers every request with some bytes; gives the URL of a picture.

    One whose answer ends with ``...`` leaves the connection open.
    """
    pytest.importorskip("aiohttp")
    servers: list[socket.socket] = []
    held: list[socket.socket] = []

    def start(answer: bytes) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def work() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:  # the test is over
                    return
                held.append(connection)
                with suppress(OSError):  # the client has hung up
                    connection.recv(2**16)
                    connection.sendall(answer)
                    if not answer.endswith(b"..."):
                        connection.shutdown(socket.SHUT_WR)

        threading.Thread(target=work, daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}/a.jpg"

    yield start
    for one in servers:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)  # ends ``accept``
    for one in [*servers, *held]:
        one.close()


def redirect(to: str) -> bytes:
    head = f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close"
    return f"{head}\r\n\r\n".encode()


def answer(status: str, body: bytes = b"", length: int = 0) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("sent", "said", "is_lasting"),
    [
        (random.Random(1).randbytes(500), NOT_HTTP, False),
        (b"SSH-2.0-OpenSSH_9.2\r\n", NOT_HTTP, False),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", NOT_HTTP, False),
        (redirect("/a.jpg"), "redirects too often", True),
        (
            redirect("file:///etc/passwd"),
            "redirects to something that is not the web (file:)",
            True,
        ),
        (
            redirect(f"s3://{'a' * 3000}"),
            "redirects to something that is not the web (s3:)",
            True,
        ),
        (redirect("http:///x"), "redirects to something that is not a URL", True),
        (answer(f"503 {'x' * 1000}"), "503, Service Unavailable", False),
        (answer("404 No"), "404, there is no such file", True),
        (answer("403 \x1b[31m"), "403, Forbidden", True),
        (answer("999 No"), "999, which is no status of HTTP", False),
        (answer("200 OK", b"abc", 10), CUT, False),
    ],
)
def test_a_failure_is_one_short_line(
    serve: Serve, sent: bytes, said: str, is_lasting: bool
) -> None:
    with pytest.raises(ImageError) as caught:
        urls.fetch(serve(sent))
    assert str(caught.value) == said
    assert isinstance(caught.value, UnavailableError) is not is_lasting


def test_a_list_or_an_archive_says_the_same(serve: Serve) -> None:
    url = serve(redirect("/a.jpg"))
    with pytest.raises(DataError, match=rf"^cannot read {url}: redirects too often$"):
        urls.open_url(url)


def test_a_host_that_answers_for_too_long_is_not_said_to_be_silent(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urls, "MOST_SECONDS", 0.2)  # far below SECONDS_OF_SILENCE
    with pytest.raises(UnavailableError, match=r"^not fetched within 0\.2 s$"):
        urls.fetch(serve(answer("200 OK", b"...", 10)))


def test_whatever_fsspec_says_is_cut_but_not_what_showtell_says() -> None:
    said = urls.reason_of_fsspec(OSError("many\nwords " * 100))
    assert len(said) < 210 and "\n" not in said
    own = f"https://host/{'a' * 300}: needs an extra"
    assert urls.reason_of_fsspec(DataError(own)) == own
    assert (
        urls.reason_of_fsspec(FileNotFoundError("s3://lake/a.jpg")) == "404, there is no such file"
    )
