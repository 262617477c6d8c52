"""Flickr8k as published: ``Flickr8k.token.txt`` and ``Flickr_8k.trainImages.txt`` and its kin.

Flickr30k's ``results_20130124.token`` has the same form. Hodosh, Young and Hockenmaier 2013,
"Framing Image Description as a Ranking Task".
"""

import re
from pathlib import Path

from showtell.data.collect import Collector
from showtell.data.pictures import leaves_folder
from showtell.data.reading import lines_of, read_text
from showtell.data.records import Dataset, Split
from showtell.data.sources.base import Source, only_file, peek, picture_finder
from showtell.data.splits import split_of
from showtell.errors import DataError

PICTURE_FOLDERS = (
    *("images", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset"),
    *("Flickr8k_Dataset/Flicker8k_Dataset", "flickr30k-images", "flickr30k_images"),
)
_SPLIT_LIST = re.compile(r"(train|dev|val|test)images\.txt$", re.IGNORECASE)
_TOKEN_LINE = re.compile(r"^(?P<name>.+)#\d+\t(?P<caption>.*)$")


def matches(path: Path) -> bool:
    """A token file, or a folder with one (also in its ``Flickr8k_text``)."""
    if path.is_dir():
        return bool(_token_files(path))
    if ".token" not in path.name and path.suffix.lower() != ".txt":
        return False
    first = peek(path).partition("\n")[0].rstrip("\r")
    return _TOKEN_LINE.match(first) is not None


def load(path: Path, images: Path | None) -> Dataset:
    """Read a token file with the split lists beside it, or a folder that holds them.

    Raises:
        DataError: no token file, no caption in it, or no picture is found.
    """
    file = path
    if path.is_dir():
        file = only_file(_token_files(path), path, "token file such as Flickr8k.token.txt")
    text = read_text(file)
    folder = file.parent
    above = folder.resolve().parent if folder == Path() else folder.parent
    collector = Collector(
        str(path), "flickr8k", picture_finder(images, [folder, above], PICTURE_FOLDERS)
    )
    splits, listed_twice = _read_split_lists(folder)
    for name in listed_twice:
        collector.skip_picture(name, "in two split lists", "skipped, so that none leaks")
    _read_tokens(text, file, splits, collector)
    for name in splits:
        if not collector.known(name):
            place = None if leaves_folder(name) else collector.finder.find(name)
            collector.skip_uncaptioned(name, place, f"not in {file.name}")
    return collector.finish()


def _token_files(folder: Path) -> list[Path]:
    for place in (folder, folder / "Flickr8k_text"):
        files = [
            file
            for pattern in ("*.token.txt", "*.token")
            for file in sorted(place.glob(pattern))
            if ".lemma." not in file.name  # published beside it: the same, cut to word stems
        ]
        if files:
            return files
    return []


def _read_split_lists(folder: Path) -> tuple[dict[str, Split], list[str]]:
    """The split of each listed picture, and the pictures that stand in lists of two splits."""
    splits: dict[str, Split] = {}
    twice: dict[str, None] = {}
    for file in sorted(folder.iterdir()):
        match = _SPLIT_LIST.search(file.name)
        split = split_of(match[1]) if match else None
        if split is None:
            continue
        for line in lines_of(read_text(file)):
            name = line.strip()
            if name and splits.setdefault(name, split) != split:
                twice[name] = None
    for name in twice:
        del splits[name]
    return splits, list(twice)


def _read_tokens(text: str, file: Path, splits: dict[str, Split], collector: Collector) -> None:
    num_read = 0
    for number, line in enumerate(lines_of(text), 1):
        if not line.strip():
            continue
        match = _TOKEN_LINE.match(line)
        if match is None:
            collector.problem("bad line", f"{file.name}:{number}", "expected NAME#NUMBER<tab>TEXT")
            continue
        num_read += 1
        name = match["name"]
        if not collector.known(name):
            collector.add_picture(name, name, splits.get(name))
        draft = collector.draft(name)
        if draft is not None:
            collector.add_caption(draft, match["caption"], f"{file.name}:{number}")
    if not num_read:
        raise DataError(f"{file} has no line NAME.jpg#0<tab>CAPTION; is it a token file?")


SOURCE = Source(
    name="flickr8k",
    description="Flickr8k's token file with its split lists, or the folder that holds them",
    looks_for="Flickr8k.token.txt, or a text file of NAME.jpg#0<tab>CAPTION lines",
    matches=matches,
    load=load,
)
