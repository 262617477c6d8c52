"""A hub on this machine that serves one model, and can misbehave: as much as downloads need."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ID = "someone/tiny-captioner"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CARD = "---\nlicense: cc-by-4.0\ntags: [image-to-text]\n---\n# A tiny captioner\n"


@dataclass
class TinyHub:
    """Serves the files of a folder as the model ``ID``.

    Attributes:
        cut: names of files whose first answer stops after half of the bytes.
        wrong: names of files whose content is not the promised one, though as long.
        gone: names of files that are listed, but not there.
        refuses: whether every request is answered with 401, as for a private model.
        asked: what was asked for: method, path and range.
    """

    folder: Path
    cut: set[str] = field(default_factory=set)
    wrong: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    refuses: bool = False
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    address: str = ""

    @property
    def downloads(self) -> list[str]:
        """Names of the files that were asked for by GET, in order."""
        return [
            path.rpartition("/")[2]
            for method, path, _ in self.asked
            if method == "GET" and "/resolve/" in path
        ]

    def info(self) -> dict[str, Any]:
        """What the hub says of the model."""
        return {
            "id": ID,
            "modelId": ID,
            "sha": COMMIT,
            "private": False,
            "gated": False,
            "disabled": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "cardData": {"license": "cc-by-4.0"},
            "siblings": [
                {"rfilename": path.name, "size": path.stat().st_size}
                for path in sorted(self.folder.iterdir())
            ],
        }

    def tree(self) -> list[dict[str, Any]]:
        return [
            {"type": "file", "path": p.name, "size": p.stat().st_size, "oid": etag(p)}
            for p in sorted(self.folder.iterdir())
        ]


def etag(path: Path) -> str:
    """SHA-256 of large files, git's SHA-1 of the others; here weights are large."""
    content = path.read_bytes()
    if path.suffix in (".safetensors", ".bin"):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def serving(folder: Path) -> Iterator[TinyHub]:
    """A hub that serves until the end of the block."""
    hub = TinyHub(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def _answer(self, *, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            hub.asked.append((self.command, path, self.headers.get("Range")))
            parts = path.strip("/").split("/")
            if hub.refuses or ID not in path:
                self._send(401 if hub.refuses else 404, b"{}", {"X-Error-Code": "RepoNotFound"})
            elif parts[:2] == ["api", "models"]:
                revision = parts[parts.index("revision") + 1] if "revision" in parts else None
                if "tree" in parts:
                    self._send(200, json.dumps(hub.tree()).encode(), {})
                elif revision not in (None, "main", COMMIT):
                    self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
                else:
                    self._send(200, json.dumps(hub.info()).encode(), {})
            else:
                self._file(parts[-1], with_body)

        def _file(self, name: str, with_body: bool) -> None:
            path = hub.folder / name
            if name in hub.gone or not path.is_file():
                self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
                return
            content = path.read_bytes()
            headers = {
                "ETag": f'"{etag(path)}"',
                "X-Repo-Commit": COMMIT,
                "Accept-Ranges": "bytes",
            }
            if name in hub.wrong:
                content = content[:-9] + bytes(byte ^ 1 for byte in content[-9:])
            start, status = 0, 200
            if with_body and (asked := self.headers.get("Range")):
                start, status = int(asked.removeprefix("bytes=").partition("-")[0]), 206
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            body = content[start:]
            if with_body and name in hub.cut:
                hub.cut.discard(name)
                self._head(status, len(body), headers)
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            self._head(status, len(body), headers)
            if with_body:
                self.wfile.write(body)

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self._head(status, len(body), {"Content-Type": "application/json", **headers})
            if self.command == "GET":
                self.wfile.write(body)

        def _head(self, status: int, size: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(size), **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
