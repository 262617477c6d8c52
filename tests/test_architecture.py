"""What the documentation says about the code is there: each path, class, function and method."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from showtell.config import Config
from showtell.config.section import sections_in

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src" / "showtell"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROSE = ARCHITECTURE.partition("## Where to look")[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
DATA_FILE = re.compile(r"\.(json|jsonl|toml|safetensors|f16|bin|onnx)$")
NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*")


def spans(text: str) -> list[str]:
    """What stands between backticks, outside of blocks of code."""
    without_blocks = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", without_blocks)


def table_rows(text: str) -> list[str]:
    """The rows of every table, less its heading."""
    return [line for line in text.splitlines() if line.startswith("| ") and "`" in line]


def members(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """The names that a module or a class defines itself."""
    for statement in body:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield statement.name, statement
            case ast.Assign(targets=[ast.Name(id=name)]):
                yield name, statement
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name, statement


@cache
def defined(module: Path) -> frozenset[str]:
    """``name`` and ``Class.member`` of everything that a module defines."""
    names = set()
    for name, statement in members(ast.parse(module.read_text(encoding="utf-8")).body):
        names.add(name)
        if isinstance(statement, ast.ClassDef):
            names |= {f"{name}.{member}" for member, _ in members(statement.body)}
    return frozenset(names)


def modules_in(row: str) -> list[Path]:
    return [SOURCES / span for span in spans(row) if span.endswith(".py")]


def names_in(row: str) -> list[str]:
    return [s for s in spans(row) if NAME.fullmatch(s) and not DATA_FILE.search(s)]


def test_each_row_of_the_tables_names_what_is_there() -> None:
    where_to_look = README.partition("| I want to ...")[2].partition("\n\n")[0]
    rows = table_rows(PROSE) + table_rows(where_to_look)[1:]
    assert len(rows) > 45
    for row in rows:
        modules = modules_in(row)
        assert modules, f"no file in {row}"
        assert [str(m) for m in modules if not m.is_file()] == [], row
        known = frozenset().union(*map(defined, modules))
        assert [name for name in names_in(row) if name not in known] == [], row


def test_each_step_of_the_main_job_is_there() -> None:
    steps = re.findall(r"^  ([\w/.]+) +([\w.]+) +->", PROSE, flags=re.MULTILINE)
    assert len(steps) == 16
    for place, name in steps:
        module = SOURCES / place if place.endswith(".py") else SOURCES / place / "__init__.py"
        assert name in defined(module), (place, name)


def test_each_method_in_the_prose_is_there() -> None:
    known = frozenset().union(*map(defined, SOURCES.rglob("*.py")))
    methods = {span for span in spans(PROSE) if re.fullmatch(r"_?[A-Z]\w*[a-z]\w*\.\w+", span)}
    assert len(methods) > 15
    assert sorted(methods - known) == []


def test_each_setting_in_the_prose_is_there() -> None:
    settings = {
        f"{name}.{key}"
        for name, field in Config.model_fields.items()
        for section in sections_in(field.annotation)
        for key in section.model_fields
    }
    named = {s for s in spans(PROSE) if re.fullmatch(r"[a-z]+\.[a-z_]+", s)}
    named = {name for name in named if not DATA_FILE.search(name)}
    assert "training.batch_by" in named
    assert sorted(named - settings) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_module_that_a_page_names_is_there(page: Path) -> None:
    """A path is relative to the checkout, to its tests or to ``src/showtell``."""
    paths = {s for s in spans(page.read_text(encoding="utf-8")) if re.fullmatch(r"[\w/]+\.py", s)}
    tops = (ROOT, SOURCES, ROOT / "tests", ROOT / "benchmarks")
    assert sorted(p for p in paths if not any((top / p).is_file() for top in tops)) == []
