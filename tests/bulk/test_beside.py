"""Captions beside pictures and in their own metadata."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from bulk.conftest import paint
from bulk_worker import read_lines, run
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from showtell.bulk import metadata
from showtell.bulk.targets import Metadata, Sidecars
from showtell.data.sources import load_dataset

TAGS = ("Description", "AltTextAccessibility", "ImageDescription", "CaptionWriter")


def test_sidecars(tmp_path: Path, photos: Path) -> None:
    (photos / "b.txt").write_text("my own words\n")
    paint(photos / "a.png", 8)
    (photos / "bad.jpg").write_bytes(b"no")
    target = Sidecars(photos / "failures.jsonl", overwrite=False)
    summary = run(target, photos)
    assert (summary.num_captioned, summary.num_kept, summary.num_failed) == (5, 1, 1)
    assert (photos / "b.txt").read_text() == "my own words\n"
    names = sorted(p.relative_to(photos).as_posix() for p in photos.rglob("*.txt"))
    assert names == ["a.png.txt", "a.txt", "b.txt", "c.txt", "d.txt", "within/e.txt"]
    assert [r["path"] for r in read_lines(photos / "failures.jsonl")] == [str(photos / "bad.jpg")]
    assert len(load_dataset(str(photos)).records) == 6  # training reads them
    assert run(target, photos).num_captioned == 0
    over = Sidecars(photos / "failures.jsonl", overwrite=True)
    assert run(over, photos, overwrite=True).num_captioned == 6
    assert (photos / "b.txt").read_text() != "my own words\n"
    assert not list(photos.rglob("*.tmp"))


def pixels(path: Path) -> tuple[str, bytes]:
    with Image.open(path) as image:
        return image.mode, image.tobytes()


def test_metadata_leaves_pixels_and_peoples_words(tmp_path: Path, photos: Path) -> None:
    pytest.importorskip("pyexiv2")
    exiftool = shutil.which("exiftool")
    target = Metadata(tmp_path / "failures.jsonl", overwrite=False)
    mine = metadata.with_alt_text((photos / "b.png").read_bytes(), "Ida läuft \U0001f415", "Ida")
    (photos / "b.png").write_bytes(mine)
    for name in ("f.gif", "g.bmp"):
        paint(photos / name, 3)
    before = {path: pixels(path) for path in sorted(photos.rglob("*.*"))}
    summary = run(target, photos)
    assert (summary.num_captioned, summary.num_kept, summary.num_failed) == (4, 1, 2)
    assert {path: pixels(path) for path in sorted(photos.rglob("*.*"))} == before
    assert (photos / "b.png").read_bytes() == mine
    assert "sidecar" in (tmp_path / "failures.jsonl").read_text()
    assert run(target, photos).num_captioned == 0
    if exiftool is None:
        pytest.skip("no exiftool (Debian: libimage-exiftool-perl) to read the fields back with")
    for name in ("a.jpg", "c.webp", "d.tif", "within/e.jpg"):
        asked = [exiftool, "-j", *(f"-{tag}" for tag in TAGS), str(photos / name)]
        [read] = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)
        said = metadata.alt_text((photos / name).read_bytes())
        assert said
        assert [read[tag] for tag in TAGS[:3]] == [said] * 3, name
        assert read["CaptionWriter"].startswith("showtell")


def test_other_metadata_stays_and_camera_defaults_are_no_words(photos: Path) -> None:
    pytest.importorskip("pyexiv2")
    exif = Image.Exif()
    exif[0x010E], exif[0x010F], exif[0x0112] = "OLYMPUS DIGITAL CAMERA", "Olympus", 6
    Image.new("RGB", (60, 40), "red").save(photos / "a.jpg", exif=exif, quality=90)
    content = (photos / "a.jpg").read_bytes()
    assert metadata.alt_text(content) is None
    (photos / "a.jpg").write_bytes(metadata.with_alt_text(content, "a red dog", "w"))
    with Image.open(photos / "a.jpg") as image:
        read = image.getexif()
    assert (read[0x010E], read[0x010F], read[0x0112]) == ("a red dog", "Olympus", 6)


@given(text=st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=60))
def test_any_words_come_back(text: str) -> None:
    pytest.importorskip("pyexiv2")
    content = _picture()
    if text.lower() not in metadata.CAMERA_TEXTS:
        once = metadata.with_alt_text(content, text, "w")
        assert metadata.alt_text(metadata.with_alt_text(once, text, "w")) == text


def _picture() -> bytes:
    import io

    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    return file.getvalue()
