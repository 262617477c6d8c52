"""Hostile uploads: each gets its status, and nothing of it stays."""

import io
import os
import struct
import tempfile
import zlib
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_server import TinyServer, form, picture, running

from showtell.server.limits import Limits
from showtell.server.problems import Problem
from showtell.server.uploads import Form, read_form

PNG = picture(0)
SMALL = Limits(
    pictures=3,
    picture_bytes=20_000,
    request_bytes=50_000,
    pixels=10_000,
    held_bytes=60_000,
    field_bytes=1000,
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> TinyServer:
    with running(SMALL) as server:
        yield server


def png_bomb(width: int, height: int) -> bytes:
    """A PNG whose header promises more than anyone would want to decode."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes(1_000_000), 9)
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_too_much_of_anything_is_413(small: TinyServer) -> None:
    answers = {
        "pictures": small.caption(PNG, PNG, PNG, PNG),
        "a picture's bytes": small.caption(PNG + bytes(20_000)),
        "bytes": small.caption(bytes(19_000), bytes(19_000), bytes(19_000)),
        "pixels": small.caption(picture(0, size=(101, 100))),
        "a bomb's pixels": small.caption(png_bomb(60_000, 60_000)),
        "a larger bomb's pixels": small.caption(png_bomb(2**31 - 1, 2**31 - 1)),
        "a field's bytes": small.caption(PNG, decoding=" " * 1001),
    }
    for what, answer in answers.items():
        assert answer.status == 413, (what, answer.body)
        assert "more than" in answer.json["detail"] or "pixels" in answer.json["detail"]
    assert small.caption(picture(0, size=(100, 100))).status == 200
    assert small.figure("showtell_upload_bytes") == 0


def test_a_body_without_length_is_counted(small: TinyServer) -> None:
    body, headers = form([bytes(19_000)] * 3, {})
    chunks = iter([body[i : i + 1000] for i in range(0, len(body), 1000)])
    answer = small.ask("/v1/captions", method="POST", body=chunks, headers=headers)
    assert answer.status == 413
    body, headers = form([PNG], {})
    answer = small.ask(
        "/v1/captions", method="POST", body=iter([body[:99], body[99:]]), headers=headers
    )
    assert answer.status == 200


WRONG = {
    "no type": (None, b"", 415),
    "JSON": ("application/json", b"{}", 415),
    "a picture": ("image/png", PNG, 415),
    "odd type": ("multipart/form-data;;;=\x01", b"", 400),
    "no boundary": ("multipart/form-data", b"", 400),
    "long boundary": ("multipart/form-data; boundary=" + "x" * 1000, b"", 400),
    "nothing": ("multipart/form-data; boundary=b", b"", 400),
    "noise": ("multipart/form-data; boundary=b", os.urandom(500), 400),
    "only the start": ("multipart/form-data; boundary=b", b"--b\r\n", 400),
    "no name": (
        "multipart/form-data; boundary=b",
        b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
        400,
    ),
    "no disposition": ("multipart/form-data; boundary=b", b"--b\r\n\r\nx\r\n--b--\r\n", 400),
    "endless header": (
        "multipart/form-data; boundary=b",
        b"--b\r\nContent-Disposition: " + b"x" * 20_000,
        400,
    ),
    "many headers": ("multipart/form-data; boundary=b", b"--b\r\n" + b"X: y\r\n" * 1000, 400),
    "not UTF-8": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n\xff\r\n--b--\r\n',
        422,
    ),
    "twice": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nx\r\n' * 2 + b"--b--\r\n",
        422,
    ),
    "packed": ("multipart/form-data; boundary=b", zlib.compress(form([PNG], {})[0]), 400),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_bodies(small: TinyServer, name: str) -> None:
    kind, body, status = WRONG[name]
    headers = {"Content-Type": kind} if kind else {}
    answer = small.ask("/v1/captions", method="POST", body=body, headers=headers)
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == status


@pytest.mark.parametrize("name", ["../../etc/passwd", "\u202egpj.exe", "a\x00b", "x" * 3000, "<b>"])
def test_odd_file_names_come_back_harmless(small: TinyServer, name: str) -> None:
    [result] = small.caption((name, PNG)).json["results"]
    assert len(result["name"]) < 300
    assert result["name"].isprintable()


def test_nothing_is_kept_on_the_disk(
    server: TinyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not even of an upload that Starlette's own parser would write to a file."""
    made: list[object] = []
    for name in ("SpooledTemporaryFile", "NamedTemporaryFile", "TemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, lambda *a, **k: made.append(a))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    large = io.BytesIO(PNG)
    large.seek(0, io.SEEK_END)
    large.write(bytes(5_000_000))  # what follows a picture's end is ignored
    assert server.caption(large.getvalue()).status == 200
    assert made == []
    assert list(tmp_path.iterdir()) == []


async def _parse(body: bytes, headers: dict[str, str], cuts: list[int]) -> Form:
    async def chunks():
        edges = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
        for start, end in pairwise(edges):
            yield body[start:end]

    return await read_form(
        headers["Content-Type"], chunks(), Limits(), files="images", fields=frozenset({"model"})
    )


def run(coroutine):
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


@given(
    st.lists(st.binary(max_size=60), max_size=4),
    st.text(max_size=20),
    st.lists(st.integers(0, 2000), max_size=8),
)
def test_a_form_does_not_depend_on_how_it_is_cut(
    pictures: list[bytes], value: str, cuts: list[int]
) -> None:
    body, headers = form(pictures, {"model": value})
    found = run(_parse(body, headers, cuts))
    assert [upload.data for upload in found.pictures] == pictures
    assert found.fields == {"model": value}


@given(st.binary(max_size=300), st.lists(st.integers(0, 2000), max_size=4))
def test_any_bytes_are_a_form_or_a_problem(noise: bytes, cuts: list[int]) -> None:
    body, headers = form([noise], {})
    for hostile in (noise, body[: len(noise)], body.replace(b"\r\n", noise[:2])):
        try:
            run(_parse(hostile, headers, cuts))
        except Problem as problem:
            assert problem.status in (400, 422)
