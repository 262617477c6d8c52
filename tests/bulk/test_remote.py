"""Lists from strangers: what they may name, and where a connection may go."""

import io
import socket
import sys
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from bulk.conftest import paint
from bulk_worker import one_file, read_lines, run

from showtell.bulk import remote
from showtell.bulk.journal import Journal
from showtell.bulk.targets import OneFile
from showtell.core import urls
from showtell.core.prefetch import num_workers
from showtell.core.progress import SilentReporter
from showtell.core.urls import TooManyBytesError
from showtell.errors import DataError, ImageError, MissingExtraError, UnavailableError
from showtell.inference import stream

ELSEWHERE = "https://example.com/lists/list.txt"


def refusal(name: str, source: str) -> str:
    picture = remote.listed_picture(name, source)
    assert picture.read is not None
    with pytest.raises(ImageError) as caught:
        picture.read()
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "local:///etc/passwd",
        "zip://a.jpg::file:///tmp/a.zip",
        "memory://secret.jpg",
        "http://169.254.169.254/latest/meta-data/a.jpg",
        "http://[::ffff:169.254.169.254]/a.jpg",
        "http://[64:ff9b::a9fe:a9fe]/a.jpg",
        "http://[fd00:ec2::254]/a.jpg",
        "http://10.0.0.5/a.jpg",
        "http://127.0.0.1:8000/a.jpg",
        "//192.168.1.1/a.jpg",
        "http://[::1/a.jpg",
    ],
)
def test_a_downloaded_list_cannot_look_inside(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_is_within", lambda source: False)
    reason = refusal(name, ELSEWHERE)
    assert "refused" in reason or reason == "is not a URL: Invalid IPv6 URL"


def test_a_list_in_a_store_cannot_name_this_machines_files() -> None:
    assert "is a path on this machine" in refusal("/etc/passwd.jpg", "s3://lake/list.txt")
    assert "refused" in refusal("file:///etc/passwd.jpg", "s3://lake/list.txt")


def test_what_a_downloaded_list_may_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_is_within", lambda source: False)
    names = {
        "a.jpg": "https://example.com/lists/a.jpg",
        "../b.jpg": "https://example.com/b.jpg",
        "/etc/passwd.jpg": "https://example.com/etc/passwd.jpg",
        "s3://lake/a.jpg": "s3://lake/a.jpg",
        "http://8.8.8.8/a.jpg": "http://8.8.8.8/a.jpg",
    }
    for name, url in names.items():
        assert remote.listed_picture(name, ELSEWHERE).path == url


def test_a_local_list(tmp_path: Path, photos: Path) -> None:
    """A person's own list names files as they like, but no cloud's metadata."""
    listed = tmp_path / "list.txt"
    listed.write_text(f"file://{photos}/a.jpg\nhttp://169.254.169.254/a.jpg\n")
    out = tmp_path / "out.jsonl"
    summary = run(one_file(out), listed)
    assert [r["path"] for r in read_lines(out)] == [str(photos / "a.jpg")]
    assert summary.num_failed == 1
    assert "169.254.169.254 is an address within" in (tmp_path / "failures.jsonl").read_text()


@pytest.fixture
def statuses() -> dict[str, int]:
    """The errors that a web site answers with, by path."""
    return {}


@pytest.fixture
def asked() -> list[tuple[str, str]]:
    """What the web site was asked for: the method and the path of each request."""
    return []


@pytest.fixture
def site(photos: Path, statuses: dict[str, int], asked: list[tuple[str, str]]) -> Iterator[str]:
    """A web site whose /away leads to a cloud's metadata, and whose /cut ends in the middle."""
    content = (photos / "a.jpg").read_bytes()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in ("a.jpg", "b.png", "c.webp"):
            archive.add(photos / name, name)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.command, self.path))
            if status := statuses.get(self.path):
                self.send_error(status)
                return
            if self.path == "/away.jpg":
                self.send_response(302)
                self.send_header("Location", "http://169.254.169.254/latest/a.jpg")
                self.end_headers()
                return
            body = b"a.jpg\naway.jpg\nfile:///etc/passwd\n" if "list" in self.path else content
            body = packed.getvalue() if self.path.endswith(".tar") else body
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if "cut" in self.path else body)

        do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_web(tmp_path: Path, site: str) -> None:
    """A list on this network may name its neighbours; redirects out of it are not followed."""
    pytest.importorskip("aiohttp")
    out = tmp_path / "out.jsonl"
    summary = run(one_file(out), f"{site}/list.txt", f"{site}/b.jpg")
    assert [r["path"] for r in read_lines(out)] == [f"{site}/a.jpg", f"{site}/b.jpg"]
    reasons = {r["path"]: r["error"] for r in read_lines(tmp_path / "failures.jsonl")}
    assert summary.num_failed == len(reasons) == 2
    assert "169.254.169.254" in reasons[f"{site}/away.jpg"]
    assert "refused in a downloaded list" in reasons["file:///etc/passwd"]
    with pytest.raises(ImageError, match=r"127\.0\.0\.1 is an address within"):
        remote.fetch(f"{site}/a.jpg", urls.is_internal)


def test_pictures_of_the_web_are_fetched_ahead(
    tmp_path: Path, site: str, asked: list[tuple[str, str]]
) -> None:
    """Many at a time, whatever the number of processors; they stay in order."""
    pytest.importorskip("aiohttp")
    listed = tmp_path / "list.txt"
    names = [f"{site}/{number}.jpg" for number in range(40)]
    listed.write_text("\n".join(names))
    asked_at_first: list[int] = []

    class First(SilentReporter):
        def progress(self, *_: object, **__: object) -> None:
            asked_at_first.append(len(asked))

    run(one_file(tmp_path / "out.jsonl"), listed, report=First(), batch_size=1)
    assert asked_at_first[0] > 2 * num_workers()
    assert [r["path"] for r in read_lines(tmp_path / "out.jsonl")] == names


def test_what_may_pass_is_tried_again_by_a_run_that_resumes(
    tmp_path: Path, photos: Path, site: str, statuses: dict[str, int]
) -> None:
    pytest.importorskip("aiohttp")
    statuses |= {"/gone.jpg": 410, "/secret.jpg": 403, "/lost.jpg": 404}
    busy = {"/many.jpg": 429, "/slow.jpg": 504, "/down.jpg": 500}
    statuses |= busy
    (photos / "no.jpg").write_bytes(b"no picture")
    unreached = "http://127.0.0.1:1/a.jpg"  # nothing listens there
    lasting = [f"{site}{path}" for path in ("/gone.jpg", "/secret.jpg", "/lost.jpg", "/away.jpg")]
    lasting.append(str(photos / "no.jpg"))
    listed = tmp_path / "list.txt"
    names = [*lasting, *(f"{site}{path}" for path in busy), unreached, str(tmp_path / "late.jpg")]
    listed.write_text("\n".join([*names, f"{site}/a.jpg"]))
    out = tmp_path / "out.jsonl"

    class Stopped(OneFile):
        def finish(self, journal: Journal) -> int:
            raise KeyboardInterrupt

    stopped = Stopped(out, "jsonl", tmp_path / "failures.jsonl", overwrite=False)
    with pytest.raises(KeyboardInterrupt):
        run(stopped, listed)
    failures = {str(record["path"]) for record in read_lines(tmp_path / "failures.jsonl")}
    assert failures == set(names)
    journal = read_lines(tmp_path / "out.jsonl.partial")[1:]
    assert {r["path"] for r in journal if "error" in r} == set(lasting)
    statuses.clear()
    paint(tmp_path / "late.jpg", 7)
    summary = run(one_file(out), listed)
    assert (summary.num_captioned, summary.num_kept, summary.num_failed) == (4, 1, 6)
    failures = {str(record["path"]) for record in read_lines(tmp_path / "failures.jsonl")}
    assert failures == {*lasting, unreached}


def test_a_picture_of_the_web_is_asked_for_once(
    site: str,
    asked: list[tuple[str, str]],
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("aiohttp")
    content = (photos / "a.jpg").read_bytes()
    assert remote.fetch(f"{site}/a.jpg") == content
    assert asked == [("GET", "/a.jpg")]
    assert remote.fetch(f"{site}/a.jpg", most=len(content)) == content
    with pytest.raises(TooManyBytesError, match=f"has more than {len(content) - 1:,} bytes"):
        remote.fetch(f"{site}/a.jpg", most=len(content) - 1)
    # So is a large one, of which few are held at a time.
    monkeypatch.setattr(stream, "MOST_AHEAD", len(content) - 1)
    asked.clear()
    assert run(one_file(tmp_path / "out.jsonl"), f"{site}/a.jpg").num_captioned == 1
    assert asked == [("GET", "/a.jpg")]


def test_a_connection_that_drops(tmp_path: Path, site: str, statuses: dict[str, int]) -> None:
    """It may hold the next time, and the other pictures are captioned."""
    pytest.importorskip("aiohttp")
    statuses["/none.tar"] = 404
    with pytest.raises(UnavailableError):
        remote.fetch(f"{site}/cut.jpg")
    out = tmp_path / "out.jsonl"
    summary = run(one_file(out), f"{site}/cut.tar", f"{site}/whole.tar")
    names = [r["path"].rpartition("/")[2] for r in read_lines(out) if "whole" in r["path"]]
    assert names == ["a.jpg", "b.png", "c.webp"]
    assert summary.num_failed == 1
    [failure] = read_lines(tmp_path / "failures.jsonl")
    assert failure["path"] == f"{site}/cut.tar" and failure["may_pass"] is True
    assert "cannot be read to its end: " in failure["error"]
    with pytest.raises(DataError, match=rf"^cannot read {site}/none.tar: 404, "):
        urls.open_url(f"{site}/none.tar")


def test_a_host_that_sends_nothing_is_not_waited_for(
    tmp_path: Path, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(urls, "SECONDS_OF_SILENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        listed = tmp_path / "list.txt"
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.jpg"
        listed.write_text(f"{url}\n{site}/a.jpg\n")
        summary = run(one_file(tmp_path / "out.jsonl"), listed)
    assert (summary.num_captioned, summary.num_failed, summary.num_passing) == (1, 1, 1)
    [failure] = read_lines(tmp_path / "failures.jsonl")
    assert failure["error"] == f"{url}: its host takes too long to answer"


def test_a_kind_of_store_that_does_not_exist_is_not_tried_again() -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(ImageError, match="Protocol not known: nope") as caught:
        remote.fetch("nope://lake/a.jpg")
    assert not isinstance(caught.value, UnavailableError)


class NoCredentials(Exception):
    """As a store's own package raises it."""


@pytest.mark.parametrize(
    ("method", "use"),
    [
        ("ls", remote.names_in),
        ("isdir", lambda url: remote.expand(url, Counter())),
        ("cat_file", lambda url: remote.contents_of(url, ["a.jsonl"])),
        ("get_file", lambda url: remote.get(url, "a.jsonl")),
        ("rm_file", lambda url: remote.remove(url, ["a.jsonl"])),
        ("put_file", lambda url: remote.put("a.jsonl", url)),
    ],
)
def test_whatever_a_store_raises_is_one_line(
    method: str, use: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = pytest.importorskip("fsspec.implementations.memory")

    def fail(*_: object, **__: object) -> None:
        raise NoCredentials("Unable to locate credentials")

    monkeypatch.setattr(memory.MemoryFileSystem, method, fail)
    with pytest.raises(DataError, match=r"^memory://lake/out: Unable to locate credentials$"):
        use("memory://lake/out")


def test_what_is_not_there_is_removed_already(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    folder = f"memory://{tmp_path}"
    (tmp_path / "a").write_bytes(b"a")
    remote.put(str(tmp_path / "a"), f"{folder}/a")
    remote.remove(folder, ["b", "a"])
    assert remote.names_in(folder) == set()


def test_without_what_reads_the_web(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec")
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(
        MissingExtraError, match=r"reading https://host/a.jpg needs an extra.*remote"
    ):
        remote.expand("https://host/a.jpg", Counter())
