"""The sheet in Chromium, opened as a file: answered by mouse and keys, kept, downloaded, read."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_shell import Shell
from page_visit import Visit

from showtell.rating.answers import read_answers
from showtell.rating.results import summarise
from showtell.rating.sheet import Sheet

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("chromium"), reason="no chromium here: apt-get install chromium"
    ),
]

OVER = """() => [...document.querySelectorAll("body *")].filter(e =>
  e.getBoundingClientRect().right > innerWidth + 1).length"""


@pytest.fixture(scope="module")
def sheets(showtell: Shell, world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sheets")
    files = (world / "alpha.json", world / "beta.jsonl", world / "photos")
    for name, *options in (
        ("right",),
        ("pair", "--scale", "pairwise", "--link"),
        ("five", "--scale", "1-5"),
    ):
        assert showtell("rate", *files, "-o", folder / f"{name}.html", *options).returncode == 0
    return folder


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    """Opens a sheet; afterwards, sees that it had no error and asked only for its pictures."""
    contexts: list[tuple[Any, Visit]] = []

    def open_sheet(page: Path, **context: Any) -> Visit:
        opened = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | context)
        visited = Visit(opened.new_page())
        visited.page.goto(page.as_uri())
        contexts.append((opened, visited))
        return visited

    yield open_sheet
    for context, visited in contexts:
        context.close()
        assert visited.errors == []
        assert all(url.startswith(("file:", "data:", "blob:")) for url in visited.asked)


@pytest.mark.parametrize("name", ["right", "pair", "five"])
def test_it_fits_and_axe_finds_nothing(sheets: Path, visit: Any, name: str) -> None:
    for width, scheme in ((1280, "light"), (390, "dark")):
        at = visit(
            sheets / f"{name}.html",
            viewport={"width": width, "height": 844},
            color_scheme=scheme,
        )
        at.page.wait_for_function("() => document.querySelector('#picture').naturalWidth > 0")
        assert at.page.evaluate(OVER) == 0
        assert at.violations() == []


def test_answers_by_mouse_and_by_keys_are_kept_and_read(
    sheets: Path, visit: Any, tmp_path: Path
) -> None:
    page = sheets / "right.html"
    sheet = Sheet.of_key(sheets / "right.key.json")
    at = visit(page)
    shown = at.page.locator("#captions")
    assert shown.inner_text() == sheet.items[0].captions[0]  # tags are text
    at.page.get_by_text("Half right").click()
    at.page.get_by_label("Note, if you like").fill('=a "note", n')  # letters here are no keys
    at.page.get_by_role("button", name="Next").click()
    for number in range(1, len(sheet.items)):
        at.page.wait_for_function(
            "n => document.querySelector('#place').textContent.startsWith(n)",
            arg=f"{number + 1} of",
        )
        assert shown.inner_text() == sheet.items[number].captions[0]
        at.page.locator("body").press("rhw"[number % 3])
    assert "All are answered" in at.page.locator("#message").inner_text()
    at.page.get_by_role("button", name="Download CSV").click()
    assert "write your name" in at.page.locator("#message").inner_text()
    at.page.keyboard.type("Zoë / 1")
    at.page.reload()
    assert at.page.locator("#place").inner_text().endswith("11 answered")
    files = [at.download(f"Download {kind}", tmp_path) for kind in ("CSV", "JSON")]
    assert files[0].name == f"answers-{sheet.id}-Zoë-1.csv"
    for file in files:
        answers = read_answers([file], sheet)
        given = [answers.grades["Zoë / 1"][item.id].code for item in sheet.items]
        assert given == ["half", *(("right", "half", "wrong")[n % 3] for n in range(1, 11))]
        assert answers.notes[0][2].endswith('=a "note", n')
        assert summarise(sheet, answers).raters == {"Zoë / 1": 11}
    at.page.on("dialog", lambda dialog: dialog.accept())
    at.page.get_by_role("button", name="Start over").click()
    assert at.page.locator("#place").inner_text() == "1 of 11, 0 answered"


def test_it_is_usable_without_a_mouse(sheets: Path, visit: Any) -> None:
    at = visit(sheets / "pair.html")
    assert at.page.locator("#captions li").count() == 2
    at.tab_to("[name=answer]")
    at.page.keyboard.press("Space")
    at.page.keyboard.press("ArrowDown")  # within the answers, as in every form
    assert at.page.evaluate("document.activeElement.value") == "same"
    assert at.page.locator("#place").inner_text() == "1 of 5, 1 answered"
    at.tab_to("#next")
    at.page.keyboard.press("Enter")
    assert at.page.locator("#place").inner_text() == "2 of 5, 1 answered"
    at.page.keyboard.press("p")
    assert at.page.locator("[value=same]").is_checked()


def test_it_says_so_where_nothing_is_kept(sheets: Path, browser: Any) -> None:
    context = browser.new_context()
    context.add_init_script(
        "Storage.prototype.setItem = () => { throw new DOMException('no', 'QuotaExceededError'); }"
    )
    page = context.new_page()
    page.goto((sheets / "five.html").as_uri())
    page.locator("body").press("5")
    assert "keeps no answers" in page.locator("#message").inner_text()
    context.close()
