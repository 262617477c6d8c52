"""What a person decides of captions on the page: what is downloaded of it, and what may be lost."""

import csv
import json
import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from page_visit import Visit, visit
from PIL import Image

from showtell import load_dataset

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("chromium"), reason="no chromium here: apt-get install chromium"
    ),
]


def test_reviewed_captions_count_as_edited(filled: Visit, tmp_path: Path) -> None:
    page, coffee = filled.page, filled.card("coffee.png")
    caption = filled.caption("coffee.png")

    def edited() -> dict[str, str]:
        text = filled.download("Download CSV", tmp_path).read_text(encoding="utf-8")
        return {row["path"]: row["edited"] for row in csv.DictReader(text.splitlines())}

    assert edited() == {"coffee.png": "false", "rocket.jpg": "false"}
    filled.edit("coffee.png", caption)  # saved as it was
    assert filled.caption("coffee.png") == caption
    assert edited() == {"coffee.png": "true", "rocket.jpg": "false"}
    page.get_by_label("Only the 1 reviewed").check()
    assert edited() == {"coffee.png": "true"}
    [line] = filled.download("Download JSONL", tmp_path).read_text().splitlines()
    record = json.loads(line)
    assert (record["caption"], record["edited"]) == (caption, True)
    assert record["confidence"] > 0 and len(record["alternatives"]) == 2
    with zipfile.ZipFile(filled.download("Download text files", tmp_path)) as archive:
        assert archive.namelist() == ["coffee.txt"]
    page.get_by_label("Only the 1 reviewed").uncheck()

    coffee.get_by_role("button", name="✓ Reviewed: coffee.png").click()
    assert edited()["coffee.png"] == "false"
    coffee.get_by_role("button", name="Mark as reviewed: coffee.png").click()
    assert page.get_by_role("status").first.inner_text() == "Marked as reviewed."
    assert edited()["coffee.png"] == "true"
    coffee.get_by_role("button", name="✓ Reviewed: coffee.png").click()
    filled.edit("rocket.jpg", "  ")  # no caption fits
    assert filled.caption("rocket.jpg") == "You left this picture without a caption."
    assert edited() == {"coffee.png": "false"}
    filled.card("rocket.jpg").get_by_role("button", name="Undo edit").click()
    assert edited() == {"coffee.png": "false", "rocket.jpg": "false"}


def test_what_a_person_wrote_can_be_taken_back(filled: Visit) -> None:
    coffee = filled.card("coffee.png")
    coffee.get_by_text("2 alternatives").click()
    filled.edit("coffee.png", "a cup of coffee")
    coffee.get_by_text("3 alternatives").wait_for()
    assert coffee.get_by_role("radio", name="a cup of coffee Yours").is_checked()
    coffee.get_by_role("radio").nth(2).check()
    assert filled.caption("coffee.png") != "a cup of coffee"
    coffee.get_by_role("radio", name="a cup of coffee Yours").check()
    assert filled.caption("coffee.png") == "a cup of coffee"
    assert coffee.get_by_role("button", name="Undo edit").is_visible()


def test_it_is_asked_before_work_is_lost(filled: Visit, tmp_path: Path) -> None:
    page, coffee = filled.page, filled.card("coffee.png")
    assert not filled.asks_before_leaving()
    coffee.get_by_role("button", name="Edit: coffee.png").click()
    filled.download("Download CSV", tmp_path)
    assert filled.asks_before_leaving()  # the text in the editor is not in it
    coffee.get_by_role("button", name="Cancel").click()
    assert not filled.asks_before_leaving()
    coffee.get_by_text("2 alternatives").click()
    coffee.get_by_role("radio").nth(1).check()
    assert filled.asks_before_leaving()
    picked = filled.caption("coffee.png")
    page.get_by_label("Model").select_option("tells")
    page.get_by_role("button", name="Caption 1 again with tells").click()  # not what was picked
    filled.card("rocket.jpg").get_by_text("· tells").wait_for()
    assert filled.caption("coffee.png") == picked
    page.get_by_role("button", name="Copy all").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert not filled.asks_before_leaving()


def test_a_pasted_picture_can_be_saved_without_a_caption(
    browser: Any, url: str, photos: list[Path], tmp_path: Path
) -> None:
    pasted = tmp_path / "image.png"
    shutil.copy(photos[0], pasted)
    failure = {"status": 500, "json": {"detail": "a bug"}}
    with visit(browser, url) as opened:
        opened.page.route("**/v1/captions", lambda route: route.fulfill(**failure))
        opened.drop(photos[1])
        opened.wait_until_done(1)
        save = opened.page.get_by_role("button", name="Download text files")
        assert save.is_disabled()  # the photo is in its folder
        opened.drop(pasted, paste=True)
        opened.wait_until_done(2)
        assert opened.asks_before_leaving()
        assert opened.page.get_by_role("button", name="Download CSV").is_disabled()
        with zipfile.ZipFile(opened.download("Download text files", tmp_path)) as archive:
            [name] = archive.namelist()
            assert re.fullmatch(r"pasted-\d{8}-\d{6}-1\.png", name)
            assert archive.read(name) == pasted.read_bytes()
        assert not opened.asks_before_leaving()


def test_a_download_in_the_dropped_folder_is_its_data_set(
    browser: Any, url: str, photos: list[Path], tmp_path: Path
) -> None:
    folder, other = tmp_path / "photos", tmp_path / "other"
    for copied in (folder / "coffee.png", folder / "sub" / "rocket.jpg", other / "coffee.png"):
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos[0] if copied.name == "coffee.png" else photos[1], copied)
    with visit(browser, url) as opened:
        opened.drop_folders(folder)
        opened.wait_until_done(2)
        saved = opened.download("Download JSONL", folder)
        captions = {
            folder / name: opened.caption(name) for name in ("coffee.png", "sub/rocket.jpg")
        }
        records = load_dataset(str(saved)).records
        assert {record.path: record.captions[0] for record in records} == captions
        with zipfile.ZipFile(opened.download("Download text files", tmp_path)) as archive:
            assert sorted(archive.namelist()) == ["coffee.txt", "sub/rocket.txt"]
        opened.page.get_by_role("button", name="Clear all").click()
        opened.page.get_by_role("button", name="Remove", exact=True).click()
        opened.drop_folders(folder, other)  # whose names tell the pictures apart
        opened.wait_until_done(3)
        names = opened.page.locator(".card .name").all_inner_texts()
        assert sorted(names) == ["other/coffee.png", "photos/coffee.png", "photos/sub/rocket.jpg"]


def test_pictures_pasted_after_a_reload_have_other_names(
    browser: Any, url: str, photos: list[Path], tmp_path: Path
) -> None:
    """Saved archives are unpacked into one folder: no picture may take another's place."""
    pasted = tmp_path / "image.png"
    shutil.copy(photos[0], pasted)
    names = []
    with visit(browser, url) as opened:
        # A clock of its own tells the two times apart, however fast the page is.
        opened.page.clock.install(time="2026-12-01T13:45:12Z")
        for _ in range(2):
            opened.page.reload()
            opened.page.wait_for_selector("#model option[value]", state="attached")
            opened.drop(pasted, paste=True)
            names += opened.page.locator(".card .name").all_inner_texts()
            opened.page.clock.fast_forward(60_000)
    assert re.fullmatch(r"pasted-20261201-1345\d\d-1\.png", names[0])
    assert re.fullmatch(r"pasted-20261201-1346\d\d-1\.png", names[1])


def test_folders_dropped_one_after_the_other_lose_no_picture(
    browser: Any, url: str, tmp_path: Path
) -> None:
    """Cameras number their files alike: such files may also agree in size and time."""
    colors = iter(["red", "green", "blue", "white", "black"])
    files = ("camA/frame1.bmp", "camA/frame2.bmp", "camB/frame1.bmp", "camB/frame2.bmp")
    for name in files:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (60, 40), next(colors)).save(path)
        os.utime(path, (1e9, 1e9))
    with visit(browser, url) as opened:
        opened.drop_folders(tmp_path / "camA")
        opened.wait_until_done(2)
        opened.drop_folders(tmp_path / "camB")
        opened.wait_until_done(4)
        [remark] = opened.remarks()  # browsers list a folder's files in any order
        assert remark.startswith("2 pictures have names that are here already: they are camB/frame")
        assert "here. Keep them in a folder camB beside the other pictures, or their" in remark
        names = opened.page.locator(".card .name").all_inner_texts()
        assert sorted(names) == ["camB/frame1.bmp", "camB/frame2.bmp", "frame1.bmp", "frame2.bmp"]

        opened.drop_folders(tmp_path / "camA", tmp_path / "camB")
        said = opened.page.locator("#remarks")
        said.get_by_text("Left out: 4 pictures are here already.").wait_for()
        Image.new("RGB", (90, 60), next(colors)).save(tmp_path / "camA/frame1.bmp")
        opened.drop_folders(tmp_path / "camA")
        opened.wait_until_done(5)
        assert opened.card("frame1 (2).bmp").is_visible()  # no folder tells it from the other
        (tmp_path / "camC").mkdir()
        (tmp_path / "camA/frame1.bmp").rename(tmp_path / "camC/frame1.bmp")
        opened.drop_folders(tmp_path / "camC")
        said.get_by_text(
            "There is another frame1.bmp: this one is camC/frame1.bmp here. Keep it in a folder "
            "camC beside the other pictures, or its caption does not find it."
        ).wait_for()


def test_pictures_of_one_name_get_names_of_their_own(
    filled: Visit, photos: list[Path], tmp_path: Path
) -> None:
    other = tmp_path / "rocket.jpg"
    shutil.copy(photos[0], other)
    shutil.copy(photos[0], tmp_path / "broken.png")
    filled.drop(other, tmp_path / "broken.png")
    filled.wait_until_done(5)
    [remark] = filled.remarks()
    assert remark.startswith("There is another rocket.jpg: this one is rocket (2).jpg here.")
    assert filled.caption("rocket (2).jpg") == filled.caption("coffee.png")
    table = filled.download("Download CSV", tmp_path).read_text(encoding="utf-8")
    paths = [row["path"] for row in csv.DictReader(table.splitlines())]
    assert paths == ["coffee.png", "rocket.jpg", "rocket (2).jpg", "broken.png"]
    with zipfile.ZipFile(filled.download("Download text files", tmp_path)) as archive:
        names = archive.namelist()
    # broken.txt would be that of broken.jpg, which has no caption.
    assert names == ["coffee.txt", "rocket.txt", "rocket (2).txt", "broken.png.txt"]
