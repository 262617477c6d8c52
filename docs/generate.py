"""Write what the docs take from the program.

That is docs/help.md, docs/settings.md, docs/files.md and the import diagram of
docs/architecture.md. Run `python docs/generate.py`; a test checks that they are up to date.
"""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from showtell.cli import app
from showtell.config import Config
from showtell.config.section import sections_in

ROOT = Path(__file__).resolve().parents[1]
HELP, SETTINGS = ROOT / "docs" / "help.md", ROOT / "docs" / "settings.md"
ARCHITECTURE, FILES = ROOT / "docs" / "architecture.md", ROOT / "docs" / "files.md"
SOURCES = ROOT / "src" / "showtell"
LAYERS_START = "<!-- import layers: made by docs/generate.py -->\n"
LAYERS_END = "<!-- end of import layers -->"


def commands() -> list[tuple[str, ...]]:
    """The words of every command: of ``showtell`` itself (none), then ``("demo",)`` and so on."""

    def within(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield words
        for name, part in getattr(command, "commands", {}).items():
            yield from within(part, (*words, name))

    return list(within(typer.main.get_command(app), ()))


def help_page() -> str:
    """The help of every command, as Markdown."""
    parts = ["# Command reference\n\nMade by `python docs/generate.py`; a test checks it.\n"]
    environment = os.environ | {"COLUMNS": "96", "NO_COLOR": "1"}
    for command in commands():
        text = subprocess.run(
            [sys.executable, "-m", "showtell", *command, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        ).stdout
        title = " ".join(("showtell", *command))
        body = "\n".join(line.rstrip() for line in text.strip().splitlines())
        parts.append(f"## {title}\n\n```\n{body}\n```\n")
    return "\n".join(parts)


def files_page() -> str:
    """Every module with the first sentence of its docstring, as an indented list."""
    lines = [FILES_LEAD, "```", "src/showtell/"]
    modules = [path for path in SOURCES.rglob("*.py") if _first_sentence(path)]
    names = {path: _name(path) for path in modules}
    width = max(map(len, names.values())) + 2
    for path in sorted(modules, key=lambda path: (path.parent != SOURCES, str(path))):
        lines.append(f"  {names[path]:<{width}}{_first_sentence(path)}")
    return "\n".join([*lines, "```"]) + "\n"


FILES_LEAD = """# What is in each file

Made by `python docs/generate.py` from the first sentence of each module; a test checks it.
[Architecture](architecture.md) says how the parts work together and where to look first.
"""


def architecture() -> str:
    """docs/architecture.md with the layers of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    [contract] = [one for one in contracts if one["type"] == "layers"]
    layers = "\n".join(contract["layers"]).replace("showtell.", "")
    page = ARCHITECTURE.read_text(encoding="utf-8")
    return _between(page, LAYERS_START, f"```\n{layers}\n```\n", LAYERS_END)


def settings_page() -> str:
    """Every setting of a run, section by section, as Markdown."""
    parts = [SETTINGS_LEAD]
    for name, field in Config.model_fields.items():
        sections = list(sections_in(field.annotation))
        if not sections:
            parts.append(f"## {name}\n\n{_table('', {name: field})}")
        elif len(sections) == 1:
            parts.append(f"## {name}\n\n{_section(name, sections[0])}")
        else:
            usual = field.default.kind
            parts.append(f"## {name}\n\nEach kind has its own settings; the default is {usual}.\n")
            for section in sections:
                kind = section.model_fields["kind"].default
                parts.append(f"### {name}.kind = {kind}\n\n{_section(name, section)}")
    return "\n".join(parts)


SETTINGS_LEAD = """# Settings

Made by `python docs/generate.py` from `src/showtell/config`; a test checks it.

A run's settings come from a TOML file (`showtell train -c FILE`, a section a `[table]`) or a
[preset](training.md#presets) (`-c NAME`), and from `-s section.name=value`, which wins. A run's
folder keeps its own as `config.toml`. Those of `decoding` are also options of every command that
makes captions.
"""


def _section(name: str, section: type[BaseModel]) -> str:
    lead = " ".join((section.__doc__ or "").split())
    return f"{_plain(lead)}\n\n{_table(f'{name}.', section.model_fields)}"


def _table(prefix: str, fields: dict[str, FieldInfo]) -> str:
    rows = ["| setting | default | values | what it is |", "|---|---|---|---|"]
    for name, field in fields.items():
        assert field.description, f"{prefix}{name} has no description"
        default = f"`{_shown(field.default)}`" if field.default is not None else "none"
        cells = (f"`{prefix}{name}`", default, _values(field), _plain(field.description))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _values(field: FieldInfo) -> str:
    """What may be given: ``whole number, at least 1``."""
    annotation = field.annotation
    options = [one for one in get_args(annotation) if one is not type(None)]
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{one}`" for one in options)
    is_list = get_origin(annotation) is tuple
    kinds = options[:1] if is_list else options or [annotation]
    text = " or ".join(KINDS[kind.__name__] for kind in kinds)
    bounds = [
        f"{sign} {_shown(getattr(rule, name))}"
        for rule in field.metadata
        for name, sign in SIGNS.items()
        if getattr(rule, name, None) is not None
    ]
    return _plain(", ".join(["list of texts" if is_list else text, *bounds]))


KINDS = {
    "bool": "`true`, `false`",
    "int": "whole number",
    "float": "number",
    "str": "text",
    "Path": "path",
}
SIGNS = {
    "ge": "at least",
    "gt": "above",
    "le": "at most",
    "lt": "below",
    "multiple_of": "a multiple of",
    "max_length": "at most",
}


def _shown(value: Any) -> str:
    """As TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _plain(text: str) -> str:
    """Text that is no Markdown."""
    return re.sub(r"([<*|])", r"\\\1", text.replace("``", "`"))


def _between(page: str, start: str, text: str, end: str) -> str:
    """The page with what stands between two marks replaced."""
    head, _, rest = page.partition(start)
    _, _, tail = rest.partition(end)
    return f"{head}{start}{text}{end}{tail}"


def _name(path: Path) -> str:
    relative = path.relative_to(SOURCES)
    return str(relative.parent) + "/" if path.name == "__init__.py" else str(relative)


def _first_sentence(path: Path) -> str:
    """Up to the first full stop or blank line; empty where there is no docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    sentence = " ".join(docstring.split("\n\n")[0].split()).replace("``", "")
    # Not after "et al.", an ellipsis or an initial.
    return re.split(r"(?<! al)(?<!\.)(?<!\b[A-Z])\. ", sentence)[0].rstrip(".")


if __name__ == "__main__":
    HELP.write_text(help_page(), encoding="utf-8")
    SETTINGS.write_text(settings_page(), encoding="utf-8")
    FILES.write_text(files_page(), encoding="utf-8")
    ARCHITECTURE.write_text(architecture(), encoding="utf-8")
