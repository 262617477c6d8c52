"""A format of data: a text file of ``PICTURE: CAPTION`` lines beside the pictures."""

from pathlib import Path

from showtell import register_source
from showtell.data.collect import Collector
from showtell.data.records import Dataset
from showtell.data.sources.base import Source, picture_finder


def matches(path: Path) -> bool:
    """Whether ``path`` looks like this format; called for every path, so it must be quick."""
    return path.suffix == ".captions"


def load(path: Path, images: Path | None) -> Dataset:
    """Read it; what cannot be used is listed as a problem, and the rest is read."""
    finder = picture_finder(images, bases=[path.parent], subfolders=["images"])
    collector = Collector(str(path), "captions", finder, own_paths=True)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        name, colon, caption = line.partition(": ")
        if not colon:
            collector.problem("bad line", f"{path.name}:{number}", "expected PICTURE: CAPTION")
            continue
        if not collector.known(name):
            collector.add_picture(name, name, None)
        if (draft := collector.draft(name)) is not None:
            collector.add_caption(draft, caption, f"{path.name}:{number}")
    return collector.finish()


SOURCE = register_source(
    Source(
        name="captions",
        description="a text file of PICTURE: CAPTION lines",
        looks_for="a file that ends in .captions",
        matches=matches,
        load=load,
    )
)
