"""A large data set comes from the cache, unless something that was looked at has changed."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fuzzing import CHANGES, MOST_SECONDS, changed, fuzzed
from hypothesis import given

from showtell.data import cache as dataset_cache
from showtell.data.records import Dataset
from showtell.data.sources import SOURCES, coco, karpathy, load_dataset

LONG_AGO = 1_600_000_000


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHOWTELL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(dataset_cache, "WORTH_IT", 1)
    return tmp_path / "cache" / "datasets"


def write_coco(folder: Path) -> Path:
    (folder / "annotations").mkdir(parents=True)
    (folder / "train2014").mkdir()
    file = folder / "annotations" / "captions_train2014.json"
    images = [{"id": n, "file_name": f"{n}.jpg"} for n in range(5)]  # the last is not there
    annotations = [{"image_id": n, "caption": f"a dog, {n} é\n"} for n in (0, 0, 1, 2, 9)]
    file.write_text(json.dumps({"images": images, "annotations": annotations}))
    for n in range(4):
        (folder / "train2014" / f"{n}.jpg").touch()
    settle(folder)
    return file


def write_karpathy(folder: Path) -> Path:
    (folder / "images").mkdir(parents=True)
    file = folder / "dataset_x.json"
    sentences = [{"raw": "a dog"}, {"raw": "a cat"}]
    images = [{"filename": f"{n}.jpg", "split": "train", "sentences": sentences} for n in range(4)]
    file.write_text(json.dumps({"images": images}))
    for n in range(4):
        (folder / "images" / f"{n}.jpg").touch()
    settle(folder)
    return file


def settle(folder: Path) -> None:
    """Let all be old enough to be kept."""
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (LONG_AGO, LONG_AGO))


def loads(monkeypatch: pytest.MonkeyPatch, name: str) -> list[Path]:
    """What is read by the source and not from the cache."""
    seen: list[Path] = []
    source = SOURCES[name]

    def load(path: Path, images: Path | None) -> Dataset:
        seen.append(path)
        return source.load(path, images)

    monkeypatch.setitem(SOURCES, name, replace(source, load=load))
    return seen


SOURCES_THAT_NOTE = {"coco": (coco, write_coco), "karpathy": (karpathy, write_karpathy)}


def test_these_sources_are_kept() -> None:
    assert {name for name, source in SOURCES.items() if source.notes_inputs} == {*SOURCES_THAT_NOTE}


@pytest.mark.parametrize("name", SOURCES_THAT_NOTE)
@pytest.mark.parametrize("as_folder", [False, True])
def test_the_second_time_is_from_the_cache(
    name: str, as_folder: bool, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = SOURCES_THAT_NOTE[name][1](tmp_path / "data")
    seen = loads(monkeypatch, name)
    path = tmp_path / "data" if as_folder else file
    first = load_dataset(path)
    assert load_dataset(path) == first
    assert len(seen) == 1 and len(list(cache.iterdir())) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.write_text(file.read_text().replace("dog", "cat")),
        lambda file: (file.parent.parent / "train2014" / "1.jpg").unlink(),
        lambda file: (file.parent / "captions_val2014.json").write_text(file.read_text()),
        lambda file: (file.parent.parent / "val2014").mkdir(),
    ],
    ids=["captions", "picture", "further file", "folder"],
)
def test_a_change_is_seen(
    change: Callable[[Path], object], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_coco(tmp_path / "data")
    seen = loads(monkeypatch, "coco")
    load_dataset(file.parent.parent)
    change(file)
    fresh = load_dataset(file.parent.parent)
    assert len(seen) == 2
    monkeypatch.setenv("SHOWTELL_CACHE", str(tmp_path / "other"))
    assert load_dataset(file.parent.parent) == fresh


def test_what_changed_just_now_is_not_kept(cache: Path, tmp_path: Path) -> None:
    file = write_coco(tmp_path / "data")
    file.touch()
    load_dataset(file)
    assert not cache.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"inputs": {}}', '{"inputs": {"/none": [1]}}'])
def test_a_damaged_file_is_read_past(text: str, cache: Path, tmp_path: Path) -> None:
    file = write_coco(tmp_path / "data")
    first = load_dataset(file)
    [kept] = cache.iterdir()
    kept.write_text(text)
    assert load_dataset(file) == first
    assert json.loads(kept.read_text())["ids"] == ["0", "1", "2"]


@pytest.mark.parametrize(
    "change",
    [
        {"num_captions": [10**30, 1, 1]},
        {"num_captions": [-1, 3, 2]},
        {"num_captions": [1, 1, 1]},
        {"styles": {"0": ["short"]}},
        {"styles": {"0": "ab"}},
        {"splits": ["train", "train", "secret"]},
        {"ids": ["0", "1", 2]},
        {"ids": "012"},
        {"paths": ["\ud800", "/a", "/b"]},
        {"captions": ["a dog", 4, None, ["x"]]},
        {"problems": [["a", "b", "c", "d"]]},
        {"notes": 7},
        {"name": ["x"]},
    ],
)
def test_a_file_with_values_that_cannot_be_is_read_past(
    change: dict[str, object], cache: Path, tmp_path: Path
) -> None:
    file = write_coco(tmp_path / "data")
    first = load_dataset(file)
    [kept] = cache.iterdir()
    value = json.loads(kept.read_text())
    kept.write_text(json.dumps(value | change))
    assert load_dataset(file) == first
    assert json.loads(kept.read_text()) == value
    kept.write_text("[" * 100_000)
    assert load_dataset(file) == first


@fuzzed
@given(changes=CHANGES)
def try_damaged(kept: Path, content: bytes, changes: list, good: Dataset, file: Path) -> None:
    kept.write_bytes(changed(content, changes))
    start = time.monotonic()
    found = load_dataset(file)
    assert time.monotonic() - start < MOST_SECONDS
    assert len(found.records) == len(good.records)
    assert all(record.captions and record.split for record in found.records)


def test_damaged_caches(cache: Path, tmp_path: Path) -> None:
    file = write_coco(tmp_path / "data")
    good = load_dataset(file)
    [kept] = cache.iterdir()
    try_damaged(kept=kept, content=kept.read_bytes(), good=good, file=file)


def test_a_cache_that_cannot_be_written_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").touch()
    monkeypatch.setenv("SHOWTELL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(dataset_cache, "WORTH_IT", 1)
    assert len(load_dataset(write_coco(tmp_path / "data")).records) == 3
