"""The page for those who cannot use a mouse, or see it, or who have a small screen."""

import io
import shutil
from importlib.resources import files
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
OVER = """() => [...document.querySelectorAll("body *")].filter((e) =>
  e.checkVisibility() && !e.matches(".unseen, .skip") && !e.closest("dialog, .unseen")
  && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 90))"""


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1280, "light"),
        (390, "dark"),
        pytest.param(1280, "dark", marks=pytest.mark.costly),
        pytest.param(390, "light", marks=pytest.mark.costly),
    ],
)
def test_axe_finds_nothing_and_nothing_runs_over(
    browser: Any, url: str, photos: list[Path], tmp_path: Path, width: int, scheme: str
) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with visit(
        browser,
        url,
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        reduced_motion="reduce",
    ) as opened:
        page = opened.page
        assert opened.violations() == []  # empty
        opened.drop(*photos, tmp_path / "notes.txt")
        opened.wait_until_done(3)
        assert opened.remarks() == ["Left out: 1 file is not a picture."]
        page.get_by_text("2 alternatives").first.click()
        opened.card("coffee.png").locator(".word").first.click()
        opened.card("rocket.jpg").get_by_role("button", name="Edit").click()
        page.mouse.move(0, 0)
        assert opened.violations() == []  # done, failed, looking, editing
        assert page.evaluate(OVER) == []
        assert page.evaluate("document.documentElement.scrollWidth") == width
        shot = Image.open(
            io.BytesIO(page.screenshot(clip={"x": 0, "y": 0, "width": 380, "height": 60}))
        )
        brightness = float(np.asarray(shot.convert("L")).mean())
        assert brightness > 200 if scheme == "light" else brightness < 60
        page.get_by_role("button", name="Clear all").click()
        assert opened.violations() == []  # a question


def test_all_of_it_by_keyboard(browser: Any, url: str, photos: list[Path]) -> None:
    with visit(browser, url) as opened:
        page, press = opened.page, opened.page.keyboard.press
        page.on("filechooser", lambda _: None)  # has Chromium hand choosers over from now on
        opened.tab_to("#choose")
        with page.expect_file_chooser() as chooser:
            press("Enter")
        chooser.value.set_files(photos)
        opened.wait_until_done(3)

        opened.tab_to(".word")
        card = opened.card("coffee.png")
        words = card.locator(".word")
        press("Enter")
        assert card.locator(".look").is_visible()
        first_note = card.locator(".look-note").inner_text()
        press("ArrowRight")  # the map goes along
        assert words.nth(1).get_attribute("aria-pressed") == "true"
        assert page.evaluate("document.activeElement.textContent") == words.nth(1).inner_text()
        assert card.locator(".look-note").inner_text() != first_note
        press("Escape")
        assert not card.locator(".look").is_visible()

        opened.tab_to(".edit")  # past all the other words at once
        press("Enter")
        page.keyboard.type("a cup of coffee")
        press("Enter")
        assert opened.caption("coffee.png") == "a cup of coffee"
        assert page.evaluate("document.activeElement.matches('.edit')")

        opened.tab_to("summary")
        press("Enter")
        opened.tab_to("input[type=radio]")
        press("Space")
        press("ArrowDown")
        assert card.get_by_role("radio").nth(1).is_checked()
        assert opened.caption("coffee.png") != "a cup of coffee"

        page.locator("#choose").focus()
        opened.tab_to(".remove")
        press("Enter")
        page.get_by_text("The caption that you wrote goes with it.").wait_for()
        press("Enter")
        card.wait_for(state="detached")
        label = page.evaluate("document.activeElement.getAttribute('aria-label')")
        assert label == "Remove: rocket.jpg"  # the next one, not the top of the page


def test_the_keyboard_stays_at_the_pictures_when_remarks_are_closed(
    filled: Visit, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    filled.drop(tmp_path / "notes.txt")
    close = filled.page.get_by_role("button", name="Close", exact=True)
    close.focus()
    filled.page.keyboard.press("Enter")
    close.wait_for(state="hidden")
    assert filled.page.evaluate("document.activeElement.id") == "main"
    filled.page.keyboard.press("Tab")
    assert filled.page.evaluate("document.activeElement.id") == "choose"  # not the top of the page


def test_a_screen_reader_hears_what_happens(filled: Visit) -> None:
    said = filled.page.get_by_role("status").first
    assert said.inner_text() == "2 of 3 pictures captioned, 1 failed"
    card = filled.card("coffee.png")
    card.locator(".word").first.click()
    assert "looked" in said.inner_text()
    caption = filled.caption("coffee.png")
    assert card.get_by_role("img", name=f"Picture captioned: {caption}").count() == 1


def test_nothing_moves_for_those_who_asked_for_it(filled: Visit) -> None:
    moving = """() => [...document.querySelectorAll("*")].filter((e) => {
      const { animationName, transitionDuration } = getComputedStyle(e);
      return animationName !== "none" || transitionDuration !== "0s";
    }).length"""
    assert filled.page.evaluate(moving) == 0


def test_names_in_archives_are_safe_and_no_two_alike(filled: Visit) -> None:
    given = ["a.jpg", "a.png", "A.gif", "../../etc/passwd", "b\\con.png", "x/.hidden", "é.png"]
    given += ["e\u0301.png", "..", "z" * 400 + ".jpeg", "a:b?.jpg"]
    module = "async (given) => (await import('/page/names.js')).sidecarNames(...given)"
    names = filled.page.evaluate(module, [given, True])  # on Windows
    assert names[:9] == [
        *("a.txt", "a.png.txt", "A.gif.txt", "etc/passwd.txt", "b/_con.txt", "x/hidden.txt"),
        *("é.txt", "e\u0301.png.txt", "picture.txt"),
    ]
    assert len(names[9].encode()) < 255 and names[10] == "a_b_.txt"
    assert len({name.lower() for name in names}) == len(given)
    given = ["10:30 what?.jpg", "e\u0301.png", "con.png", " a .jpg", "etc./b.png", "../x.png"]
    names = filled.page.evaluate(module, [given, False])  # these names are usual elsewhere
    assert names == [
        *("10:30 what?.txt", "e\u0301.txt", "con.txt", " a .txt", "etc./b.txt", "x.txt")
    ]


ARABIC, JAPANESE = "رجل يركب دراجة حمراء", "犬が走る"


@pytest.mark.parametrize(
    ("caption", "words"), [(ARABIC, ARABIC.split()), (JAPANESE, ["犬", "が", "走る"])]
)
def test_captions_of_every_script_read_as_they_are_written(
    browser: Any, url: str, photos: list[Path], caption: str, words: list[str]
) -> None:
    result = {
        **{"caption": caption, "confidence": 0.7, "log_prob": -5.0, "words": words},
        "log_probs": [-0.5] * (len(words) + 1),
        "attention": {"grid": [2, 2], "weights": [[0.1, 0.2, 0.3, 0.4]] * (len(words) + 1)},
    }
    other = result | {"attention": None, "caption": caption[::-1]}
    answer = {"model": "looks", "results": [result | {"alternatives": [other]}]}
    with visit(browser, url) as opened:
        opened.page.route("**/v1/captions", lambda route: route.fulfill(json=answer))
        opened.drop(photos[0])
        opened.wait_until_done(1)
        card = opened.card("coffee.png")
        assert card.locator(".caption").evaluate("e => e.textContent") == caption
        left = [card.locator(".word").nth(n).bounding_box()["x"] for n in range(len(words))]
        is_arabic = caption == ARABIC
        assert left == sorted(left, reverse=is_arabic) and len(set(left)) == len(words)
        card.locator(".word").first.click()
        opened.page.keyboard.press("ArrowLeft" if is_arabic else "ArrowRight")
        assert opened.page.evaluate("document.activeElement.textContent") == words[1]
        card.get_by_text("1 alternative").click()
        direction = "e => getComputedStyle(e).direction"
        expected = "rtl" if is_arabic else "ltr"
        assert card.locator("label span").first.evaluate(direction) == expected
        assert card.locator(".look-note").evaluate(direction) == "ltr"  # a sentence in English
        card.get_by_role("button", name="Edit: coffee.png").click()
        assert card.get_by_role("textbox").evaluate(direction) == expected


def test_crc_32_is_that_of_zip(filled: Visit) -> None:
    module = (
        """async (text) => (await import('/page/zip.js')).crc32(new TextEncoder().encode(text))"""
    )
    # The check value of CRC-32/ISO-HDLC in Greg Cook's catalogue of CRC algorithms.
    assert filled.page.evaluate(module, "123456789") == 0xCBF43926


def test_the_page_is_in_the_package_and_asks_for_its_own_files_alone() -> None:
    page = files("showtell.server").joinpath("page")
    names = sorted(path.name for path in page.iterdir())
    assert len(names) == 27 and {"index.html", "page.css", "page.js"} < set(names)
    for name in names:
        text = page.joinpath(name).read_text(encoding="utf-8")
        assert "https://" not in text and "style=" not in text and len(text.splitlines()) <= 250
        assert text.count("http://") == text.count("http://www.w3.org/2000/svg")
