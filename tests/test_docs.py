"""The commands that the pages show are commands that showtell takes."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from showtell.cli import app
from showtell.errors import ShowtellError, UsageError

ROOT = Path(__file__).parents[1]
GENERATED = {"help.md", "settings.md", "files.md"}
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(page for page in (ROOT / "docs").glob("*.md") if page.name not in GENERATED),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_of_the_docs_work_as_typed(page: Path) -> None:
    found = [(line, fault_of(line)) for line in commands_in(page)]
    found += [(phrase, fault_of(phrase, is_whole=False)) for phrase in phrases_in(page)]
    assert [f"{command}: {fault}" for command, fault in found if fault] == []


def test_many_commands_are_found() -> None:
    assert sum(1 for page in PAGES for _ in commands_in(page)) > 80
    assert sum(1 for page in PAGES for _ in phrases_in(page)) > 80


def test_a_wrong_command_is_found() -> None:
    assert fault_of("showtell train DATA")
    assert fault_of("showtell train DATA -o run --form default")
    assert fault_of("showtell caption photo.jpg --format jsno")
    assert fault_of("showtell data inspekt photos/")
    assert fault_of("showtell train DATA -o run --from default") == ""


def commands_in(page: Path) -> Iterator[str]:
    """The lines of blocks that begin with ``showtell``, with their continuations."""
    for block in re.findall(r"^```\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("showtell ") and "..." not in line:
                yield line


def phrases_in(page: Path) -> Iterator[str]:
    """The commands within sentences and tables, which may leave out what is clear."""
    prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for phrase in re.findall(r"`(showtell [^`]+)`", prose):
        if "..." not in phrase:
            yield " ".join(phrase.split())


def fault_of(line: str, *, is_whole: bool = True) -> str:
    """What the parser says against a command; "" where it takes it."""
    words = shlex.split(line, comments=True)
    for end in ("|", ">", "2>", "&&"):
        words = words[: words.index(end)] if end in words else words
    command = typer.main.get_command(app)
    name, *words = words
    while isinstance(command, TyperGroup) and words and not words[0].startswith("-"):
        name, *words = words
        if name not in command.commands:
            return f"no command {name}"
        command = command.commands[name]
    if not words and not is_whole:
        return ""
    try:
        command.make_context(name, words)
    except (TyperException, UsageError) as error:
        is_left_out = type(error).__name__ == "MissingParameter" and not is_whole
        return "" if is_left_out else str(error) or repr(error)
    except (typer.Exit, ShowtellError):  # --help; what is named is not there
        pass
    return ""
