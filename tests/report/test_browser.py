"""The page in a real browser, Debian's Chromium: nothing runs over, all is shown, dark is dark."""

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from caption_files import CaptionFiles
from cli_shell import Shell
from PIL import Image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("chromium"), reason="no chromium here: apt-get install chromium"
    ),
]
MEASURE = """() => ({
  width: document.documentElement.scrollWidth,
  broken: [...document.images].filter(i => !(i.complete && i.naturalWidth)).map(i => i.alt),
  sources: [...document.querySelectorAll("picture img")].map(i => i.currentSrc),
  over: [...document.querySelectorAll("main *")].filter(e =>
    !e.closest(".table") && e.getBoundingClientRect().right > innerWidth + 1).length,
  scrolled: [...document.querySelectorAll("#changes ~ .table")].filter(e =>
    e.scrollWidth > e.clientWidth).length,
  small: [...document.querySelectorAll("main p, main li, main td")].filter(e =>
    parseFloat(getComputedStyle(e).fontSize) < 12).length,
})"""


@pytest.fixture(scope="module")
def pages(
    showtell: Shell,
    looks: Path,
    tells: Path,
    caption_files: CaptionFiles,
    tmp_path_factory: pytest.TempPathFactory,
) -> list[Path]:
    folder = tmp_path_factory.mktemp("pages")
    paths = [folder / "one.html", folder / "two.html", folder / "files.html"]
    files = caption_files
    of_files = (files.rarely, files.often, "--references", files.references)
    given = ((looks,), (looks, tells), (*of_files, "--images", files.images))
    for path, arguments in zip(paths, given, strict=True):
        assert showtell("report", *arguments, "-o", path).returncode == 0
    return paths


@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_and_follows_the_reader_into_the_dark(
    browser: Any, pages: list[Path], width: int
) -> None:
    for path in pages:
        light, dark = (_look(browser, path, width, scheme) for scheme in ("light", "dark"))
        for found in (light, dark):
            assert found["width"] == width
            assert (found["broken"], found["over"], found["small"]) == ([], 0, 0)
            assert found["scrolled"] == 0, "differences and what they show are seen together"
            assert found["asked"] == [path.as_uri()]
        assert len(light["sources"]) > 8 or path.stem == "files", "a page of files has no figures"
        assert not set(light["sources"]) & set(dark["sources"])
        assert light["brightness"] > 200 and dark["brightness"] < 60


def test_a_heading_sorts_its_column(browser: Any, pages: list[Path]) -> None:
    page = browser.new_page()
    page.goto(pages[-1].as_uri())
    table = page.locator("table:has(th[data-first])")

    def names() -> list[str]:
        return table.locator("tbody th").all_inner_texts()

    assert names() == ["often", "rarely"], "by CIDEr-D, where nothing was pressed"
    heading = table.get_by_role("columnheader", name="CIDEr-D")
    for order, expected in (
        ("descending", ["often", "rarely"]),
        ("ascending", ["rarely", "often"]),
    ):
        heading.get_by_role("button").press("Enter")
        assert heading.get_attribute("aria-sort") == order
        assert names() == expected
    table.get_by_role("button", name="captioner").click()
    assert heading.get_attribute("aria-sort") is None
    assert names() == ["often", "rarely"]
    table.get_by_role("link", name="often").click()
    assert page.url.endswith("#versus-1")
    page.close()


def _look(browser: Any, path: Path, width: int, scheme: str) -> dict[str, Any]:
    """What the browser makes of the page: measures, requests, and how bright its top is."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(180_000)  # ms; a busy machine draws slowly
    asked: list[str] = []
    page.on("request", lambda r: None if r.url.startswith("data:") else asked.append(r.url))
    page.goto(path.as_uri())
    found: dict[str, Any] = page.evaluate(MEASURE)
    shot = Image.open(io.BytesIO(page.screenshot())).convert("L")
    context.close()
    return found | {"asked": asked, "brightness": float(np.asarray(shot).mean())}
