"""Captions beside pictures and in their own metadata."""

import errno
import io
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from bulk.conftest import paint
from bulk_worker import read_lines, run, tiny_captioner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from showtell.bulk import metadata
from showtell.bulk.boilerplate import is_boilerplate
from showtell.bulk.inputs import find_inputs
from showtell.bulk.run import plan
from showtell.bulk.targets import Metadata, Sidecars, replace_file
from showtell.data.pictures import SIDECAR_SUFFIXES, sidecar_names
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
    # a.txt would be read as the text of both a.jpg and a.png.
    assert names == ["a.jpg.txt", "a.png.txt", "b.txt", "c.txt", "d.txt", "within/e.txt"]
    assert [r["path"] for r in read_lines(photos / "failures.jsonl")] == [str(photos / "bad.jpg")]
    assert len(load_dataset(str(photos)).records) == 6  # training reads them
    assert run(target, photos).num_captioned == 0
    over = Sidecars(photos / "failures.jsonl", overwrite=True)
    assert run(over, photos, overwrite=True).num_captioned == 6
    assert (photos / "b.txt").read_text() != "my own words\n"
    assert not list(photos.rglob("*.tmp"))


def test_nothing_is_written_of_a_withheld_caption(tmp_path: Path, photos: Path) -> None:
    """An empty text would be read as a picture's caption by whoever trains on the folder."""
    sure = tiny_captioner("decoding.min_confidence=1.0")
    told: list[str] = []
    target = Sidecars(tmp_path / "f.jsonl", overwrite=False)
    summary = run(target, photos, captioner=sure, on_withheld=told.append)
    assert (summary.num_captioned, summary.num_withheld) == (5, 5)
    assert len(told) == 5
    assert told[0].startswith(f"{photos / 'a.jpg'}: confidence 0.")
    assert "0 captioned, 5 withheld; " in summary.describe(tmp_path / "f.jsonl")
    assert not list(photos.rglob("*.txt"))


WORDS = "Oma \u00fcber den Wolken"


@pytest.mark.parametrize(
    "text",
    [
        "cat.jpg.txt",
        "CAT.TXT",
        "Cat.Txt",
        "cat.txt",
        "cat.caption",
        "cat.jpg.caption",
        "CAT.JPG.TXT",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
def test_a_persons_text_is_seen_under_every_name_that_training_reads(
    tmp_path: Path, text: str, encoding: str
) -> None:
    paint(tmp_path / "cat.jpg", 1)
    paint(tmp_path / "dog.jpg", 2)
    (tmp_path / text).write_bytes(WORDS.encode(encoding))
    assert os.path.splitext(text.lower())[1] in SIDECAR_SUFFIXES
    assert text.lower() in {name.lower() for name in sidecar_names("cat.jpg")}
    target = Sidecars(tmp_path / "failures.jsonl", overwrite=False)
    before = (tmp_path / text).read_bytes()
    summary = run(target, tmp_path)
    assert (summary.num_captioned, summary.num_kept) == (1, 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["cat.jpg", "dog.jpg", "dog.txt", text]
    )
    assert (tmp_path / text).read_bytes() == before
    over = Sidecars(tmp_path / "failures.jsonl", overwrite=True)
    assert run(over, tmp_path, overwrite=True).num_captioned == 2
    assert (tmp_path / text).read_bytes() != before  # what training reads, and no second text
    assert len(list(tmp_path.iterdir())) == 4


def test_an_empty_text_says_nothing_and_is_filled(tmp_path: Path) -> None:
    paint(tmp_path / "cat.jpg", 1)
    (tmp_path / "cat.jpg.txt").write_text(" \n")
    assert run(Sidecars(tmp_path / "f.jsonl", overwrite=False), tmp_path).num_captioned == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cat.jpg", "cat.jpg.txt"]


def test_a_text_of_two_pictures_is_kept_for_both(tmp_path: Path) -> None:
    paint(tmp_path / "cat.jpg", 1)
    paint(tmp_path / "cat.png", 2)
    (tmp_path / "cat.txt").write_text("mine")
    assert run(Sidecars(tmp_path / "f.jsonl", overwrite=False), tmp_path).num_kept == 2
    assert run(Sidecars(tmp_path / "f.jsonl", overwrite=True), tmp_path, overwrite=True)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["cat.jpg", "cat.jpg.txt", "cat.png", "cat.png.txt", "cat.txt"]
    assert (tmp_path / "cat.txt").read_text() == "mine"


def pictures_with_words() -> Iterator[tuple[str, bytes]]:
    """A picture for each place where programs keep a person's words."""
    pyexiv2 = pytest.importorskip("pyexiv2")
    language = {'lang="x-default"': WORDS}
    for kind, name, value in (
        *(
            ("xmp", f"Xmp.{name}", language)
            for name in (
                *("dc.description", "iptc.AltTextAccessibility", "iptc.ExtDescrAccessibility"),
                *("exif.UserComment", "tiff.ImageDescription"),
            )
        ),
        ("exif", "Exif.Image.ImageDescription", WORDS),
        ("exif", "Exif.Photo.UserComment", f"charset=Unicode {WORDS}"),
        ("iptc", "Iptc.Application2.Caption", WORDS),
    ):
        with pyexiv2.ImageData(_picture()) as picture:
            getattr(picture, f"modify_{kind}")({name: value})
            yield name, picture.get_bytes()
    exif = Image.Exif()
    exif[0x9C9C] = f"{WORDS}\0".encode("utf-16-le")
    yield "XPComment", _picture(exif=exif)
    for code, encoding in (
        (b"UNICODE\0", "utf-16-le"),
        (b"UNICODE\0", "utf-16-be"),
        (bytes(8), "utf-8"),
    ):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9286] = code + WORDS.encode(encoding)
        yield f"UserComment {encoding}", _picture(exif=exif)
    for encoding in ("utf-8", "latin-1"):
        yield f"JPEG comment {encoding}", _picture(comment=WORDS.encode(encoding))
    for is_packed in (False, True):
        info = PngImagePlugin.PngInfo()
        info.add_text("Description", WORDS, zip=is_packed)
        yield f"PNG Description {is_packed}", _picture("PNG", pnginfo=info)
    info = PngImagePlugin.PngInfo()
    info.add_itxt("Description", WORDS)
    yield "PNG Description iTXt", _picture("PNG", pnginfo=info)


def test_a_persons_words_are_seen_in_every_field() -> None:
    pytest.importorskip("pyexiv2")
    visited = 0
    for name, content in pictures_with_words():
        assert metadata.alt_text(content) == WORDS, name
        visited += 1
    assert visited == 17


def test_new_words_leave_no_older_ones_in_any_field() -> None:
    pytest.importorskip("pyexiv2")
    visited = 0
    for name, content in pictures_with_words():
        changed = metadata.with_alt_text(content, "a red dog", "w")
        with metadata._Open(changed) as picture:
            said = {text for _, texts in metadata._words(picture) for text in texts}
        assert said == {"a red dog"}, name
        visited += 1
    assert visited == 17
    settings = '{"mirror":false}'  # of a camera: no words, and all other metadata stays
    with metadata._Open(_picture(comment=settings.encode())) as picture:
        picture.modify_iptc({"Iptc.Application2.Caption": settings})
        content = picture.get_bytes()
    with metadata._Open(metadata.with_alt_text(content, "a red dog", "w")) as picture:
        assert picture.read_comment() == settings
        assert picture.read_iptc() == {"Iptc.Application2.Caption": settings}


CAMERA_TEXTS = [
    *("DCIM\\100MEDIA\\DJI_0042.JPG", "DCIM/DJI_0001.JPG", "/storage/emulated/0/DCIM/a.jpg"),
    *("C:\\Users\\me\\My Pictures\\a.jpg", "IMG_1234.JPG", "DSC_0042", "dav", "hdr", "_cuva"),
    *("oznorWO", "sdr_HDRB", "fbthdr", "mde_soft", "hdrpl", "rhdr", "cof", "btfmdn", "bsh"),
    *("OLYMPUS DIGITAL CAMERA         ", "KONICA MINOLTA DIGITAL CAMERA", "MINOLTA", "SAMSUNG"),
    *("MEDION DIGITAL CAMERA", "KODAK Digital Still Camera", "<Digital Camera>", "SONY DSC"),
    *("<Digimax i5, Samsung #1>", "SAMSUNG CAMERA PICTURES", "Exif_JPEG_PICTURE", "default"),
    *('charset="Ascii"', "charset=Ascii", "HELLOMOTO", "My beautiful picture", "Scanner", "..."),
    *("CREATOR: gd-jpeg v1.0 (using IJG JPEG v62), quality = 90", "Created with GIMP"),
    *("Created with GIMP on a Mac", "Edited with Adobe Photoshop CS6 (Windows)", "hdrbhdr"),
    *(
        "Created with ImageMagick 6.9.10-23 Q16 x86_64 2019",
        "Made in Paint",
        "20190101_123456",
    ),
    *("LEAD Technologies Inc. V1.01", "2004:10:13 10:20:30", "[1, 2]", "0", "a/b/c.png"),
    *("Lavc58.54.100", "AppleMark", '{"mirror":false,"sensor_type":"rear"}', "Screenshot"),
    "filter: 0; fileterIntensity: 0.0; filterMask: 0; module: j;",
]


@pytest.mark.parametrize("text", CAMERA_TEXTS)
def test_what_cameras_write_is_nobodys_words(text: str) -> None:
    assert is_boilerplate(text)
    assert is_boilerplate(f" {text}\0\0")


@pytest.mark.parametrize(
    "text",
    [
        *("dog", "Ida", "Hund", "犬", "Oma", "sky", "front", "Sam", "night", "Berlin, 1999"),
        *("Grandma with her dog at the lake", "a dog / a cat", "Left: Ida; right: Tom"),
        *("Ida with her digital camera", "HDR of the bridge", "on the way to DCIM", "Über uns: 5"),
        *("[Portrait of Abraham Lincoln, seated]", "{Oma}", "1984", "24.12.1985", "❤"),
        *("Mum/Dad, Christmas 24.12.1985", "Oma/Opa in Rom, 12.05.1987"),
        *("Harbour at dusk / photo by J.Doe", "Anna and Bob; see https://kiel.de"),
        *("The dog and/or the cat at no.12", "Made in Paint by my daughter Lea, her first horse"),
        *("Made in Paint by Lea", "Created by Adobe Smith in 1912: two children"),
        *("OMA AND OPA WITH THEIR DIGITAL CAMERA", "Lead technologies of 1920: a steam engine"),
        *(
            "Left: Ida; middle: Tom; right: Bob; behind: Oma",
            "Paris: 2019; London: 2020; Rom: 2021;",
        ),
        "Donaudampfschifffahrtsgesellschaftskapitaensmuetze",
        "祖母と犬が湖のほとりで遊んでいるところを写した写真。" * 3,
    ],
)
def test_what_people_write_is_theirs(text: str) -> None:
    assert not is_boilerplate(text)


@pytest.mark.parametrize(
    "text", ["hdrbhdr" * 200_000 + "!", "a/" * 500_000, "a: 0;" * 300_000 + "!", "[" * 500_000]
)
def test_a_long_text_is_judged_at_once(text: str) -> None:
    is_boilerplate(text)  # an exponential pattern would never return


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
    planned = [p for p in plan(find_inputs([str(photos)]), target) if p.error is not None]
    assert {Path(p.path).name: str(p.error).count("sidecar") for p in planned} == {
        "f.gif": 1,
        "g.bmp": 1,
    }
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


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_plan_knows_which_kinds_of_files_carry_captions(tmp_path: Path, overwrite: bool) -> None:
    """What it says is what the run does, of every kind that can be read, and of what is none."""
    pytest.importorskip("pyexiv2")
    kinds = ("jpg", "png", "webp", "tif", "gif", "bmp", "ppm", "avif")
    for number, kind in enumerate(kinds):
        paint(tmp_path / f"a.{kind}", number)
    (tmp_path / "no.jpg").write_bytes(b"no picture")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:200])
    target = Metadata(tmp_path / "failures.jsonl", overwrite=overwrite)
    planned = list(plan(find_inputs([str(tmp_path)]), target, overwrite=overwrite))
    told: list[str] = []
    summary = run(target, tmp_path, overwrite=overwrite, on_failure=told.append)
    failed = {p.path: p.error for p in planned if p.error is not None}
    listed = {r["path"]: r["error"] for r in read_lines(tmp_path / "failures.jsonl")}
    assert failed == listed
    assert sorted(told) == sorted(listed.values())
    names = {Path(path).name for path in failed}
    assert names == {"a.gif", "a.bmp", "a.ppm", "a.avif", "no.jpg", "cut.jpg"}
    assert "is not a picture that can be read" in failed[str(tmp_path / "no.jpg")]
    assert summary.num_captioned == 4


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
    if not is_boilerplate(text):
        once = metadata.with_alt_text(content, text, "w")
        assert metadata.alt_text(metadata.with_alt_text(once, text, "w")) == text


def _picture(kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, kind, **options)
    return file.getvalue()


def test_a_text_that_cannot_be_read_stays(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "b.txt").write_text("my own words\n")
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:  # root may read anything
        if path.name == "b.txt":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    target = Sidecars(photos / "failures.jsonl", overwrite=False)
    inputs = find_inputs([str(photos)])
    errors = [planned.error for planned in plan(inputs, target) if planned.error]
    assert errors == [f"{photos}/b.png: {photos}/b.txt: Permission denied"]
    summary = run(target, photos)
    assert (summary.num_captioned, summary.num_kept, summary.num_failed) == (4, 0, 1)
    assert [r["error"] for r in read_lines(photos / "failures.jsonl")] == errors
    monkeypatch.undo()
    assert (photos / "b.txt").read_text() == "my own words\n"


def test_a_list_of_failures_that_runs_share(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        paint(tmp_path / name / "good.jpg", 1)
        (tmp_path / name / "bad.jpg").write_bytes(b"no")
    listed = tmp_path / "failures.jsonl"
    target = Sidecars(listed, overwrite=False)

    def failed() -> list[str]:
        return [str(Path(r["path"]).relative_to(tmp_path)) for r in read_lines(listed)]

    run(target, tmp_path / "one")
    assert failed() == ["one/bad.jpg"]
    assert run(target, tmp_path / "two").num_failed == 1
    assert failed() == ["one/bad.jpg", "two/bad.jpg"]
    paint(tmp_path / "two" / "bad.jpg", 2)
    run(target, tmp_path / "two")
    assert failed() == ["one/bad.jpg"]
    (tmp_path / "one" / "bad.jpg").unlink()
    run(target, tmp_path / "two")
    assert not listed.exists()


def test_two_runs_write_one_text_under_two_temporary_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []
    replace = os.replace

    def watched(temporary: Path, path: Path) -> None:
        names.append(Path(temporary).name)
        replace(temporary, path)

    monkeypatch.setattr(os, "replace", watched)
    for run_ in ("one", "two", "one"):
        replace_file(tmp_path / "a.txt", b"words", run=tmp_path / run_)
    assert names[0] == names[2] != names[1]
    assert all(name.startswith(".showtell-") for name in names)


@pytest.mark.skipif(not hasattr(os, "chown"), reason="no owners on this system")
def test_the_owner_and_the_mode_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(0o640)
    before, asked = path.stat(), []
    monkeypatch.setattr(os, "chown", lambda _, *owner: asked.append(owner))
    replace_file(path, b"new", run=tmp_path / "journal")
    assert asked == [(before.st_uid, before.st_gid)]
    assert (path.read_bytes(), path.stat().st_mode) == (b"new", before.st_mode)
