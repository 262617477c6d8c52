"""Reads an HTML page strictly enough for tests: what it shows, and whether its tags are closed."""

import base64
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "link", "img", "source", "br", "input"}


@dataclass
class Page:
    """What was found in a page."""

    text: str = ""
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    headings: list[tuple[str, str]] = field(default_factory=list)
    sections: list[str] = field(default_factory=list)
    images: list[dict[str, str]] = field(default_factory=list)
    dark: list[str] = field(default_factory=list)
    num_tables: int = 0
    num_captions: int = 0

    @property
    def words(self) -> str:
        """The text with single spaces."""
        return " ".join(self.text.split())

    def pngs(self) -> set[bytes]:
        """The embedded PNG pictures for light pages."""
        start = "data:image/png;base64,"
        return {
            base64.b64decode(image["src"].removeprefix(start))
            for image in self.images
            if image["src"].startswith(start)
        }


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.page.attributes += [(tag, name, value) for name, value in values.items()]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.page.images.append(values)
        elif tag == "source":
            self.page.dark.append(values["srcset"])
        elif tag == "h2":
            self.page.sections.append(values["id"])
        elif tag == "table":
            self.page.num_tables += 1
        elif tag == "caption":
            self.page.num_captions += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title", "script"):
            self.page.text += f" {data}"
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.page.headings.append((self.open[-1], data))


def parse_page(path: Path) -> Page:
    """Parse ``path``; an unclosed or wrongly nested tag fails."""
    parser = _Parser()
    parser.feed(path.read_text(encoding="utf-8"))
    parser.close()
    assert not parser.open
    return parser.page
