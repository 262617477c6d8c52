"""A server on loopback that speaks as OpenAI's and Ollama's do, and misbehaves where it is told to.

It captions a picture of one colour by its number, which ``numbered`` paints: ``picture 7``. What it
does with a picture's requests, one after the other, is a list of deeds; then it answers well.
"""

import base64
import hashlib
import io
import json
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from PIL import Image

KEY = "sk-a-secret-of-the-tests-0123456789"
STEP = 24
SIDE = 40


@dataclass(frozen=True)
class Deed:
    """What the server does with a request: a status, a body, or something worse."""

    status: int = 200
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    stalls: float = 0.0
    cuts: bool = False


STALL = Deed(stalls=5.0)
CUT = Deed(cuts=True)
FULL = Deed(429, b'{"error": {"message": "slow down", "type": "rate_limit"}}')
BROKEN = Deed(500, b'{"error": {"message": "out of memory"}}')
RUBBISH = Deed(200, b"<html>Welcome to the hotel's network</html>")
HUGE = Deed(200, b'{"choices": "' + b"x" * 10_000_000 + b'"}')
NO_CHOICES = Deed(200, b'{"choices": []}')
NOT_AN_OBJECT = Deed(200, b"[1, 2]")


def asks_to_wait(seconds: float) -> Deed:
    return Deed(429, FULL.body, {"Retry-After": f"{seconds:g}"})


def numbered(folder: Path, num: int) -> Path:
    """A folder with pictures that the server tells apart, up to 1,000 of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(num):
        colour = tuple(12 + STEP * (number // 10**place % 10) for place in (2, 1, 0))
        Image.new("RGB", (SIDE, SIDE), colour).save(folder / f"{number:03d}.png")
    return folder


def number_of(jpeg: bytes) -> int:
    image = Image.open(io.BytesIO(jpeg))
    red, green, blue = image.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    return sum(
        round((c - 12) / STEP) * 10**p for c, p in zip((red, green, blue), (2, 1, 0), strict=True)
    )


def words_of(jpeg: bytes, seed: int) -> str:
    """Two to five words that follow from a picture and a seed."""
    digest = hashlib.sha256(jpeg + bytes([seed % 256])).digest()
    return " ".join(f"word{value % 50}" for value in digest[1 : 3 + digest[0] % 4])


class RogueServer:
    """The server; ``deeds`` are by picture.

    Attributes:
        everything: what it does with every request instead.
        describe: makes the text of any picture, from its JPEG and the seed of samples, instead of
            ``answer``.
        seen: the numbers of the pictures that were asked about, as they came.
        most: the most requests at a time.
        answer: makes the text of a good answer of a picture's number.
        log_probs: whether answers have log-probabilities.
        seconds_between: those that it lets pass between two requests; others get ``too_soon``.
    """

    def __init__(self) -> None:
        self.deeds: dict[int, list[Deed]] = defaultdict(list)
        self.everything: Deed | None = None
        self.seen: list[int] = []
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.answer: Callable[[int], str] = lambda number: f"picture {number}"
        self.describe: Callable[[bytes, int], str] | None = None
        self.log_probs = True
        self.delay = 0.0
        self.seconds_between = 0.0
        self.too_soon = FULL
        self._free_at = 0.0
        self.models: list[dict[str, Any]] = [{"name": "tiny:latest", "digest": "d" * 64}]
        self.capabilities: list[str] | None = ["completion", "vision"]
        self.refuses: tuple[str, ...] = ()  # parameters
        self.most = self._now = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.get(self)

            def do_POST(self) -> None:
                outer.post(self)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 200

            def handle_error(self, *_: Any) -> None:
                pass  # clients that went away

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def counts(self) -> Counter[int]:
        return Counter(self.seen)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def get(self, handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/v1/models":
            body = {"data": [{"id": "tiny"}]}
        elif handler.path == "/api/tags":
            body = {"models": self.models}
        else:
            self.send(handler, Deed(404, b'{"error": "no such page"}'))
            return
        self.send(handler, self.everything or Deed(200, json.dumps(body).encode()))

    def post(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        if handler.path == "/api/show":
            shown = {} if self.capabilities is None else {"capabilities": self.capabilities}
            self.send(handler, Deed(200, json.dumps(shown).encode()))
            return
        is_openai = handler.path == "/v1/chat/completions"
        assert is_openai or handler.path == "/api/chat", handler.path
        message = body["messages"][-1]
        if is_openai:
            picture = message["content"][1]["image_url"]["url"].partition("base64,")[2]
        else:
            [picture] = message["images"]
        jpeg = base64.b64decode(picture)
        number = number_of(jpeg)
        with self._lock:
            self.seen.append(number)
            self.bodies.append(body)
            self.keys.add(handler.headers.get("Authorization"))
            self._now += 1
            self.most = max(self.most, self._now)
            deed = self.everything or (self.deeds[number].pop(0) if self.deeds[number] else None)
            if self.seconds_between and time.monotonic() < self._free_at:
                deed = self.too_soon
            else:
                self._free_at = time.monotonic() + self.seconds_between
        time.sleep(self.delay)
        refused = [name for name in self.refuses if name in body]
        if refused:
            text = f"Unsupported parameter: {refused[0]!r} is not supported with this model."
            error = {"message": text, "code": "unsupported_parameter"}
            deed = Deed(400, json.dumps({"error": error}).encode())
        if deed is None:
            seed = (body if is_openai else body["options"]).get("seed", 0)
            text = self.describe(jpeg, seed) if self.describe else self.answer(number)
            value = (self.as_openai if is_openai else self.as_ollama)(text)
            deed = Deed(200, json.dumps(value).encode())
        with self._lock:
            self._now -= 1
        self.send(handler, deed)

    def as_openai(self, text: str) -> dict[str, Any]:
        tokens = [{"token": token, "logprob": -0.25} for token in tokens_of(text)]
        choice: dict[str, Any] = {"message": {"content": text}, "finish_reason": "stop"}
        if self.log_probs:
            choice["logprobs"] = {"content": tokens}
        return {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 7}}

    def as_ollama(self, text: str) -> dict[str, Any]:
        answer = {"message": {"content": text}, "done": True, "done_reason": "stop"}
        if self.log_probs:
            answer["logprobs"] = [{"token": t, "logprob": -0.25} for t in tokens_of(text)]
        return {**answer, "prompt_eval_count": 100, "eval_count": 7}

    def send(self, handler: BaseHTTPRequestHandler, deed: Deed) -> None:
        if deed.stalls:
            time.sleep(deed.stalls)
        if deed.cuts:
            handler.connection.shutdown(socket.SHUT_RDWR)
            handler.close_connection = True
            return
        body = deed.body or b"{}"
        handler.send_response(deed.status)
        for name, value in deed.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


def tokens_of(text: str) -> list[str]:
    """Words, the later ones with their space, and a word in two pieces."""
    words = [word if n == 0 else f" {word}" for n, word in enumerate(text.split(" "))]
    return [piece for word in words for piece in (word[:3], word[3:]) if piece]


@contextmanager
def rogue_server() -> Iterator[RogueServer]:
    server = RogueServer()
    try:
        yield server
    finally:
        server.close()
