"""Write what the docs take from the program: docs/help.md and README.md's file map.

python docs/generate.py; a test checks that they are up to date.
"""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

COMMANDS = (
    (),
    ("demo",),
    ("data", "inspect"),
    ("features",),
    ("train",),
    ("report",),
    ("average",),
    ("pack",),
    ("publish",),
    ("evaluate",),
    ("reliability",),
    ("score",),
    ("caption",),
    ("serve",),
    ("sheet",),
    ("models",),
)
ROOT = Path(__file__).resolve().parents[1]
HELP, README = ROOT / "docs" / "help.md", ROOT / "README.md"
SOURCES = ROOT / "src" / "showtell"
MAP_START, MAP_END = "<!-- file map: made by docs/generate.py -->\n", "<!-- end of file map -->"


def help_page() -> str:
    """The help of every command, as Markdown."""
    parts = ["# Command reference\n\nMade by `python docs/generate.py`; a test checks it.\n"]
    environment = os.environ | {"COLUMNS": "96", "NO_COLOR": "1"}
    for command in COMMANDS:
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


def file_map() -> str:
    """Every module with the first sentence of its docstring, as an indented list."""
    lines = ["```", "src/showtell/"]
    modules = [path for path in SOURCES.rglob("*.py") if _first_sentence(path)]
    names = {path: _name(path) for path in modules}
    width = max(map(len, names.values())) + 2
    for path in sorted(modules, key=lambda path: (path.parent != SOURCES, str(path))):
        lines.append(f"  {names[path]:<{width}}{_first_sentence(path)}")
    return "\n".join([*lines, "```"]) + "\n"


def readme() -> str:
    """README.md with the file map of now."""
    text = README.read_text(encoding="utf-8")
    head, _, rest = text.partition(MAP_START)
    _, _, tail = rest.partition(MAP_END)
    return f"{head}{MAP_START}{file_map()}{MAP_END}{tail}"


def _name(path: Path) -> str:
    relative = path.relative_to(SOURCES)
    return str(relative.parent) + "/" if path.name == "__init__.py" else str(relative)


def _first_sentence(path: Path) -> str:
    """Up to the first full stop or blank line; empty where there is no docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    sentence = " ".join(docstring.split("\n\n")[0].split()).replace("``", "")
    # Not after "et al." or an ellipsis.
    return re.split(r"(?<! al)(?<!\.)\. ", sentence)[0].rstrip(".")


if __name__ == "__main__":
    HELP.write_text(help_page(), encoding="utf-8")
    README.write_text(readme(), encoding="utf-8")
