"""Requests that a server had better survive; each with the status that it deserves.

``kinds`` are wrong ones. ``costly`` are the costliest that are allowed and the bombs that are not.
"""

import io
import json
import random
import socket
import struct
import time
import uuid
import zlib
from collections.abc import Callable

from PIL import Image

GONE = 0  # no answer is expected: the client goes away
Sender = Callable[[int], int]
Body = tuple[bytes, str]


def multipart(pictures: list[tuple[str, bytes]], **fields: str) -> Body:
    """A form and its content type."""
    boundary = uuid.uuid4().hex
    parts = [(f'name="{name}"', value.encode()) for name, value in fields.items()]
    parts += [(f'name="images"; filename="{name}"', data) for name, data in pictures]
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + data + b"\r\n"
        for head, data in parts
    )
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few kB that unfolds into ``width`` x ``height`` pixels, whole up to 20 MB."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = bytes(min(height * (width // 8 + 1), 20_000_000))
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    return start + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def kinds(photo: bytes) -> dict[str, tuple[Body | bytes, int]]:
    """Name -> a form, or the bytes of a whole request, and the status that it deserves."""
    tiff = io.BytesIO()
    Image.new("RGB", (64, 64)).save(tiff, "TIFF")
    chunked = b"POST /v1/captions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    noise = random.Random(0).randbytes(20_000)
    good, kind = multipart([("a.jpg", photo)])
    return {
        "truncated JPEG": (multipart([("a.jpg", photo[: len(photo) // 2])]), 422),
        "damaged TIFF": (multipart([("a.tif", tiff.getvalue()[:-40])]), 422),
        "noise": (multipart([("a.jpg", noise)]), 415),
        "noise after a JPEG's start": (multipart([("a.jpg", photo[:300] + noise)]), 415),
        "page": (multipart([("a.jpg", b"<script>alert(1)</script>")]), 415),
        "empty file": (multipart([("a.jpg", b"")]), 415),
        "bomb": (multipart([("a.png", bomb(50_000, 50_000))]), 413),
        "larger bomb": (multipart([("a.png", bomb(2**31 - 1, 2**31 - 1))]), 413),
        "large and true": (multipart([("a.png", bomb(7000, 7000))]), 200),
        "too many": (multipart([("a.jpg", b"x")] * 33), 413),
        "wrong field": (multipart([("a.jpg", photo)], beam="3"), 422),
        "wrong setting": (multipart([("a.jpg", photo)], decoding='{"beam_size": 1000000}'), 422),
        "deep JSON": (multipart([("a.jpg", photo)], decoding="[" * 15_000), 422),
        "unknown model": (multipart([("a.jpg", photo)], model="../../etc/passwd"), 422),
        "no form": ((photo, "image/jpeg"), 415),
        "cut form": ((good[:-30], kind), 400),
        "no boundary": ((good, "multipart/form-data"), 400),
        "wrong boundary": ((good, "multipart/form-data; boundary=x"), 400),
        "wrong chunks": (chunked + f"Content-Type: {kind}\r\n\r\nzz\r\n".encode() + good, 400),
        "not HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        "endless header": (b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000, 400),
        "said to be huge": (_head(kind, 10**13), 413),
        "leaves within the head": (_head(kind, 10)[:60], GONE),
        "leaves within the body": (_head(kind, len(good)) + good[: len(good) // 2], GONE),
        "leaves before the answer": (_head(kind, len(good)) + good, GONE),
    }


def costly(photo: bytes, words: list[str]) -> dict[str, tuple[Callable[[int], Body], int]]:
    """Name -> a form for each number, and the status that it deserves.

    Args:
        photo: A picture's file.
        words: 20 or more that the model knows.
    """
    photos = [("a.jpg", photo)] * 32
    longest = {"min_length": 60, "max_length": 60}
    required = {"beam_size": 1, "max_length": 54, "required_words": words[:10]}

    def asking(**settings: object) -> Callable[[int], Body]:
        return lambda n: multipart(photos, decoding=json.dumps(settings))

    def forbidding(num: int, size: int, **settings: object) -> Callable[[int], Body]:
        def make(n: int) -> Body:  # each time others, so that no table is there already
            draw = random.Random(n)
            phrases = [" ".join(draw.choices(words[10:], k=size)) for _ in range(num)]
            short = [phrase[:100].rpartition(" ")[0] for phrase in phrases]
            return multipart(photos, decoding=json.dumps(settings | {"forbidden_words": short}))

        return make

    def pictures(num: int, data: bytes) -> Callable[[int], Body]:
        return lambda n: multipart([("a", data)] * num)

    return {
        "32 pictures": (asking(), 200),
        "a beam of 10, captions of 60 words": (asking(beam_size=10, **longest), 200),
        "5 samples of 60 words": (
            asking(method="sample", num_captions=5, top_p=0.99, temperature=99.0, **longest),
            200,
        ),
        "5 groups, captions of 60 words": (
            asking(method="diverse", beam_size=5, **longest),
            200,
        ),
        "10 required words": (asking(**required), 200),
        "a table of new phrases": (forbidding(9, 15), 200),
        "a table bomb": (forbidding(9, 15, **required), 422),
        "a bomb of 2,500 words": (asking(forbidden_words=["x"] * 2500), 422),
        "a bomb of one word": (asking(required_words=["x" * 16_000]), 422),
        "4 pictures of 49 million pixels": (pictures(4, bomb(7000, 7000)), 200),
        "2 pictures of 49 million clear pixels": (pictures(2, clear(7000, 7000)), 200),
        "4 JPEGs of 100 scans": (pictures(4, scanned(4000, 4000, 100)), 200),
        "a bomb of 100,000 scans": (pictures(1, scanned(4000, 4000, 100_000)), 413),
        "60 MB": (pictures(32, photo + bytes(1_900_000 - len(photo))), 200),
    }


def clear(width: int, height: int) -> bytes:
    """A PNG with an alpha channel."""
    file = io.BytesIO()
    Image.new("RGBA", (width, height), (1, 2, 3, 4)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def scanned(width: int, height: int, num: int) -> bytes:
    """A progressive JPEG whose last scan comes over and over."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), "grey").save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (num - data.count(b"\xff\xda")) + data[-2:]


def post(length: int, kind: str = "multipart/form-data; boundary=b") -> bytes:
    """The head of a request for captions."""
    return _head(kind, length)


def _head(kind: str, length: int) -> bytes:
    return (
        "POST /v1/captions HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def send(port: int, what: Body | bytes, wanted: int) -> int:
    """Send it on a connection of its own; the answer's status, ``GONE`` where none is awaited."""
    data = what if isinstance(what, bytes) else _head(what[1], len(what[0])) + what[0]
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        try:
            connection.sendall(data)
            if wanted == GONE:
                time.sleep(0.02)
                return GONE
            answer = connection.recv(64)
        except (BrokenPipeError, ConnectionResetError):
            return -1
        return int(answer.split()[1]) if answer.startswith(b"HTTP/1.1 ") else -1
