"""Feature stores that are damaged, or that somebody made to do harm: one line, and soon."""

import json
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from fuzzing import CHANGES, MOST_SECONDS, changed, fuzzed
from hypothesis import given
from hypothesis import strategies as st

from showtell.encoders.store import FeatureStore, StoreSpec
from showtell.encoders.store_writer import StoreWriter
from showtell.errors import StoreError

D, GRID = 6, (4, 3)
SPEC = StoreSpec("tiny", "tiny-1", views=2, seed=5, pooled_size=D, grid_size=GRID)
DATA_FILES = ("pooled.f16", "grid.f16", "rows.jsonl")


def fill(path: Path, num: int = 6) -> None:
    with StoreWriter(path, SPEC) as writer:
        for n in range(num):
            writer.add(f"p{n}", 100 + n, 10**18 + n, 3)
        writer.append(np.ones((3 * num, D), np.float16), np.ones((3 * num, *GRID), np.float16))
        writer.add_failure("broken", 1, 1, "it is truncated")


def test_a_writer_follows_no_link(tmp_path: Path) -> None:
    """Cutting a data file to what the journal names would cut somebody's file."""
    fill(tmp_path / "store")
    for name in DATA_FILES:
        mine = tmp_path / f"mine-{name}"
        mine.write_bytes(b"precious" * 9999)
        (tmp_path / "store" / name).rename(tmp_path / name)
        (tmp_path / "store" / name).symlink_to(mine)
        with pytest.raises(StoreError, match="is a link"):
            StoreWriter(tmp_path / "store", SPEC)
        assert mine.read_bytes() == b"precious" * 9999
        (tmp_path / name).rename(tmp_path / "store" / name)


HOSTILE_SPECS = [
    ("pooled_size", -1),
    ("pooled_size", 10**400),
    ("pooled_size", 2**30),
    ("pooled_size", "6"),
    ("pooled_size", True),
    ("grid_size", [10**9, 10**9]),
    ("grid_size", [4]),
    ("grid_size", {"a": 1}),
    ("views", 10**9),
    ("fingerprint", None),
    ("encoder", ["x" * 99]),
    ("more", 1),
]


@pytest.mark.parametrize(("name", "value"), HOSTILE_SPECS)
def test_sizes_that_cannot_be_are_one_line(name: str, value: object, tmp_path: Path) -> None:
    fill(tmp_path)
    values = json.loads((tmp_path / "store.json").read_text()) | {name: value}
    (tmp_path / "store.json").write_text(json.dumps(values))
    for act in (FeatureStore.open, lambda path: StoreWriter(path, SPEC)):
        with pytest.raises(StoreError, match="delete") as caught:
            act(tmp_path)
        assert "\n" not in str(caught.value)


HOSTILE_LINES = [
    {"first": -1},
    {"first": 10**400},
    {"first": 2**47},
    {"first": 1.0},
    {"views": 0},
    {"views": 10**9},
    {"views": "3"},
    {"size": None},
    {"mtime_ns": []},
    {"id": 3},
    {"error": 4},
]


@pytest.mark.parametrize("change", HOSTILE_LINES)
def test_journals_with_hostile_numbers_are_one_line(change: dict, tmp_path: Path) -> None:
    fill(tmp_path)
    journal = tmp_path / "rows.jsonl"
    first, *rest = journal.read_text().splitlines()
    journal.write_text("\n".join([json.dumps(json.loads(first) | change), *rest, ""]))
    for act in (FeatureStore.open, lambda path: StoreWriter(path, SPEC)):
        with pytest.raises(StoreError, match="delete the store") as caught:
            act(tmp_path)
        assert "\n" not in str(caught.value)


@fuzzed
@given(name=st.sampled_from(["store.json", "rows.jsonl"]), changes=CHANGES)
def try_damaged(name: str, changes: list, place: Path) -> None:
    with TemporaryDirectory(dir=place) as folder:
        store = Path(folder) / "store"
        shutil.copytree(place / "good", store)
        (store / name).write_bytes(changed((store / name).read_bytes(), changes))
        start = time.monotonic()
        try:
            found = FeatureStore.open(store)
            rows = found.rows(list(found.image_ids))
            found.pooled(rows)
        except StoreError as error:
            assert "\n" not in str(error)
        try:
            with StoreWriter(store, SPEC) as writer:
                writer.add("new", 1, 1, 1)
                writer.append(np.ones((1, D), np.float16), np.ones((1, *GRID), np.float16))
        except StoreError as error:
            assert "\n" not in str(error)
        assert time.monotonic() - start < MOST_SECONDS


def test_damaged_and_hostile_stores(tmp_path: Path) -> None:
    fill(tmp_path / "good")
    try_damaged(place=tmp_path)
