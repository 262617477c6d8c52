"""Every example of docs/formats.md is read as the page says."""

import re
from pathlib import Path

import pytest
from tiny_archives import jpeg, write_arrow, write_parquet, write_tar

from showtell.data.sources import load_dataset

PAGE = Path(__file__).resolve().parents[2] / "docs" / "formats.md"
SECTION = re.compile(r"^## (?P<title>.+)$", re.MULTILINE)
BLOCK = re.compile(r'^```(?P<kind>\w+) title="(?P<name>[^"\n]+)"\n(?P<text>.*?)^```$', re.M | re.S)
PICTURES = re.compile(r"^Pictures: (?P<names>.+?)\. Give", re.MULTILINE)
GIVE = re.compile(r"Give: `(?P<data>.+)`$", re.MULTILINE)


def sections() -> dict[str, str]:
    """The text of each section by its title."""
    parts = SECTION.split(PAGE.read_text(encoding="utf-8"))
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def write(kind: str, path: Path, text: str) -> None:
    """Write one example; archives are described by their members or rows."""
    lines = text.splitlines()
    if kind == "tar":
        members = []
        for number, line in enumerate(lines):
            name, _, said = line.partition(": ")
            members.append((name, said.encode() or jpeg(number)))
        write_tar(path, members)
    elif kind in ("parquet", "arrow"):
        rows = [dict(cell.split(": ") for cell in line.split(", ")) for line in lines]
        column = next(iter(rows[0]))
        pictures = [{"bytes": jpeg(n), "path": row[column]} for n, row in enumerate(rows)]
        rows = [row | {column: photo} for row, photo in zip(rows, pictures, strict=True)]
        (write_parquet if kind == "parquet" else write_arrow)(path, rows)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("title", sections())
def test_an_example_is_read_as_the_page_says(title: str, tmp_path: Path) -> None:
    text = sections()[title]
    blocks = [match.group("kind", "name", "text") for match in BLOCK.finditer(text)]
    *files, (_, last, expected) = blocks
    assert last == "read as" and files
    for kind, name, content in files:
        assert len(content.splitlines()) <= 5
        write(kind, tmp_path / name, content)
    named = PICTURES.search(text)
    for number, name in enumerate(re.findall("`(.+?)`", named["names"]) if named else []):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(jpeg(number))
    give = GIVE.search(text)
    assert give is not None
    dataset = load_dataset(tmp_path / give["data"])
    said = {record.image_id: " | ".join(record.captions) for record in dataset.records}
    assert said == dict(line.split(": ", 1) for line in expected.splitlines())
    assert {problem.kind for problem in dataset.problems} <= {"rejected caption"}


def test_the_page_has_every_section_that_it_names() -> None:
    text = PAGE.read_text(encoding="utf-8")
    anchors = re.findall(r"\]\(#(.+?)\)", text)
    titles = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in sections()}
    assert len(anchors) == 17 and set(anchors) <= titles
    assert len(sections()) == 18


def test_the_tests_that_the_rules_name_are_there() -> None:
    rules = (PAGE.parent / "data.md").read_text(encoding="utf-8")
    named = re.findall(r"`(\w+/test_\w+\.py)(?:::(test_\w+))?`", rules)
    assert len(named) > 20
    for file, test in named:
        source = (PAGE.parents[1] / "tests" / file).read_text(encoding="utf-8")
        assert f"def {test}" in source, f"{file}::{test}"
