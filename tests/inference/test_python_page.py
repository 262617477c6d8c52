"""docs/python.md: its snippets run, and its tables have every argument, field and error."""

import inspect
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import showtell
from showtell import Caption, Captioner, ModelInfo, errors
from showtell.inference.stream import PictureResult

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def rows(heading: str) -> list[str]:
    """The first cells of the table under this heading row."""
    table = PAGE.partition(f"| {heading} |")[2].partition("\n\n")[0]
    return re.findall(r"^\| `(\w+)`", table, flags=re.MULTILINE)


def test_the_snippets_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOWTELL_CACHE", str(tmp_path / "cache"))
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    photo = Image.fromarray(noise).resize((320, 240))
    Path("photos").mkdir()
    for name in ("photo.jpg", "photos/a.jpg", "photos/b.jpg"):
        photo.save(name)
    Path("photos/c.jpg").write_text("no picture")
    names: dict[str, Any] = {}
    assert len(BLOCKS) == 7
    with ThreadPoolExecutor(1) as thread:  # this one may have the event loop of a browser's tests
        for block in BLOCKS:
            thread.submit(exec, block, names).result()
    printed = capsys.readouterr().out
    assert "failed: photos/c.jpg" in printed and "not-there.jpg" in printed
    one, *others = names["captions"]
    assert isinstance(one, Caption) and others == [one, one]
    assert len(names["caption"].attention) == len(names["caption"].words) + 1


def test_the_tables_have_every_argument_and_field() -> None:
    assert rows("argument") == list(inspect.signature(Captioner.load).parameters)
    assert rows("field of `ModelInfo`") == [field.name for field in fields(ModelInfo)]
    assert rows("field") == [field.name for field in fields(Caption)]
    assert rows("field of `PictureResult`") == [field.name for field in fields(PictureResult)]
    for method in ("caption", "caption_stream"):
        [shown] = re.findall(rf"`captioner\.{method}\((.+?)\)`", PAGE)
        names = [part.split("=")[0] for part in shown.split(", ") if part != "*"]
        assert names == [*inspect.signature(getattr(Captioner, method)).parameters][1:]


def test_the_table_of_errors_has_every_error() -> None:
    known = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.ShowtellError)
    }
    internal = {"ShowtellError", "UsageError", "SaidElsewhereError"}
    table = PAGE.partition("| error |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+Error)`", table)) - {"TypeError"} == known - internal


def test_the_page_names_the_whole_public_surface() -> None:
    missing = [name for name in showtell.__all__ if not re.search(rf"\b{name}\b", PAGE)]
    assert missing == ["__version__"]
