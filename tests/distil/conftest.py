"""A web site with pictures for a distillation, some of which may be busy."""

import io
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image


class Site:
    """The site; ``/7.png`` is a picture of one colour, another for each number.

    Attributes:
        busy: the paths for which it answers 503.
        asked: the paths that it was asked for, as they came.
        most: the most requests at a time.
        delay: seconds that an answer takes.
    """

    def __init__(self) -> None:
        self.busy: set[str] = set()
        self.asked: list[str] = []
        self.most = self._now = 0
        self.delay = 0.0
        self.url = ""
        self._lock = threading.Lock()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        with self._lock:
            self.asked.append(handler.path)
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(self.delay)
        with self._lock:
            self._now -= 1
        if handler.path in self.busy:
            handler.send_error(503)
            return
        body = self.content(int(handler.path.strip("/").partition(".")[0]))
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    @staticmethod
    def content(number: int) -> bytes:
        file = io.BytesIO()
        Image.new("RGB", (32, 32), (number, 0, 0)).save(file, "PNG")
        return file.getvalue()


@pytest.fixture
def site() -> Iterator[Site]:
    """A site of the web on loopback; the test is left out where nothing reads the web."""
    pytest.importorskip("aiohttp")
    found = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()
