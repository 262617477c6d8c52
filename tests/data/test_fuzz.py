"""Damaged and hostile data files: one clear line, soon, in little memory, and nothing else touched.

``SHOWTELL_FUZZ=1000 pytest tests/data/test_fuzz.py`` tries 1,000 files that are new each time.
"""

import json
import os
import resource
import time
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import pytest
from fuzzing import CHANGES, MOST_BYTES, MOST_SECONDS, changed, fuzzed, tree
from hypothesis import given
from hypothesis import strategies as st
from tiny_archives import jpeg, write_parquet, write_tar

from showtell.data.sources import SOURCES, load_dataset
from showtell.errors import ShowtellError

NAMES = ("a.jpg", "b.jpg", "c")
ROWS = [
    {"path": name, "captions": ["A dog, running", 'A "dog"'], "split": "train"} for name in NAMES
]
IMAGES = [{"id": number, "file_name": name} for number, name in enumerate(NAMES)]
ANNOTATIONS = [{"image_id": number % 3, "caption": "A dog"} for number in range(4)]
SENTENCES = [{"filename": name, "sentences": [{"raw": "A dog"}]} for name in NAMES]
TEXTCAPS = [{"image_id": "a", "image_path": "train/a.jpg", "caption_str": "A dog"}]
JSON_VALUES: dict[str, Any] = {
    "list.json": ROWS,
    "by_picture.json": {name: ["A dog"] for name in NAMES},
    "meta_cap.json": {name: {"caption": "A dog", "tags": "x"} for name in NAMES},
    "captions_val2017.json": {"images": IMAGES, "annotations": ANNOTATIONS},
    "dataset_x.json": {"images": SENTENCES},
    "textcaps.json": {"data": TEXTCAPS},
}


@cache
def seeds() -> dict[str, bytes]:
    """A good file of each format by its name."""
    files = {name: json.dumps(value, indent=1).encode() for name, value in JSON_VALUES.items()}
    files["c.jsonl"] = "\n".join(json.dumps(row) for row in ROWS).encode()
    files["c.csv"] = b'image,caption,split\na.jpg,A dog,train\nb.jpg,"A ""dog"", running",val\n'
    files["c.tsv"] = b'image_id\tpath\tcaption\n1\ta.jpg\t"A dog" runs\n1\ta.jpg\tA dog\n'
    files["Flickr8k.token.txt"] = b"a.jpg#0\tA dog\na.jpg#1\tA pup\nb.jpg#0\tA cat\n"
    files["a.txt"] = "A dog\nEin Hündchen\n".encode()
    files["b.jpg.caption"] = "A dog".encode("utf-16")
    members = [("a.jpg", jpeg(1)), ("a.txt", b"A dog"), ("b.jpg", jpeg(2))]
    members.append(("b.json", b'{"text": "A cat"}'))
    with TemporaryDirectory() as folder:
        files["t.tar"] = write_tar(Path(folder) / "t.tar", members).read_bytes()
        files["t.tgz"] = write_tar(Path(folder) / "t.tgz", members, "w:gz").read_bytes()
        files["t.tar.xz"] = write_tar(Path(folder) / "t.tar.xz", members, "w:xz").read_bytes()
        rows = [{"image": {"bytes": jpeg(n), "path": "a.jpg"}, "text": "A dog"} for n in range(3)]
        files["t.parquet"] = write_parquet(Path(folder) / "t.parquet", rows).read_bytes()
    return files


KEYS = st.sampled_from(
    (
        *("path", "image", "file_name", "filename", "captions", "caption", "text", "sentences"),
        *("raw", "tokens", "split", "id", "image_id", "cocoid", "images", "annotations", "data"),
        *("image_path", "caption_str", "a.jpg", "b.jpg", "c", "set_name", "is_rejected"),
    )
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=9),
    st.sampled_from([*NAMES, "A dog", "train", "../x.jpg", "\0", "\ud800", 10**400]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=5)
    ),
    max_leaves=20,
)


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file's name and content: a changed good file, or JSON of any shape."""
    name = draw(st.sampled_from(sorted(seeds())))
    if name in JSON_VALUES and draw(st.booleans()):
        value = draw(VALUES)
        top = draw(st.sampled_from(["any", "images", "annotations", "data"]))
        if top != "any":
            value = JSON_VALUES["captions_val2017.json"] | {top: value}
        return name, json.dumps(value).encode()
    return name, changed(seeds()[name], draw(CHANGES))


@fuzzed
@given(
    file=files(),
    format=st.sampled_from([None, None, None, *(name for name in SOURCES if name != "scenes")]),
    as_folder=st.booleans(),
)
def try_one(file: tuple[str, bytes], format: str | None, as_folder: bool) -> None:
    name, content = file
    with TemporaryDirectory() as place:
        root = Path(place)
        data = root / "work" / "data"
        data.mkdir(parents=True)
        for number, picture in enumerate(("a.jpg", "b.jpg", "c.png", "../x.jpg")):
            (data / picture).write_bytes(jpeg(number))
        (data / name).write_bytes(content)
        before = tree(root)
        start = time.monotonic()
        with mock.patch.dict(os.environ, SHOWTELL_CACHE=str(root / "cache")):
            try:
                is_beside = name in ("a.txt", "b.jpg.caption")
                given = data if as_folder or is_beside else data / name
                dataset = load_dataset(given, format=format)
            except ShowtellError as error:
                assert str(error) and "\n" not in str(error)
            else:
                for record in dataset.records:
                    assert record.captions and record.path.is_file()
                    record.image_id.encode()
        assert time.monotonic() - start < MOST_SECONDS
        after = tree(root)
        cached = {path for path in after if Path(path).is_relative_to(root / "cache")}
        assert {path: after[path] for path in after if path not in cached} == before
        assert all(Path(path).parts[-1][0] != "." for path in cached)


@pytest.mark.slow
def test_damaged_and_hostile_data_files() -> None:
    pytest.importorskip("pyarrow")
    seeds()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try_one()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) * 1024 < MOST_BYTES
