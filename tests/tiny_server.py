"""A real server on loopback with tiny models, in a thread of this process, and a plain client."""

import io
import json
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

import torch
import uvicorn
from PIL import Image
from tiny_encoder import TinyBackbone

from showtell.config import Config
from showtell.core.device import choose_runtime
from showtell.decoders.registry import build_decoder
from showtell.encoders.encoder import Encoder
from showtell.images.preprocess import Preprocessing
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.checkpoint import Checkpoint
from showtell.server.chat import Clients
from showtell.server.connections import LOOPBACK, Access
from showtell.server.limits import Limits
from showtell.server.models import LoadedModel
from showtell.server.run import build_server, listen
from showtell.text.vocabulary import WordVocabulary

WIDTH = 12
WORDS = WordVocabulary({f"w{i}": 30 - i for i in range(12)} | {"dog": 40, "ball": 35}, 1)
LOCAL = Access(hosts=LOOPBACK)


class GatedBackbone(TinyBackbone):
    """Waits at a gate, which is open unless a test closes it; remembers the sizes of batches."""

    def __init__(self) -> None:
        super().__init__(WIDTH)
        self.gate, self.reached = threading.Event(), threading.Event()
        self.gate.set()
        self.sizes: list[int] = []
        torch.nn.init.normal_(self.conv.weight, std=0.3)  # so that pictures are told apart

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(pixels))
        self.reached.set()
        assert self.gate.wait(30)
        return super().forward(pixels)


def gated_encoder() -> Encoder:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        backbone = GatedBackbone()
    recipe = Preprocessing(32, 0.9, "bilinear", (127.0,) * 3, (64.0,) * 3)
    encoder = Encoder(name="gated", backbone=backbone, preprocessing=recipe, weights_hash="none")
    backbone.sizes.clear()  # it has tried itself out
    return encoder


def tiny_captioner(kind: str, encoder: Encoder, *changes: str) -> NativeCaptioner:
    settings = [f"decoder.kind={kind}", "decoder.embed_size=8", "decoder.hidden_size=16"]
    config = Config.load(None, [*settings, "decoding.max_length=8", *changes])
    with torch.random.fork_rng():
        torch.manual_seed(1)
        decoder = build_decoder(
            config.decoder, vocab_size=len(WORDS), feature_size=WIDTH, region_size=WIDTH
        )
        for weights in decoder.parameters():
            torch.nn.init.normal_(weights, std=0.7)
    checkpoint = Checkpoint(decoder.eval(), WORDS, config, {})
    # In fp32 the encoder sees each picture alone, and a batch could not be told by its size.
    return NativeCaptioner(checkpoint, choose_runtime("cpu", "bf16"), encoder=encoder)


def tiny_models(encoder: Encoder | None = None) -> dict[str, LoadedModel]:
    """``plain``, which does not attend, and ``looks``, which does; one encoder for both."""
    encoder = encoder or gated_encoder()
    plain = tiny_captioner("show_tell", encoder)
    looks = tiny_captioner("attention", encoder, "decoder.attention_size=8")
    return {
        "plain": LoadedModel("plain", plain),
        "looks": LoadedModel("looks", looks),
    }


def picture(number: int = 0, kind: str = "PNG", size: tuple[int, int] = (40, 36)) -> bytes:
    """A picture's file; each number another picture."""
    generator = torch.Generator().manual_seed(number)
    pixels = torch.randint(0, 256, (2, 2, 3), generator=generator, dtype=torch.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).resize(size).save(file, kind)
    return file.getvalue()


def form(
    pictures: Sequence[bytes | tuple[str, bytes]], fields: dict[str, str]
) -> tuple[bytes, dict[str, str]]:
    """A multipart body and its headers."""
    boundary = uuid.uuid4().hex
    parts = [(f'name="{name}"', value.encode()) for name, value in fields.items()]
    for n, given in enumerate(pictures):
        name, data = given if isinstance(given, tuple) else (f"{n}.png", given)
        parts.append((f'name="images"; filename="{name}"\r\nContent-Type: image/png', data))
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + data + b"\r\n"
        for head, data in parts
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return body + f"--{boundary}--\r\n".encode(), headers


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class TinyServer:
    """A running server; ``backbone`` is what its pictures go through."""

    port: int
    models: dict[str, LoadedModel]
    server: uvicorn.Server
    backbone: GatedBackbone
    headers: dict[str, str] = field(default_factory=dict)

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, self.headers | (headers or {}))
            got = connection.getresponse()
            found = {name.lower(): value for name, value in got.getheaders()}
            return Answer(got.status, found, got.read())
        finally:
            connection.close()

    def caption(self, *pictures: bytes | tuple[str, bytes], **fields: str) -> Answer:
        body, headers = form(pictures, fields)
        return self.ask("/v1/captions", method="POST", body=body, headers=headers)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def figure(self, name: str) -> float:
        """A metric's value, or their sum where ``name`` leaves out the labels."""
        lines = self.ask("/metrics").body.decode().splitlines()
        found = [line for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    @contextmanager
    def held(self) -> Iterator[GatedBackbone]:
        """Within it, no batch gets through the encoder."""
        self.backbone.gate.clear()
        self.backbone.reached.clear()
        try:
            yield self.backbone
        finally:
            self.backbone.gate.set()


@contextmanager
def serving(
    models: dict[str, LoadedModel],
    limits: Limits | None = None,
    access: Access = LOCAL,
    clients: Clients | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[tuple[int, uvicorn.Server]]:
    """A running server over any models, and its port."""
    server = build_server(models, limits or Limits(), access, clients, say)
    listener = listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        until(lambda: server.started)
        yield listener.getsockname()[1], server
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@contextmanager
def page_of(
    models: dict[str, LoadedModel], limits: Limits | None = None, access: Access = LOCAL
) -> Iterator[str]:
    """The same by its page's address."""
    with serving(models, limits, access) as (port, _):
        yield f"http://127.0.0.1:{port}/"


@contextmanager
def running(
    limits: Limits | None = None,
    access: Access = LOCAL,
    clients: Clients | None = None,
    **headers: str,
) -> Iterator[TinyServer]:
    models = tiny_models()
    captioner = models["plain"].captioner
    assert isinstance(captioner, NativeCaptioner)
    backbone = captioner.encoder.backbone
    assert isinstance(backbone, GatedBackbone)
    with serving(models, limits, access, clients) as (port, server):
        try:
            yield TinyServer(port, models, server, backbone, headers)
        finally:
            backbone.gate.set()
