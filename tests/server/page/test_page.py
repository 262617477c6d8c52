"""The page in a real browser, Debian's Chromium, before a real server: the whole path."""

import csv
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_shell import Shell
from page_visit import Visit, visit
from PIL import Image
from rogue_server import BROKEN, KEY, numbered, rogue_server
from serve_process import ServeProcess
from tiny_server import GatedBackbone, page_of, tiny_captioner

from showtell import load_dataset
from showtell.encoders.encoder import Encoder
from showtell.inference.caption import Calibration
from showtell.inference.loading import ModelRequest
from showtell.inference.specs import BackendSettings
from showtell.server.connections import LOOPBACK, Access
from showtell.server.limits import MIB, Limits
from showtell.server.models import LoadedModel, load_models
from showtell.text.clean import Cleaning

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("chromium"), reason="no chromium here: apt-get install chromium"
    ),
]
LIVE_URLS = """
  window.live = new Set();
  const { createObjectURL: make, revokeObjectURL: revoke } = URL;
  URL.createObjectURL = (blob) => { const url = make(blob); live.add(url); return url; };
  URL.revokeObjectURL = (url) => { live.delete(url); revoke(url); };
"""
# At the middle of each cell of a map over [left, top, width, height]: amber as what it covers, 0 to
# 255, and black as less than nothing.
HEAT = """(canvas, [left, top, width, height, rows, columns]) => {
  const context = canvas.getContext("2d");
  return Array.from({ length: rows * columns }, (_, cell) => {
    const x = left + width * (cell % columns + 0.5) / columns;
    const y = top + height * (Math.floor(cell / columns) + 0.5) / rows;
    const [red, , , alpha] = context.getImageData(x, y, 1, 1).data;
    return red > 128 ? alpha : -alpha;
  });
}"""


def ask_api(url: str, page: Any, path: Path) -> dict[str, Any]:
    """What the API says of a picture, asked as the page does."""
    response = page.request.post(
        f"{url}v1/captions",
        multipart={
            "images": {"name": path.name, "mimeType": "image/png", "buffer": path.read_bytes()},
            "decoding": '{"num_captions": 3}',
            "attention": "true",
        },
    )
    result: dict[str, Any] = response.json()["results"][0]
    return result


def test_the_whole_path(filled: Visit, url: str, photos: list[Path], tmp_path: Path) -> None:
    page, coffee, broken = filled.page, photos[0], filled.card("broken.jpg")
    said = ask_api(url, page, coffee)
    assert page.locator("#tally").inner_text() == "2 of 3 pictures captioned, 1 failed"
    assert filled.caption("coffee.png") == said["caption"] != ""
    assert "not a picture" in broken.locator(".state").inner_text()
    assert broken.get_by_role("button", name="Retry: broken.jpg").is_visible()

    card = filled.card("coffee.png")
    card.get_by_text("2 alternatives").click()
    card.get_by_role("radio").nth(1).check()
    second = said["alternatives"][0]
    assert filled.caption("coffee.png") == second["caption"]
    rocket = filled.card("rocket.jpg")
    rocket.get_by_role("button", name="Edit: rocket.jpg").click()
    rocket.get_by_role("textbox").fill('a "rocket",\nat dusk – früh')
    rocket.get_by_role("textbox").press("Enter")
    edited = 'a "rocket", at dusk – früh'
    assert filled.caption("rocket.jpg") == edited

    _check_downloads(filled, coffee.parent, tmp_path, second, edited)
    rocket.get_by_role("button", name="Undo edit").click()
    assert filled.caption("rocket.jpg") != edited


def _check_downloads(
    filled: Visit, folder: Path, to: Path, second: dict[str, Any], edited: str
) -> None:
    """Each format holds the captions as they are on the page, and showtell reads it."""
    expected = {"coffee.png": second["caption"], "rocket.jpg": edited}
    table = filled.download("Download CSV", to)
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert {row["path"]: row["caption"] for row in rows} == expected
    assert [row["edited"] for row in rows] == ["true", "true"]  # picked, and written
    assert float(rows[0]["confidence"]) == second["confidence"] and rows[1]["confidence"] == ""

    lines = filled.download("Download JSONL", to)
    first, other = (json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines())
    assert (first["path"], first["words"]) == ("coffee.png", second["words"])
    assert len(first["alternatives"]) == 2 and len(other["alternatives"]) == 3
    assert (other["caption"], other["confidence"], other["edited"]) == (edited, None, True)

    with zipfile.ZipFile(filled.download("Download text files", to)) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
    for source in (table, lines, folder):
        records = load_dataset(str(source), images=folder).records
        assert {record.path.name: record.captions[0] for record in records} == expected
    for name in ("coffee.txt", "rocket.txt"):
        (folder / name).unlink()


def test_a_restart_in_the_middle_loses_nothing(browser: Any, novice: Path, tmp_path: Path) -> None:
    """Of the command itself, in a process to be killed."""
    pictures = [tmp_path / f"{number}.png" for number in range(12)]
    for number, path in enumerate(pictures):
        Image.new("RGB", (900, 700), (20 * number, 90, 90)).save(path)
    shell = Shell(tmp_path / "cache")
    with ServeProcess(shell, novice) as server, visit(browser, server.url) as opened:
        opened.drop(*pictures)
        opened.page.wait_for_selector('.card[data-state="captioning"]', state="attached")
        server.kill()
        try:
            notice = opened.page.get_by_role("group", name="Notice")
            notice.get_by_text("The server does not answer. Nothing is lost").wait_for()
        finally:
            server.start()
        opened.wait_until_done(12)
        assert opened.page.locator("#tally").inner_text() == "12 pictures captioned"
        notice.wait_for(state="hidden")


def test_a_word_shows_where_the_model_looked(filled: Visit, url: str, photos: list[Path]) -> None:
    attention = ask_api(url, filled.page, photos[0])["attention"]
    card = filled.card("coffee.png")
    look = card.locator(".look")
    with Image.open(photos[0]) as photo:
        width, height = photo.size
    side = 0.9 * min(width, height)  # what the tiny encoder sees
    box = [(width - side) / 2, (height - side) / 2, side, side]
    for index in range(3):
        word = card.locator(".word").nth(index)
        word.click()
        assert look.is_visible() and word.get_attribute("aria-pressed") == "true"
        assert "looked" in card.locator(".look-note").inner_text()
        light = np.array(attention["weights"][index])
        light /= light.max()
        assert light.min() < 0.4  # it looks at some places more than at others
        expected = np.where(light < 0.4, 158 * (light / 0.4 - 1), 127 * (light - 0.4) / 0.6)
        assert look.evaluate(HEAT, box + attention["grid"]) == pytest.approx(expected, abs=14)
    word.click()
    assert not look.is_visible()


def test_another_model_captions_again_and_leaves_what_was_edited(filled: Visit) -> None:
    page, rocket = filled.page, filled.card("rocket.jpg")
    rocket.get_by_role("button", name="Edit: rocket.jpg").click()
    rocket.get_by_role("textbox").fill("a rocket")
    rocket.get_by_role("button", name="Save").click()
    page.get_by_label("Model").select_option("tells")
    page.get_by_role("button", name="Caption 1 again with tells").click()
    filled.card("coffee.png").get_by_text("· tells").wait_for()
    filled.wait_until_done(3)
    assert filled.card("coffee.png").locator(".word").count() == 0  # it does not attend
    assert filled.caption("rocket.jpg") == "a rocket"


def test_what_is_being_edited_is_not_captioned_again(filled: Visit) -> None:
    page, rocket = filled.page, filled.card("rocket.jpg")
    rocket.get_by_role("button", name="Edit: rocket.jpg").click()
    rocket.get_by_role("textbox").fill("a rocket")
    page.get_by_label("Model").select_option("tells")
    page.get_by_role("button", name="Caption 1 again with tells").click()
    filled.card("coffee.png").get_by_text("· tells").wait_for()
    rocket.get_by_role("button", name="Save").click()
    filled.wait_until_done(3)
    assert filled.caption("rocket.jpg") == "a rocket"
    assert not page.get_by_role("button", name="again with tells").is_visible()
    rocket.get_by_role("button", name="Edit: rocket.jpg", exact=True).click()
    rocket.get_by_role("button", name="Cancel").click()
    assert filled.caption("rocket.jpg") == "a rocket"
    rocket.get_by_role("button", name="Undo edit").click()
    page.get_by_role("button", name="Caption 1 again with tells").click()
    rocket.get_by_text("· tells").wait_for()


def test_what_a_person_wrote_is_not_removed_unasked(filled: Visit) -> None:
    page, rocket = filled.page, filled.card("rocket.jpg")
    filled.card("coffee.png").get_by_role("button", name="Remove: coffee.png").click()
    rocket.get_by_role("button", name="Edit: rocket.jpg").click()
    for is_saved in (False, True):
        if is_saved:
            rocket.get_by_role("textbox").fill("a rocket")
            rocket.get_by_role("textbox").press("Enter")
        rocket.get_by_role("button", name="Remove: rocket.jpg").click()
        page.get_by_text("Remove rocket.jpg?").wait_for()
        page.get_by_role("button", name="Keep").click()
    assert filled.caption("rocket.jpg") == "a rocket"
    rocket.get_by_role("button", name="Remove: rocket.jpg").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    rocket.wait_for(state="detached")
    assert page.locator(".card").count() == 1


def test_text_is_pasted_into_an_editor_that_a_program_offers_as_a_picture_too(
    filled: Visit,
) -> None:
    filled.card("coffee.png").get_by_role("button", name="Edit: coffee.png").click()
    prevented = filled.page.evaluate(
        """() => {
          const clipboardData = new DataTransfer();
          clipboardData.setData("text/plain", "a cell");
          clipboardData.items.add(new File(["x"], "image.png", { type: "image/png" }));
          const init = { clipboardData, bubbles: true, cancelable: true };
          return !document.activeElement.dispatchEvent(new ClipboardEvent("paste", init));
        }"""
    )
    assert not prevented and filled.page.locator(".card").count() == 3


def test_a_caption_that_the_clean_up_changed_is_shown_as_it_is(
    browser: Any, encoder: Encoder, photos: list[Path], tmp_path: Path
) -> None:
    looks = tiny_captioner(
        "attention", encoder, "decoder.attention_size=8", "decoding.min_length=4"
    )
    looks.cleaning = Cleaning(max_words=2, prefix="Photo: ")
    with page_of({"looks": LoadedModel("looks", looks)}) as url, visit(browser, url) as opened:
        opened.drop(photos[0])
        opened.wait_until_done(1)
        said = ask_api(url, opened.page, photos[0])
        assert said["caption"].startswith("Photo: ") and len(said["words"]) >= 4
        assert opened.caption("coffee.png") == said["caption"]
        assert opened.card("coffee.png").locator(".word").count() == 0
        [line] = opened.download("Download JSONL", tmp_path).read_text().splitlines()
        assert json.loads(line)["raw"] == said["raw"] == " ".join(said["words"])


def test_pictures_that_never_succeed_do_not_stop_the_others(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    pictures = sorted(numbered(tmp_path, 12).iterdir())
    with rogue_server() as behind:
        for number in range(4):  # as many as are sent at a time
            behind.deeds[number] = [BROKEN] * 1000
        settings = BackendSettings(base_url=behind.url, retries=0)
        loaded = load_models([ModelRequest("openai:tiny", settings=settings)])
        with page_of(loaded) as url, visit(browser, url) as opened:
            opened.drop(*pictures)
            opened.wait_until_done(12)
            assert (
                opened.page.locator("#tally").inner_text() == "8 of 12 pictures captioned, 4 failed"
            )
            reasons = opened.page.locator('.card[data-state="failed"] .state').all_inner_texts()
            assert reasons == ["The server behind this model fails."] * 4
            assert not opened.page.get_by_role("group", name="Notice").is_visible()
            assert max(behind.counts.values()) < 10


def test_pasting_and_what_is_left_out(filled: Visit, photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "image.png").write_bytes(photos[0].read_bytes())
    Image.new("RGB", (60, 40), "red").save(tmp_path / "scan.tif")
    filled.drop(tmp_path / "image.png", paste=True)
    filled.drop(tmp_path / "scan.tif", tmp_path / "notes.txt", photos[0])
    filled.wait_until_done(5)
    assert filled.remarks() == ["Left out: 1 file is not a picture, 1 picture is here already."]
    pasted = filled.page.locator(".card .name", has_text="pasted-").inner_text()
    assert filled.caption(pasted) == filled.caption("coffee.png")
    scan = filled.card("scan.tif")  # which Chromium cannot show
    assert "No preview" in scan.inner_text() and filled.caption("scan.tif")
    scan.locator(".word").first.click()
    assert not scan.locator(".look").is_visible() and scan.locator(".look-note").is_visible()


def test_a_full_queue_is_waited_for(
    browser: Any, models: dict[str, LoadedModel], gate: GatedBackbone, tmp_path: Path
) -> None:
    pictures = [tmp_path / f"{number}.png" for number in range(8)]
    for number, path in enumerate(pictures):
        Image.new("RGB", (64, 64), (30 * number, 0, 0)).save(path)
    limits = Limits(pictures=1, queue=1)
    with page_of(models, limits) as narrow, visit(browser, narrow) as opened:
        gate.gate.clear()
        with opened.page.expect_response(lambda response: response.status in (429, 503)):
            opened.drop(*pictures)
        gate.gate.set()
        opened.wait_until_done(8)
        assert opened.page.locator("#tally").inner_text() == "8 pictures captioned"


def test_what_is_too_large_fails_and_the_others_go_on(
    browser: Any, models: dict[str, LoadedModel], photos: list[Path], tmp_path: Path
) -> None:
    huge = tmp_path / "huge.png"
    huge.write_bytes(photos[0].read_bytes() + bytes(6 * 2**20))
    limits = Limits(picture_bytes=MIB, request_bytes=2 * MIB)
    with page_of(models, limits) as strict, visit(browser, strict) as opened:
        opened.drop(huge, *photos[:2])
        opened.wait_until_done(3)
        assert opened.card("huge.png").get_attribute("data-state") == "failed"
        assert opened.caption("rocket.jpg") and opened.caption("coffee.png")


def test_the_token_is_asked_for(
    browser: Any, models: dict[str, LoadedModel], photos: list[Path]
) -> None:
    token = "a-token-of-some-length"
    with page_of(models, access=Access(token, LOOPBACK)) as closed:
        opened = browser.new_page()
        opened.goto(closed)
        opened.get_by_role("dialog").wait_for()
        assert Visit(opened).violations() == []
        opened.get_by_label("Token", exact=True).fill("wrong-token-as-long-as-it")
        opened.keyboard.press("Enter")
        opened.get_by_text("The server did not accept that token.").wait_for()
        opened.get_by_label("Token", exact=True).fill(f"{token}\u200b")
        opened.keyboard.press("Enter")
        opened.get_by_text("one that cannot be seen: copy the token anew.").wait_for()
        assert opened.evaluate("sessionStorage.getItem('showtell-token')") != f"{token}\u200b"
        opened.get_by_label("Token", exact=True).fill(token)
        opened.get_by_role("button", name="Continue").click()
        opened.wait_for_selector("#model option[value]", state="attached")
        Visit(opened).drop(photos[0])
        Visit(opened).wait_until_done(1)
        assert opened.evaluate("localStorage.length") == 0
        opened.close()


def test_the_camera(browser: Any, url: str, tmp_path: Path) -> None:
    with visit(browser, url) as opened:
        page = opened.page
        page.get_by_role("button", name="Use the camera").click()
        page.locator(".shutter:not([disabled])").wait_for()
        assert opened.violations() == []
        label = "document.querySelector('video').srcObject?.getVideoTracks()[0].label"
        first = page.evaluate(label)
        page.get_by_role("button", name="Other camera").click()
        page.wait_for_function(f"first => ![undefined, first].includes({label})", arg=first)
        page.locator(".shutter:not([disabled])").wait_for()
        page.locator(".shutter").click()
        page.get_by_text("1 picture taken.").wait_for()
        page.keyboard.press("Escape")
        opened.wait_until_done(1)
        name = page.locator(".card .name").inner_text()
        assert name.startswith("camera-")
        assert page.locator(".caption").inner_text()
        assert page.evaluate("document.querySelector('video').srcObject") is None
        assert opened.asks_before_leaving()
        page.get_by_role("button", name=f"Remove: {name}").click()
        page.get_by_text("It is in this tab alone.").wait_for()
        page.get_by_role("button", name="Keep").click()
        opened.download("Download CSV", tmp_path)
        assert opened.asks_before_leaving()  # the picture is not in it
        with zipfile.ZipFile(opened.download("Download text files", tmp_path)) as archive:
            assert archive.namelist() == [name.replace(".jpg", ".txt"), name]
            assert archive.testzip() is None
            assert Image.open(archive.open(name)).format == "JPEG"
        assert not opened.asks_before_leaving()
    no_camera = "delete Navigator.prototype.mediaDevices"
    with visit(browser, url, script=no_camera) as opened:
        assert not opened.page.get_by_role("button", name="Use the camera").is_visible()


def test_hundreds_of_pictures_leave_nothing_behind(browser: Any, url: str, tmp_path: Path) -> None:
    """More pictures than a batch has, or a request."""
    pictures = [tmp_path / f"{number}.png" for number in range(100)]
    for number, path in enumerate(pictures):
        Image.new("RGB", (40, 30), (number, number // 2, 90)).save(path)
    with visit(browser, url, script=LIVE_URLS) as opened:
        opened.drop(*pictures)
        opened.wait_until_done(100)
        assert opened.page.evaluate("live.size") == 100
        opened.page.get_by_role("button", name="Clear all").click()
        opened.page.get_by_role("button", name="Remove", exact=True).click()
        opened.page.wait_for_selector("[data-empty]")
        assert opened.page.evaluate("live.size") == 0
        assert opened.page.locator(".card").count() == 0


def test_what_the_model_is_not_sure_of_waits_for_a_person(
    browser: Any, encoder: Encoder, photos: list[Path], tmp_path: Path
) -> None:
    shy = tiny_captioner("show_tell", encoder, "decoding.min_confidence=0.99")
    shy.calibration = Calibration(slope=1.0, offset=0.0, cider=0.25)
    models = {"shy": LoadedModel("shy", shy)}
    with page_of(models) as started, visit(browser, started) as opened:
        opened.drop(photos[0])
        opened.wait_until_done(1)
        card = opened.card("coffee.png")
        assert opened.caption("coffee.png") == "The model is not sure enough of any caption."
        assert card.get_by_text("likely acceptable · shy").is_visible()
        assert not card.get_by_role("button", name="Copy").is_visible()
        assert opened.download("Download CSV", tmp_path).read_text().count("\n") == 1
        card.get_by_text("3 alternatives").click()
        card.get_by_role("radio").first.check()
        picked = card.get_by_role("radio").first.locator("xpath=following-sibling::span[1]")
        assert opened.caption("coffee.png") == picked.inner_text() != ""


def test_a_model_behind_a_server_tells_no_confidence(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    numbered(tmp_path, 1)
    with rogue_server() as behind:
        behind.log_probs = False
        loaded = load_models(
            [ModelRequest("openai:tiny", settings=BackendSettings(base_url=behind.url))]
        )
        with page_of(loaded) as url, visit(browser, url) as opened:
            opened.drop(tmp_path / "000.png")
            opened.wait_until_done(1)
            card = opened.card("000.png")
            assert card.locator(".facts").inner_text() == "tiny"
            card.get_by_role("button", name="Edit: 000.png").click()
            card.get_by_role("textbox").fill("mine")
            card.get_by_role("textbox").press("Enter")
            card.get_by_text("1 alternative").click()
            card.get_by_role("radio").first.wait_for()  # they are made as the list opens
            assert card.get_by_role("radio").count() == 2
            assert card.locator(".share").all_inner_texts() == ["Yours"]
            assert not card.get_by_text("Probability of a word").is_visible()
