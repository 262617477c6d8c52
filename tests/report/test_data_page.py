"""The page of ``showtell data inspect --page``."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from page_parser import parse_page
from PIL import Image, ImageDraw

from showtell.data.inspect import Checks, inspect_dataset
from showtell.data.records import Dataset, Problem, Record
from showtell.report.data_page import write_data_page
from showtell.report.svg import bar_chart, log_curve, spots


def drawn(path: Path, number: int, size: tuple[int, int] = (90, 60)) -> Path:
    picture = Image.new("RGB", (90, 60), (30, 90, 20))
    x = number * 17 % 60
    ImageDraw.Draw(picture).rectangle((x, 10, x + 25, 20 + number * 7 % 30), fill="white")
    picture.resize(size).save(path, quality=95)
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    pytest.importorskip("imagehash")
    records = [
        Record(f"{n}", drawn(tmp_path / f"{n}.jpg", n), (f"A dog & {n} cats", "Dog"), "train")
        for n in range(6)
    ]
    half = drawn(tmp_path / "half.jpg", 2, (60, 40))
    records.append(Record("half", half, ("A <b>bold</b> cat",), "val"))
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "1.jpg").read_bytes()[:400])
    records.append(Record("cut", tmp_path / "cut.jpg", ("A man\u202e",), "val"))
    gone = Problem("missing picture", "<img src=x>", "no such file")
    return Dataset("set <1>", "csv", tuple(records), (gone,), ("a note & more",))


def test_a_page_of_everything(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    seen: list[tuple[int, int]] = []
    write_data_page(path, dataset, inspect_dataset(dataset), lambda *n: seen.append(n))
    page = parse_page(path)
    assert page.sections == ["counts", "lengths", "sizes", "problems", "samples"]
    assert ("h1", "Data: set <1>") in page.headings
    for part in (
        "csv: 8 pictures, 14 captions",
        "a note & more",
        "A <b>bold</b> cat",
        "near-duplicate in two splits (1)",
        "val; looks like 2 (train)",
        "<img src=x>",
        "60 x 40",
    ):
        assert part in page.words, part
    kinds = [text for level, text in page.headings if level == "h3"]
    assert kinds == [
        *("missing picture (1)", "markup in a caption (1)", "broken picture (1)"),
        "near-duplicate in two splits (1)",
    ]
    charts = [v for tag, name, v in page.attributes if tag == "svg" and name == "aria-label"]
    assert len(charts) == 3 and "Captions have 1 to 5 words" in charts[0]
    links = [v for tag, name, v in page.attributes if name in ("src", "href", "srcset")]
    assert all(link.startswith(("#", "data:")) for link in links), "nothing is fetched"
    # A problem's picture, its near-duplicate beside it, and every sample that decodes.
    assert len(page.images) == 1 + 2 + 7
    assert seen[-1] == (seen[-1][1],) * 2


def test_a_page_without_pictures_or_problems(dataset: Dataset, tmp_path: Path) -> None:
    one = Dataset("one", "csv", dataset.records[:1])
    found = inspect_dataset(one, checks=Checks(pictures=False))
    write_data_page(tmp_path / "page.html", one, found)
    page = parse_page(tmp_path / "page.html")
    assert "sizes" not in page.sections and "None were found." in page.words


def test_charts_of_little() -> None:
    for chart in (
        bar_chart("t", "a", [], "x"),
        bar_chart("t", "a", [("1", 0)], "x"),
        log_curve("t", "a", [(1, 1)], "x"),
        log_curve("t", "a", [(1, 9), (20, 3)], "x"),
        spots("t", "a", [(1, 1, 1)], "x", "y"),
    ):
        assert chart.startswith("<figure>") and "nan" not in chart
    chart = bar_chart("t", "a", [("a", 20), ("b", 10)], "x")
    heights = [float(part.split('"')[0]) for part in chart.split('height="')[1:]]
    assert heights[0] == 2 * heights[1], "twice as many are twice as high"


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium: apt-get install chromium")
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_in_a_browser(
    browser: Any, dataset: Dataset, tmp_path: Path, width: int
) -> None:
    path = tmp_path / "page.html"
    write_data_page(path, dataset, inspect_dataset(dataset))
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark")
    asked: list[str] = []
    page.on("request", lambda r: None if r.url.startswith("data:") else asked.append(r.url))
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth)")
    fill = "getComputedStyle(document.querySelector('svg rect')).fill"
    assert page.evaluate(fill) == "rgb(108, 182, 255)", "the charts are dark as well"
    assert asked == [path.as_uri()]
    page.close()
