"""Downloads from a server on this machine that breaks off, lies, changes its file and refuses."""

import hashlib
import io
import os
import stat
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from showtell.core.progress import SilentReporter
from showtell.data.download import INSIDE, download, next_steps, plan_download
from showtell.data.download.catalogue import PUBLISHED, Archive, Published, find_published
from showtell.data.download.extract import extract, members_of
from showtell.data.download.fetch import TRIES, fetch_file, remote_size
from showtell.data.pictures import is_picture_name
from showtell.data.sources import load_dataset
from showtell.errors import DataError

CONTENT = bytes(range(256)) * 4000  # 1,024,000 bytes
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Remote:
    """What the server has, and how it behaves; changed by tests while it runs.

    Attributes:
        content: The file.
        tag: Its ETag; "" for a server that sends none.
        cut: Bytes after which an answer breaks off, one for each request; then none does.
        status: Answered to each request, one after the other; then 200.
        length: Sent in place of the true Content-Length.
        ranges: Whether it knows ranges; "lies": it says so and sends another part.
        seen: The Range header of each GET.
    """

    content: bytes = CONTENT
    tag: str = '"one"'
    cut: list[int] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    ranges: str = "yes"
    sends_length: bool = True
    length: str = ""
    seen: list[str] = field(default_factory=list)
    after: Callable[[], None] | None = None
    url: str = ""


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    monkeypatch.setattr("showtell.data.download.fetch.WAIT", 0.0)
    monkeypatch.setattr("showtell.data.download.fetch.PIECE", 10_000)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    state = Remote()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            state.seen.append(self.headers.get("Range", ""))
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            status = state.status.pop(0) if state.status else 200
            if status != 200:
                self.send_error(status)
                return
            content, start = state.content, 0
            asked = self.headers.get("Range")
            fresh = self.headers.get("If-Range") in (None, state.tag)
            if asked and fresh and state.ranges != "no":
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                if start >= len(content):
                    self.send_error(416)
                    return
                if state.ranges == "lies":
                    start = max(0, start - 5)
                self.send_response(206)
                last = len(content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
            else:
                self.send_response(200)
            body = content[start:]
            if state.sends_length:
                self.send_header("Content-Length", state.length or str(len(body)))
            if state.tag:
                self.send_header("ETag", state.tag)
            self.end_headers()
            if with_body:
                cut = state.cut.pop(0) if state.cut else len(body)
                self.wfile.write(body[:cut])
                if state.after is not None:
                    state.after()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def archive(remote: Remote, **values: object) -> Archive:
    return replace(Archive(f"{remote.url}/file.zip", len(CONTENT), SHA256), **values)  # type: ignore[arg-type]


def check(
    remote: Remote, folder: Path, *, notes: list[str] | None = None, **values: object
) -> None:
    said: list[str] = []
    path = fetch_file(archive(remote, **values), folder, note=said.append)
    assert path.read_bytes() == remote.content
    assert os.listdir(folder) == ["file.zip"], "nothing else is left"
    assert said == (notes or [])


def test_a_file_in_one_go(remote: Remote, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    fetch_file(archive(remote), tmp_path, progress=lambda *numbers: seen.append(numbers))
    assert seen[-1] == (len(CONTENT), len(CONTENT)) and len(seen) > 50
    check(remote, tmp_path)
    assert remote.seen == [""], "what is there is not fetched again"


def test_a_connection_that_breaks_off_goes_on(remote: Remote, tmp_path: Path) -> None:
    remote.cut = [300_000, 200_000, 0, 1]
    check(remote, tmp_path)
    assert remote.seen == ["", "bytes=300000-", "bytes=500000-", "bytes=500000-", "bytes=500001-"]


def test_it_gives_up_in_the_end_and_the_next_run_goes_on(remote: Remote, tmp_path: Path) -> None:
    remote.cut = [400_000] + [0] * TRIES
    with pytest.raises(DataError, match=f"broke off .*, {TRIES} times; 400,000 bytes are kept"):
        fetch_file(archive(remote), tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["file.zip.part", "file.zip.part.json"]
    check(remote, tmp_path)
    assert remote.seen[-1] == "bytes=400000-"


@pytest.mark.parametrize("ranges", ["yes", "lies", "no"])
def test_it_gives_up_where_what_came_is_lost_again(
    ranges: str, remote: Remote, tmp_path: Path
) -> None:
    """Bytes that came a second time are no progress."""
    remote.cut, remote.ranges = [300_000, 200_000] * 20, ranges

    def change() -> None:
        remote.tag = f'"{len(remote.seen)}"'

    remote.after = change
    with pytest.raises(DataError, match=f"{TRIES} times"):
        fetch_file(archive(remote), tmp_path)
    assert len(remote.seen) == TRIES


def test_a_server_without_ranges_sends_all_again(remote: Remote, tmp_path: Path) -> None:
    remote.cut, remote.ranges = [300_000], "no"
    note = "file.zip: the server sends all of it again, not the rest; fetched anew"
    check(remote, tmp_path, notes=[note])


def test_a_server_that_lies_about_ranges(remote: Remote, tmp_path: Path) -> None:
    remote.cut, remote.ranges = [300_000], "lies"
    note = "file.zip: the server sent the wrong range; starting again"
    check(remote, tmp_path, notes=[note])
    assert remote.seen == ["", "bytes=300000-", ""]


def test_without_a_version_nothing_is_resumed(remote: Remote, tmp_path: Path) -> None:
    remote.cut, remote.tag = [300_000], ""
    check(remote, tmp_path)
    assert remote.seen == ["", ""]


@pytest.mark.parametrize("num_bytes", [len(CONTENT), 100_000])
def test_a_file_that_changes_in_between(num_bytes: int, remote: Remote, tmp_path: Path) -> None:
    remote.cut = [300_000]

    def change() -> None:
        remote.content, remote.tag = bytes(reversed(CONTENT))[:num_bytes], '"two"'

    remote.after = change
    note = "file.zip: the server sends all of it again, not the rest; fetched anew"
    check(remote, tmp_path, notes=[note], num_bytes=0, sha256="")
    assert remote.seen == ["", "bytes=300000-"]


def test_a_file_that_shrinks_under_the_same_tag(remote: Remote, tmp_path: Path) -> None:
    remote.cut = [300_000]
    remote.after = lambda: setattr(remote, "content", CONTENT[:200_000])
    note = "file.zip has changed at its address; fetched anew"
    check(remote, tmp_path, notes=[note], num_bytes=0, sha256="")


def test_a_wrong_sum(remote: Remote, tmp_path: Path) -> None:
    remote.content = CONTENT[::-1]
    with pytest.raises(DataError, match=rf"has the sha256 \w+, expected {SHA256}; it was deleted"):
        fetch_file(archive(remote), tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_wrong_size(remote: Remote, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 1,024,000 bytes, expected 9; this address has"):
        fetch_file(archive(remote, num_bytes=9), tmp_path)
    remote.sends_length = False
    remote.content = CONTENT[:5000]
    with pytest.raises(DataError, match="gave 5,000 bytes, expected 1,024,000; they were deleted"):
        fetch_file(archive(remote), tmp_path)
    remote.content = CONTENT * 3  # a server that sends without an end would fill the disk
    with pytest.raises(DataError, match="more bytes came than the 1,024,000 expected; they were"):
        fetch_file(archive(remote), tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_length_that_is_no_number(remote: Remote, tmp_path: Path) -> None:
    remote.length = "1,024,000"
    assert remote_size(archive(remote, num_bytes=0)) == 0
    check(remote, tmp_path)


def test_refusals_and_passing_troubles(remote: Remote, tmp_path: Path) -> None:
    remote.status = [404]
    with pytest.raises(DataError, match="answers 404 Not Found; the file may have moved"):
        fetch_file(archive(remote), tmp_path)
    remote.status = [503, 429]
    check(remote, tmp_path)


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("showtell.data.download.fetch.WAIT", 0.0)
    with pytest.raises(DataError, match=f"Connection refused, {TRIES} times; 0 bytes are kept"):
        fetch_file(Archive("http://127.0.0.1:9/file.zip"), tmp_path)


def test_what_is_of_another_address_or_damaged_is_dropped(remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "file.zip.part").write_bytes(b"other")
    (tmp_path / "file.zip.part.json").write_text('{"url": "x", "total": 9, "validator": "y"}')
    check(remote, tmp_path)
    (tmp_path / "file.zip").unlink()
    (tmp_path / "file.zip.part").write_bytes(b"other")
    (tmp_path / "file.zip.part.json").write_text("[")
    check(remote, tmp_path)
    assert remote.seen == ["", ""]


def zipped(members: dict[str, bytes], *, kind: int = 0) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = kind << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            opened.writestr(member, content)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "kind", "fault"),
    [
        ("../evil.txt", 0, "leads out of the folder"),
        ("/etc/evil.txt", 0, "leads out of the folder"),
        ("a\\..\\..\\evil.txt", 0, "leads out of the folder"),
        ("c:\\evil.txt", 0, "leads out of the folder"),
        ("link", stat.S_IFLNK | 0o777, "is a link or a device"),
        ("pipe", stat.S_IFIFO, "is a link or a device"),
    ],
)
def test_hostile_members(name: str, kind: int, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped({"good.txt": b"good", name: b"/etc"}, kind=kind))
    with pytest.raises(DataError, match=f"{fault}, so nothing of it was unpacked"):
        members_of(path)


def test_bombs_and_broken_archives(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped({"zeros": bytes(2**25)}))
    with pytest.raises(DataError, match="becomes 33,554,432 bytes of"):
        members_of(path)
    path.write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot be unpacked: File is not a zip file"):
        members_of(path)
    path.write_bytes(zipped({"other": b"x"}))
    with pytest.raises(DataError, match="holds no wanted; it holds other"):
        members_of(path, ["wanted"])
    raw = bytearray(zipped({"a.txt": os.urandom(5000)}))
    raw[200] ^= 255
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"is damaged at a\.txt: .*; delete it, and run the same"):
        extract(path, members_of(path), tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == []


def test_a_link_in_the_folder_is_not_followed_out_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped({"inside/a.txt": b"x"}))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "inside").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="is a link that leads out of"):
        extract(path, members_of(path), tmp_path / "out")
    assert os.listdir(tmp_path / "elsewhere") == []


def flickr(picture: Callable[..., None], tmp_path: Path) -> bytes:
    """Flickr8k in small: text and pictures in one archive, with what macOS leaves."""
    members = {"__MACOSX/._x.jpg": b"junk", "Flickr8k.token.txt": b""}
    for number in range(12):
        picture(tmp_path / "p.jpg", 20 * number)
        members[f"Flicker8k_Dataset/{number}.jpg"] = (tmp_path / "p.jpg").read_bytes()
        members["Flickr8k.token.txt"] += f"{number}.jpg#0\tA dog number {number} .\n".encode()
    (tmp_path / "p.jpg").unlink()
    return zipped(members)


def small(remote: Remote, **values: object) -> Published:
    return replace(
        PUBLISHED["flickr8k"],
        archives=(Archive(f"{remote.url}/small.zip"),),
        **values,  # type: ignore[arg-type]
    )


def test_from_nothing_to_a_data_set(
    picture: Callable[..., None], remote: Remote, tmp_path: Path
) -> None:
    remote.content = flickr(picture, tmp_path)
    folder = tmp_path / "new folder"
    remote.cut = [700]
    plan = plan_download(small(remote), folder)
    assert plan.to_fetch == len(remote.content)
    download(plan, SilentReporter())
    assert sorted(os.listdir(folder)) == [INSIDE, "Flicker8k_Dataset", "Flickr8k.token.txt"]
    assert os.listdir(folder / INSIDE) == ["done.json"]
    dataset = load_dataset(folder)
    assert dataset.format == "flickr8k" and len(dataset.records) == 12 and not dataset.problems
    assert plan_download(small(remote), folder).is_done
    assert next_steps(plan) == [f"train on it: showtell train '{folder}' -o runs/flickr8k"]


def test_unpacking_that_was_stopped_goes_on(
    picture: Callable[..., None],
    remote: Remote,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remote.content = flickr(picture, tmp_path)
    written: list[str] = []
    replaced = os.replace

    def stopping(source: Path, target: Path) -> None:
        if is_picture_name(str(target)):
            written.append(Path(target).name)
            if len(written) == 5:
                raise KeyboardInterrupt
        replaced(source, target)

    monkeypatch.setattr(os, "replace", stopping)
    with pytest.raises(KeyboardInterrupt):
        download(plan_download(small(remote), tmp_path), SilentReporter())
    assert len(os.listdir(tmp_path / "Flicker8k_Dataset")) == 4, "no half a file is there"
    assert plan_download(small(remote), tmp_path).to_fetch == 0
    download(plan_download(small(remote), tmp_path), SilentReporter(), keep=True)
    assert len(written) == 5 + 8, "what was there was not written again"
    assert len(remote.seen) == 1 and (tmp_path / INSIDE / "small.zip").is_file()
    assert len(load_dataset(tmp_path).records) == 12


def test_no_room(
    picture: Callable[..., None],
    remote: Remote,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("showtell.data.download.ROOM_TO_SPARE", 10**18)
    with pytest.raises(DataError, match=r"GB are needed on the disk of .* free some space, or"):
        download(plan_download(small(remote), tmp_path / "x"), SilentReporter())
    assert remote.seen == [], "the disk is looked at before anything is fetched"
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file; give the name of a folder"):
        plan_download(small(remote), tmp_path / "file")


def test_the_catalogue() -> None:
    assert list(PUBLISHED) == ["coco2017", "coco2014", "karpathy", "flickr8k", "flickr30k"]
    num_sums = 0
    for name, published in PUBLISHED.items():
        assert published.name == name and published.terms and published.archives
        for one in published.archives:
            assert one.url.startswith(("https://", "http://images.cocodataset.org/"))
            assert one.name.endswith(".zip")
            if one.sha256:
                assert len(bytes.fromhex(one.sha256)) == 32 and one.num_bytes > 10**8
                num_sums += 1
            else:
                assert any("no sum is published" in line for line in published.terms)
    assert num_sums == 6
    assert any("https://forms.illinois.edu/" in line for line in PUBLISHED["flickr30k"].by_hand)
    with pytest.raises(DataError, match="Did you mean 'flickr8k'"):
        find_published("flickr8")
