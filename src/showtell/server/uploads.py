"""Forms and other bodies, read into memory only, within limits of time and size.

Starlette's own parser writes files beyond 1 MB to the disk. This one feeds the same tokeniser
(``python_multipart``) and keeps what it finds in memory. It counts as it goes, so a limit is
noticed with the byte that passes it, before the rest of the body is taken in.

``Intake`` reads the form of a request: it holds the body to its pace, and counts the bytes of all
forms in memory. ``read_form`` is the reading itself, of any source of bytes.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from showtell.errors import unknown_name
from showtell.server.limits import Limits, Shares, share
from showtell.server.problems import Problem

MAX_NAME = 255
ADVICE = "with curl, -F {files}=@photo.jpg"


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture's file as it came: nothing of it is trusted."""

    name: str
    data: bytes


@dataclass(slots=True)
class Form:
    """A request's form: pictures, and the other fields by their names."""

    pictures: list[Upload] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)


class Intake:
    """Reads the forms of requests.

    Args:
        limits: What is too much.
        files: The field whose parts are pictures.
        fields: The other fields that there are.

    Attributes:
        bytes: The bytes of forms in memory.
    """

    def __init__(self, limits: Limits, *, files: str, fields: frozenset[str]) -> None:
        self._limits, self._files, self._fields = limits, files, fields
        each = max(limits.request_bytes, share(limits.held_bytes))
        self.bytes = Shares(limits.held_bytes, each, "too many uploads")

    @asynccontextmanager
    async def form(self, request: Request, client: str) -> AsyncIterator[Form]:
        """A request's form; within, its bytes count as in memory, and as this client's.

        Raises:
            Problem: 408 too slow, 429 or 503 too many uploads, and those of ``read_form``.
            ClientDisconnect: the client is gone.
        """
        limits = self._limits
        self._check_length(request)
        with self.bytes.held_by(client) as holding:
            form = await read_form(
                request.headers.get("content-type"),
                _in_time(request.stream(), limits),
                limits,
                files=self._files,
                fields=self._fields,
                count=holding.add,
            )
            yield form

    @asynccontextmanager
    async def body(
        self, request: Request, client: str
    ) -> AsyncIterator[tuple[bytearray, Callable[[int], None]]]:
        """A request's whole body, and what counts further bytes that are made of it.

        Its bytes count to the end of the block, as what it is parsed into is about as large.
        Whoever has parsed it clears it, so that they are not in memory twice.

        Raises:
            Problem: 408 too slow, 413 too much, 429 or 503 too many uploads.
            ClientDisconnect: the client is gone.
        """
        self._check_length(request)
        with self.bytes.held_by(client) as holding:
            content = bytearray()
            async for chunk in _in_time(request.stream(), self._limits):
                if len(content) + len(chunk) > self._limits.request_bytes:
                    raise _too_large(self._limits)
                holding.add(len(chunk))
                content += chunk
            yield content, holding.add

    def _check_length(self, request: Request) -> None:
        """Refuse a body that is too large before any of it is read."""
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._limits.request_bytes:
            raise _too_large(self._limits)


async def _in_time(body: AsyncIterator[bytes], limits: Limits) -> AsyncIterator[bytes]:
    """The same chunks.

    Raises:
        Problem: 408, when they come too slowly or for too long.
    """
    loop = asyncio.get_running_loop()
    started, received = loop.time(), 0
    while True:
        seconds = min(limits.upload_seconds, limits.upload_patience + received / limits.upload_rate)
        try:
            async with asyncio.timeout_at(started + seconds):
                chunk = await anext(body, None)
        except TimeoutError:
            if seconds == limits.upload_seconds:
                reason = f"did not arrive within {seconds:g} seconds"
            else:
                reason = f"came too slowly: {limits.upload_rate:,} bytes per second are expected"
            raise Problem(408, f"the request {reason}") from None
        if chunk is None:
            return
        received += len(chunk)
        yield chunk


async def read_form(
    content_type: str | None,
    body: AsyncIterator[bytes],
    limits: Limits,
    *,
    files: str,
    fields: frozenset[str],
    count: Callable[[int], None] = lambda _: None,
) -> Form:
    """Take a form in.

    Args:
        content_type: The request's header.
        body: Its body, as it arrives.
        limits: What is too much.
        files: The field whose parts are pictures.
        fields: The other fields that there are.
        count: Told of the bytes of each chunk before they are kept; it may raise.

    Raises:
        Problem: 415 not multipart, 400 not as multipart should be, 413 too much, 422 wrong fields.
    """
    kind, options = parse_options_header(content_type or "")
    if kind != b"multipart/form-data":
        given = content_type or "of no type"
        advice = ADVICE.format(files=files)
        raise Problem(415, f"the body is {given}: send multipart/form-data ({advice})")
    boundary = options.get(b"boundary")
    if not boundary:
        raise Problem(400, "multipart/form-data without a boundary")
    try:
        reader = _Reader(boundary, limits, files, fields)
        size = 0
        async for chunk in body:
            size += len(chunk)
            if size > limits.request_bytes:
                raise _too_large(limits)
            count(len(chunk))
            reader.write(chunk)
        return reader.finish()
    except FormParserError as error:
        raise Problem(400, f"the multipart body is damaged: {error}") from None


def too_many_pictures(limits: Limits) -> Problem:
    """413: this request has more pictures than a request may have."""
    return Problem(
        413,
        f"more than {limits.pictures} pictures in one request: send several requests (the server's "
        "owner can allow more by --max-pictures)",
    )


def large_picture(name: str, limits: Limits) -> Problem:
    """413: the file of the picture of this name is larger than one may be."""
    return Problem(
        413,
        f"{name}: more than {limits.picture_bytes:,} bytes (the server's owner can allow more by "
        "--max-megabytes)",
    )


def _too_large(limits: Limits) -> Problem:
    return Problem(413, f"the request has more than {limits.request_bytes:,} bytes")


class _Reader:
    """The tokeniser's callbacks: the part being read, and those that are whole."""

    def __init__(self, boundary: bytes, limits: Limits, files: str, fields: frozenset[str]) -> None:
        self._limits, self._files, self._fields = limits, files, fields
        self._form = Form()
        self._header = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._name: str = ""
        self._filename: str = ""
        self._data = bytearray()
        self._is_whole = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._part_data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )

    def write(self, chunk: bytes) -> None:
        self._parser.write(chunk)

    def finish(self) -> Form:
        if not self._is_whole:
            raise Problem(400, "the multipart body ends before its last boundary")
        return self._form

    def _begin(self) -> None:
        self._headers, self._data = {}, bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if kind != b"form-data" or b"name" not in options:
            raise Problem(400, "a part of the form has no name (Content-Disposition: form-data)")
        self._name = _text(options[b"name"])
        self._filename = _text(options.get(b"filename", b""))[:MAX_NAME]
        if self._name == self._files:
            if len(self._form.pictures) == self._limits.pictures:
                raise too_many_pictures(self._limits)
        elif self._name not in self._fields:
            known = {self._files, *self._fields}
            raise Problem(422, unknown_name("field", self._name[:MAX_NAME], known))
        elif self._name in self._form.fields:
            raise Problem(422, f"field {self._name!r} comes twice")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        is_file = self._name == self._files
        limit = self._limits.picture_bytes if is_file else self._limits.field_bytes
        if len(self._data) + end - start > limit:
            what = self._filename or f"field {self._name!r}"
            if is_file:
                raise large_picture(what, self._limits)
            raise Problem(413, f"{what}: more than {limit:,} bytes, which is this server's limit")
        self._data += data[start:end]

    def _part_end(self) -> None:
        if self._name == self._files:
            if not self._filename and (text := _short_text(self._data)) is not None:
                raise Problem(
                    422,
                    f"{self._files} is the text {text!r}: expected the file of a picture "
                    f"({ADVICE.format(files=self._files)})",
                )
            name = self._filename or f"picture {len(self._form.pictures) + 1}"
            self._form.pictures.append(Upload(name, bytes(self._data)))
        else:
            try:
                self._form.fields[self._name] = self._data.decode("utf-8")
            except UnicodeDecodeError:
                raise Problem(422, f"field {self._name!r} is not UTF-8") from None
        self._data = bytearray()

    def _end(self) -> None:
        self._is_whole = True


def _short_text(data: bytes | bytearray) -> str | None:
    """What a person typed where a file belongs; None for the bytes of a picture."""
    text = data.decode("utf-8", "replace") if len(data) <= MAX_NAME else "\0"
    return text if text.isprintable() and "\ufffd" not in text else None


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
