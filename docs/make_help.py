"""Write docs/help.md from the command line's own help: python docs/make_help.py."""

import os
import subprocess
import sys
from pathlib import Path

COMMANDS = (
    (),
    ("demo",),
    ("data", "inspect"),
    ("features",),
    ("train",),
    ("evaluate",),
    ("score",),
    ("caption",),
)
PAGE = Path(__file__).with_name("help.md")


def help_page() -> str:
    """The help of every command, as Markdown."""
    parts = ["# Command reference\n\nMade by `python docs/make_help.py`; CI checks it.\n"]
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


if __name__ == "__main__":
    PAGE.write_text(help_page(), encoding="utf-8")
