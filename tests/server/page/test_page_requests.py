"""The page before servers that change, fail or are far away, and in a tab that nobody sees."""

import base64
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_visit import Visit, visit
from PIL import Image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("chromium"), reason="no chromium here: apt-get install chromium"
    ),
]


@pytest.mark.parametrize(
    ("was", "told"), [({"name": "gone"}, True), ({"decoding": {"beam_size": 9}}, False)]
)
def test_a_server_that_has_other_models_is_asked_anew(
    browser: Any, url: str, photos: list[Path], was: dict[str, Any], told: bool
) -> None:
    with visit(browser, url) as opened:
        page, answers = opened.page, 0

        def answer(route: Any) -> None:
            nonlocal answers
            response = route.fetch()
            found = response.json()
            if answers < 2:  # as it opens, and as a picture comes
                found["models"][0] |= was
            answers += 1
            route.fulfill(response=response, json=found)

        page.route("**/v1/models", answer)
        page.reload()
        page.wait_for_selector("#model option[value]", state="attached")
        opened.drop(photos[0])
        opened.wait_until_done(1)
        assert opened.card("coffee.png").get_by_text("· looks").is_visible()
        gone = "The server does not have the model gone any more: looks captions from here on."
        assert opened.remarks() == ([gone] if told else [])


def test_remarks_stay_until_they_are_closed(
    browser: Any, url: str, photos: list[Path], tmp_path: Path
) -> None:
    """Also where the server is busy, and where it comes back with other models."""
    full = {"status": 503, "headers": {"Retry-After": "0"}, "json": {"detail": "the queue is full"}}
    shutil.copy(photos[0], tmp_path / "rocket.jpg")

    def rename(route: Any) -> None:
        response = route.fetch()
        found = response.json()
        found["models"][0]["name"] = "gone"
        route.fulfill(response=response, json=found)

    with visit(browser, url) as opened:
        page = opened.page
        page.route("**/v1/models", rename)
        page.route("**/v1/captions", lambda route: route.fulfill(**full))
        page.reload()
        page.wait_for_selector("#model option[value=gone]", state="attached")
        opened.drop(photos[1], tmp_path / "rocket.jpg")
        opened.notice("The queue is full. Nothing is lost")
        page.unroute("**/v1/models")
        page.unroute("**/v1/captions")
        opened.wait_until_done(2)
        page.get_by_role("group", name="Notice").wait_for(state="hidden")
        assert opened.remarks() == [
            "There is another rocket.jpg: this one is rocket (2).jpg here. "
            "Rename its file to that, or its caption goes to the other.",
            "The server does not have the model gone any more: looks captions from here on.",
        ]
        page.get_by_role("button", name="Close").click()
        assert opened.remarks() == [] and not page.locator("#remarks").is_visible()


def test_a_slow_connection_gets_smaller_copies(browser: Any, url: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1100, 1400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    sizes: list[int] = []
    late = {"status": 408, "headers": {"Retry-After": "0"}, "json": {"detail": "too late"}}

    def answer(route: Any) -> None:
        sizes.append(len(route.request.post_data_buffer))
        if len(sizes) == 1 or is_hopeless:
            route.fulfill(**late)
        else:
            route.continue_()

    is_hopeless = False
    with visit(browser, url) as opened:
        opened.page.route("**/v1/captions", answer)
        opened.drop(tmp_path / "noise.png")
        opened.wait_until_done(1)
        assert opened.caption("noise.png")
        assert sizes[0] > 4_000_000 and sizes[1] < 0.5 * sizes[0] and len(sizes) == 2
        is_hopeless = True
        opened.page.get_by_role("button", name="Clear all").click()
        opened.page.get_by_role("button", name="Remove", exact=True).click()
        opened.drop(tmp_path / "noise.png")
        reason = opened.card("noise.png").locator(".state")
        reason.get_by_text("The connection is too slow: ").wait_for()
        assert "MB did not arrive" in reason.inner_text() and len(sizes) == 5


def test_a_picture_that_is_captioned_again_has_all_its_attempts(
    browser: Any, url: str, photos: list[Path]
) -> None:
    late = {"status": 408, "headers": {"Retry-After": "0"}, "json": {"detail": "too late"}}
    sent = 0

    def answer(route: Any) -> None:
        nonlocal sent
        sent += 1
        if sent in (3, 6):
            route.continue_()
        else:
            route.fulfill(**late)

    with visit(browser, url) as opened:
        opened.page.route("**/v1/captions", answer)
        opened.drop(photos[0])
        opened.wait_until_done(1)
        assert sent == 3
        opened.page.get_by_label("Model").select_option("tells")
        opened.page.get_by_role("button", name="Caption 1 again with tells").click()
        opened.card("coffee.png").get_by_text("· tells").wait_for()
        assert sent == 6
        opened.page.get_by_label("Model").select_option("looks")
        opened.page.get_by_role("button", name="Caption 1 again with looks").click()
        for failed in (9, 12):
            opened.card("coffee.png").get_by_text("The connection is too slow: ").wait_for()
            assert sent == failed
            opened.card("coffee.png").get_by_role("button", name="Retry").click()


def test_a_small_copy_is_upright(filled: Visit, tmp_path: Path) -> None:
    photo = Image.new("RGB", (1200, 2400), "red")
    photo.paste("blue", (0, 0, 1200, 1200))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to the right
    photo.save(tmp_path / "turned.jpg", exif=exif)
    data = base64.b64encode((tmp_path / "turned.jpg").read_bytes()).decode()
    script = """async (data) => {
      const { smallCopy } = await import("/page/preview.js");
      const file = new Blob([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))]);
      const bytes = new Uint8Array(await (await smallCopy(file)).arrayBuffer());
      return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
    }"""
    with Image.open(io.BytesIO(base64.b64decode(filled.page.evaluate(script, data)))) as copy:
        assert copy.size == (2000, 1000)
        right = copy.convert("RGB").getpixel((1900, 500))
    assert right == pytest.approx((0, 0, 255), abs=4)


def test_a_model_that_is_down_is_told_of(browser: Any, url: str, photos: list[Path]) -> None:
    down = {"status": 503, "headers": {"Retry-After": "0"}, "json": {"detail": "the model fails"}}
    with visit(browser, url) as opened:
        opened.page.route("**/v1/captions", lambda route: route.fulfill(**down))
        opened.drop(photos[0])
        opened.notice("The model fails. Nothing is lost; trying again in a second.")
        opened.notice("Whoever runs the server finds more in its log.")
        opened.page.unroute("**/v1/captions")
        opened.wait_until_done(1)
        assert opened.caption("coffee.png")


def test_a_hidden_tab_goes_on(browser: Any, url: str, tmp_path: Path) -> None:
    pictures = [tmp_path / f"{number}.png" for number in range(60)]
    for number, path in enumerate(pictures):
        Image.new("RGB", (20, 20), (number, 0, 0)).save(path)
    with visit(browser, url, script="requestAnimationFrame = () => 0;") as opened:
        opened.drop(*pictures)
        opened.page.get_by_text("60 pictures captioned").first.wait_for()
