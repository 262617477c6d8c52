"""200 hostile files: no crash, no hang, every good picture captioned, every bad one listed."""

import os
import struct
import zlib
from pathlib import Path

import pytest
from bulk.conftest import paint
from bulk_worker import one_file, read_lines, run

SIDE = 65_000


def png_bomb() -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(bytes(1_000_000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + rows + chunk(b"IEND", b"")


def jpeg_bomb(whole: bytes) -> bytes:
    """A JPEG whose header says 65,000 x 65,000."""
    at = whole.index(b"\xff\xc0") + 5
    return whole[:at] + struct.pack(">HH", SIDE, SIDE) + whole[at + 4 :]


def gif_bomb() -> bytes:
    return b"GIF89a" + struct.pack("<HH", SIDE, SIDE) + b"\x80" + bytes(8) + b";"


def hostile_folder(folder: Path) -> tuple[set[str], set[str]]:
    """Fill it; the names that are good, and those that are not."""
    folder.mkdir()
    whole = paint(folder / "good.jpg", 0).read_bytes()
    png = paint(folder / "good.png", 1).read_bytes()
    good, bad = {"good.jpg", "good.png"}, set()

    def add(name: str, content: bytes, *, is_good: bool = False) -> None:
        (folder / name).write_bytes(content)
        (good if is_good else bad).add(name)

    for i in range(40):
        add(f"truncated-{i}.jpg", whole[: 2 + i * len(whole) // 45])
        add(f"truncated-{i}.png", png[: 2 + i * len(png) // 45])
    for i in range(20):
        add(f"empty-{i}.jpg", b"")
        add(f"text-{i}.jpg", b"no picture at all " * i)
        add(f"noise-{i}.webp", bytes((i * 7 + n * n) % 256 for n in range(2000)))
        add(f"renamed-{i}.png", whole, is_good=True)  # a JPEG by its content
    for i in range(7):
        add(f"bomb-{i}.png", png_bomb())
        add(f"bomb-{i}.jpg", jpeg_bomb(whole))
        add(f"bomb-{i}.gif", gif_bomb())
    for i in range(5):
        os.mkfifo(folder / f"pipe-{i}.jpg")
        (folder / f"round-{i}.jpg").symlink_to(f"round-{i}.jpg")
        (folder / f"gone-{i}.jpg").symlink_to("nowhere.jpg")
        bad |= {f"pipe-{i}.jpg", f"round-{i}.jpg", f"gone-{i}.jpg"}
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    for name in ("new\nline.jpg", "caf\u00e9 \U0001f436.jpg", "a: b.jpg", "-dash.jpg", "tab\t.jpg"):
        add(name, whole, is_good=True)
    odd = os.fsdecode(b"odd-\xff.jpg")
    add(odd, whole, is_good=True)
    return good, bad


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
@pytest.mark.parametrize("kind", ["jsonl", "csv", "text", "parquet"])
def test_a_hostile_folder(tmp_path: Path, kind: str) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    folder = tmp_path / "photos"
    good, bad = hostile_folder(folder)
    assert len(good) + len(bad) > 200
    out = tmp_path / f"captions.{kind}"
    summary = run(one_file(out, kind), folder)
    assert (summary.num_captioned, summary.num_failed) == (len(good), len(bad))
    assert not summary.single_failed
    failures = read_lines(tmp_path / "failures.jsonl")
    assert sorted(os.path.basename(f["path"]) for f in failures) == sorted(bad)
    assert all(f["error"] and "\n" not in f["error"] for f in failures)
    if kind == "jsonl":
        records = read_lines(out)
        assert sorted(os.path.basename(r["path"]) for r in records) == sorted(good)
        assert all(os.path.lexists(r["path"]) for r in records)
    if kind == "text":
        assert len(out.read_text().splitlines()) == len(good)
    again = run(one_file(out, kind), folder)
    if kind != "text":  # which does not say what made it
        assert again.num_captioned <= 1  # a path that is not text cannot be found again in Parquet
