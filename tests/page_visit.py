"""A visit of the server's page in Chromium, and what a person does there."""

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

PATIENCE = 120_000  # ms; a busy machine is slow

DROP = """([target, files]) => {
  const transfer = new DataTransfer();
  for (const [name, type, data] of files) {
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type, lastModified: 1 }));
  }
  const event = (kind) => target === "paste"
    ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true })
    : new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true });
  const kinds = target === "paste" ? ["paste"] : ["dragenter", "dragover", "drop"];
  for (const kind of kinds) document.querySelector("#intake").dispatchEvent(event(kind));
}"""
TYPES = {".jpg": "image/jpeg", ".png": "image/png", ".tif": "image/tiff", ".txt": "text/plain"}


class Visit:
    """The page, and shortcuts to its parts."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        self.asked: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def drop(self, *paths: Path, paste: bool = False) -> None:
        files = [
            (path.name, TYPES[path.suffix], base64.b64encode(path.read_bytes()).decode())
            for path in paths
        ]
        self.page.evaluate(DROP, ["paste" if paste else "drop", files])

    def drop_folders(self, *folders: Path) -> None:
        """As a file manager drops them, which a script of the page cannot do."""
        devtools = self.page.context.new_cdp_session(self.page)
        data = {"items": [], "files": [str(folder) for folder in folders], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            event = {"type": kind, "x": 300, "y": 200, "data": data}
            devtools.send("Input.dispatchDragEvent", event)
        devtools.detach()

    def card(self, name: str) -> Any:
        return self.page.get_by_role("listitem", name=name, exact=True)

    def caption(self, name: str) -> str:
        return " ".join(self.card(name).locator(".caption").inner_text().split())

    def wait_until_done(self, count: int) -> None:
        """Until so many pictures are on the page, each captioned or failed."""
        self.page.wait_for_function(
            """count => document.querySelectorAll(
              '.card[data-state="done"], .card[data-state="failed"]').length === count""",
            arg=count,
        )
        self.page.wait_for_function("() => !document.querySelector('[data-busy]')")

    def notice(self, text: str) -> None:
        """Wait for it."""
        self.page.get_by_role("group", name="Notice").get_by_text(text).wait_for()

    def remarks(self) -> list[str]:
        """Those that are not closed yet."""
        texts: list[str] = self.page.locator("#remarks p").all_inner_texts()
        return texts

    def edit(self, name: str, text: str) -> None:
        card = self.card(name)
        card.get_by_role("button", name=f"Edit: {name}", exact=True).click()
        card.get_by_role("textbox").fill(text)
        card.get_by_role("textbox").press("Enter")

    def violations(self) -> list[str]:
        """What axe-core finds, with every rule that it has on."""
        if not self.page.evaluate("'axe' in window"):
            script = files("axe_playwright_python").joinpath("axe.min.js")
            self.page.evaluate(script.read_text(encoding="utf-8"))
        found = self.page.evaluate("axe.run()")
        assert len(found["passes"]) > 15
        return [
            f"{rule['id']}: {node['html']}"
            for rule in found["violations"]
            for node in rule["nodes"]
        ]

    def asks_before_leaving(self) -> bool:
        """Whether something would be lost with the page."""
        asked: bool = self.page.evaluate(
            """() => !dispatchEvent(new Event("beforeunload", { cancelable: true }))"""
        )
        return asked

    def download(self, label: str, folder: Path) -> Path:
        with self.page.expect_download() as event:
            self.page.get_by_role("button", name=label).click()
        path = folder / event.value.suggested_filename
        event.value.save_as(path)
        return path

    def tab_to(self, selector: str, *, limit: int = 60) -> None:
        """Press Tab until an element has the focus."""
        for _ in range(limit):
            if self.page.evaluate("s => document.activeElement.matches(s)", selector):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not come to {selector}")


@contextmanager
def visit(browser: Any, url: str, *, script: str | None = None, **context: Any) -> Iterator[Visit]:
    """Open the page; afterwards, see that it had no error and asked nothing of others."""
    opened = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | context)
    if script:
        opened.add_init_script(script)
    visited = Visit(opened.new_page())
    visited.page.goto(url)
    visited.page.wait_for_selector("#model option[value]", state="attached")
    yield visited
    opened.close()
    assert visited.errors == []
    assert strangers(visited.asked, url) == []


def strangers(asked: Sequence[str], url: str) -> list[str]:
    own = (url, f"blob:{url}", "data:")
    return [one for one in asked if not one.startswith(own)]
