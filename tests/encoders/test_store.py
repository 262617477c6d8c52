"""The feature store: what is written comes back, and nothing that stops a writer breaks it."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import prepared
import pytest

from showtell.encoders import store_writer
from showtell.encoders.store import FeatureStore, StoreSpec, read_journal, read_spec
from showtell.encoders.store_writer import StoreWriter
from showtell.errors import StoreError

D, GRID = 6, (4, 3)
SPEC = StoreSpec("tiny", "tiny-1", views=2, seed=5, pooled_size=D, grid_size=GRID)
DATA_FILES = ("pooled.f16", "grid.f16", "rows.jsonl")


def features_of(number: int, views: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(number)
    return (
        rng.normal(size=(views, D)).astype(np.float16),
        rng.normal(size=(views, *GRID)).astype(np.float16),
    )


def fill(path: Path, num: int = 20, *, flush_every: int = 3, spec: StoreSpec = SPEC) -> None:
    """Pictures p0 ...: every fifth is broken, every third has one view, the others three."""
    with StoreWriter(path, spec) as writer:
        for n in range(num):
            views = 1 if n % 3 == 0 else 3
            identity = (f"p{n}", 100 + n, 10**18 + n)
            if writer.is_current(*identity, views):
                continue
            if n % 5 == 4:
                writer.add_failure(*identity, f"picture {n} is truncated")
                continue
            writer.add(*identity, views)
            writer.append(*features_of(n, views))
            if n % flush_every == 0:
                writer.flush()


def check(path: Path, num: int = 20) -> None:
    store = FeatureStore.open(path, fingerprint="tiny-1", views=2, grid=True)
    good = [n for n in range(num) if n % 5 != 4]
    assert len(store) == len(good)
    assert list(store.image_ids) == [f"p{n}" for n in good]
    assert store.failures == {f"p{n}": f"picture {n} is truncated" for n in range(4, num, 5)}
    rows = store.rows([f"p{n}" for n in good])
    assert store.num_views(rows).tolist() == [1 if n % 3 == 0 else 3 for n in good]
    for row, n in zip(rows, good, strict=True):
        pooled, grid = features_of(n, int(store.num_views(row)))
        for view in range(len(pooled)):
            assert np.array_equal(store.pooled(row[None], view)[0], pooled[view])
            assert np.array_equal(store.grid(row[None], np.array([view]))[0], grid[view])


def contents(path: Path) -> dict[str, bytes]:
    return {name: (path / name).read_bytes() for name in (*DATA_FILES, "store.json")}


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    fill(tmp_path / "a" / "store")
    check(tmp_path / "a" / "store")


def test_gathering_keeps_order_and_repeats(tmp_path: Path) -> None:
    fill(tmp_path)
    store = FeatureStore.open(tmp_path)
    rows = store.rows(["p7", "p1", "p7"])
    pooled = store.pooled(rows, np.array([2, 0, 1]))
    assert (pooled.shape, pooled.dtype) == ((3, D), np.float16)
    assert np.array_equal(pooled[0], features_of(7, 3)[0][2])
    assert np.array_equal(pooled[1], features_of(1, 3)[0][0])
    assert np.array_equal(pooled[2], features_of(7, 3)[0][1])
    assert store.grid(rows).shape == (3, *GRID)
    with pytest.raises(AssertionError, match="no such view"):
        store.pooled(store.rows(["p0"]), 1)


def test_missing_pictures_are_named_with_what_to_do(tmp_path: Path) -> None:
    fill(tmp_path)
    store = FeatureStore.open(tmp_path)
    assert "p1" in store
    assert "p4" not in store
    with pytest.raises(StoreError, match=r"2 of 3 .* 'x1'; add them: showtell features"):
        store.rows(["p1", "x1", "x2"])
    with pytest.raises(StoreError, match=r"1 of 1 .* 'p4': picture 4 is truncated"):
        store.rows(["p4"])


def test_ids_are_any_strings(tmp_path: Path) -> None:
    ids = ["", "a b", "日本", 'quo"te', "new\nline", "\u2028", "\udcff", "p" * 5000]
    with StoreWriter(tmp_path, SPEC) as writer:
        for n, image_id in enumerate(ids):
            writer.add(image_id, 1, 1, 1)
            writer.append(*features_of(n, 1))
    store = FeatureStore.open(tmp_path)
    assert list(store.image_ids) == ids
    assert np.array_equal(store.pooled(store.rows(["\udcff"]))[0], features_of(6, 1)[0][0])


def test_a_changed_picture_replaces_its_features(tmp_path: Path) -> None:
    fill(tmp_path)
    with StoreWriter(tmp_path, SPEC) as writer:
        assert writer.is_current("p1", 101, 10**18 + 1, 3)
        assert writer.is_current("p1", 101, 10**18 + 1, 1)  # more views than are needed
        assert not writer.is_current("p0", 100, 10**18, 3)  # moved to the train split
        assert not writer.is_current("p1", 102, 10**18 + 1, 3)
        assert not writer.is_current("p1", 101, 10**18 + 2, 3)
        assert writer.is_current("p4", 104, 10**18 + 4, 3)  # known to be broken
        writer.add("p1", 102, 10**18 + 1, 3)
        writer.append(*features_of(99, 3))
        writer.add_failure("p2", 1, 1, "gone")
        writer.add("p4", 1, 1, 1)  # mended
        writer.append(*features_of(4, 1))
    store = FeatureStore.open(tmp_path)
    assert np.array_equal(store.pooled(store.rows(["p1"]), 2)[0], features_of(99, 3)[0][2])
    assert store.failures["p2"] == "gone"
    assert "p2" not in store
    assert "p4" in store
    assert "p4" not in store.failures


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"fingerprint": "tiny-2"}, r"made by \[tiny-1\], not by \[tiny-2\]; give another folder"),
        ({"views": 4}, "made with 2 random views a picture, not 4; give another folder"),
    ],
)
def test_a_store_made_otherwise_is_refused(
    asked: dict[str, object], reason: str, tmp_path: Path
) -> None:
    fill(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(StoreError, match=reason):
        FeatureStore.open(tmp_path, **asked)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match=reason):
        StoreWriter(tmp_path, replace(SPEC, **asked))  # type: ignore[arg-type]
    assert contents(tmp_path) == before


def test_mirrored_views_are_not_taken_for_plain_ones(tmp_path: Path) -> None:
    fill(tmp_path)
    with pytest.raises(StoreError, match="views that are mirrored, and the opposite"):
        StoreWriter(tmp_path, replace(SPEC, flips=False))
    assert read_spec(tmp_path) == SPEC


def test_without_random_views_flips_do_not_matter(tmp_path: Path) -> None:
    spec = replace(SPEC, views=0)
    fill(tmp_path, 1, spec=spec)
    StoreWriter(tmp_path, replace(spec, flips=False)).__exit__(None, None, None)


def test_a_store_without_grid_is_refused_where_grid_is_needed(tmp_path: Path) -> None:
    with StoreWriter(tmp_path, replace(SPEC, grid_size=None)) as writer:
        writer.add("p0", 1, 1, 1)
        writer.append(features_of(0, 1)[0], None)
    assert not (tmp_path / "grid.f16").exists()
    assert len(FeatureStore.open(tmp_path)) == 1
    with pytest.raises(StoreError, match="holds no grid features"):
        FeatureStore.open(tmp_path, grid=True)
    with pytest.raises(StoreError, match="holds no grid features"):
        StoreWriter(tmp_path, SPEC)


def test_a_store_with_grid_stays_one_when_only_pooled_is_asked(tmp_path: Path) -> None:
    fill(tmp_path)
    with StoreWriter(tmp_path, replace(SPEC, grid_size=None, seed=77)) as writer:
        assert writer.spec == SPEC


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no feature store at .*make it: showtell features"):
        FeatureStore.open(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    for act in (FeatureStore.open, lambda path: StoreWriter(path, SPEC)):
        with pytest.raises(StoreError, match="file"):
            act(tmp_path / "file")


def test_an_empty_store_opens(tmp_path: Path) -> None:
    StoreWriter(tmp_path, SPEC).__exit__(None, None, None)
    store = FeatureStore.open(tmp_path, grid=True)
    assert len(store) == 0
    assert store.pooled(store.rows([])).shape == (0, D)
    assert store.grid(store.rows([])).shape == (0, *GRID)


DAMAGE = {
    "store.json": lambda text: text[:20],
    "rows.jsonl": lambda text: text.replace(b'"first"', b'"f?', 1),
    "pooled.f16": lambda text: text[:-1],
    "grid.f16": lambda text: text[:-200],
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_one_line_with_what_to_do(name: str, tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / name).write_bytes(DAMAGE[name]((tmp_path / name).read_bytes()))
    for act in (FeatureStore.open, lambda path: StoreWriter(path, SPEC)):
        with pytest.raises(StoreError, match="delete the store") as caught:
            act(tmp_path)
        assert "\n" not in str(caught.value)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    values = json.loads((tmp_path / "store.json").read_text())
    (tmp_path / "store.json").write_text(json.dumps(values | {"format": 2}))
    with pytest.raises(StoreError, match="has format 2, this showtell reads 1"):
        FeatureStore.open(tmp_path)


def test_every_cut_of_the_journal_is_a_sound_store(tmp_path: Path) -> None:
    fill(tmp_path / "whole", 8)
    whole = contents(tmp_path / "whole")
    journal = whole["rows.jsonl"]
    cuts = range(0, len(journal), 7)
    assert len(cuts) > 60
    for cut in cuts:
        path = tmp_path / str(cut)
        path.mkdir()
        for name, content in whole.items():
            (path / name).write_bytes(journal[:cut] if name == "rows.jsonl" else content)
        assert len(read_journal(path).lines) == journal[:cut].count(b"\n")
        FeatureStore.open(path)
        fill(path, 8)
        assert contents(path) == whole


HERE = Path(__file__).parent
IMPORT_THIS = f"import sys; sys.path[:0] = {[str(HERE), str(HERE.parent)]}; import test_store"
KILLED = """
import os, signal
from showtell.encoders.store_writer import StoreWriter

write, sync = StoreWriter._write, StoreWriter._sync

def die_at(rest):
    global left
    left -= 1
    if left < 0:
        rest()
        os.kill(os.getpid(), signal.SIGKILL)

def dying_write(self, name, values):
    flat = values.reshape(-1)
    die_at(lambda: write(self, name, flat[: len(flat) // 2]))  # half of it reaches the disk
    write(self, name, values)

def dying_sync(self, name):
    die_at(lambda: None)
    sync(self, name)

StoreWriter._write, StoreWriter._sync = dying_write, dying_sync
test_store.fill(path)
"""


def run_killed(path: Path, after: int) -> int | None:
    code, names = f"{IMPORT_THIS}\n{KILLED}", {"path": path, "left": after}
    process = prepared.start(exec, code, names, output=path.with_name("output.txt"))
    process.join(60)
    return process.exitcode


def test_killed_anywhere_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    fill(tmp_path / "whole")
    whole = contents(tmp_path / "whole")
    points = random.Random(0).sample(range(60), 6)
    for point in points:
        path = tmp_path / str(point)
        assert run_killed(path, point) == -signal.SIGKILL
        FeatureStore.open(path)  # a reader may come before the next writer
        fill(path)
        check(path)
        assert contents(path) == whole


def test_killed_again_and_again_it_still_gets_there(tmp_path: Path) -> None:
    fill(tmp_path / "whole")
    path = tmp_path / "store"
    for attempt in range(20):
        if run_killed(path, 12 + attempt) == 0:
            break
    else:
        pytest.fail("it never ended")
    assert attempt > 1
    assert contents(path) == contents(tmp_path / "whole")


def test_a_second_writer_is_refused_and_a_dead_ones_lock_is_not(tmp_path: Path) -> None:
    with (
        StoreWriter(tmp_path, SPEC) as writer,
        pytest.raises(StoreError, match="another process is writing"),
    ):
        StoreWriter(tmp_path, SPEC)
    writer = StoreWriter(tmp_path, SPEC)  # the refused one let go of what it had opened
    writer.__exit__(None, None, None)
    hold = (
        f"{IMPORT_THIS} as t; import time, pathlib\n"
        "w = t.StoreWriter(pathlib.Path(sys.argv[1]), t.SPEC); print('held', flush=True)\n"
        "time.sleep(60)"
    )
    command = [sys.executable, "-c", hold, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(StoreError, match="another process is writing"):
            StoreWriter(tmp_path, SPEC)
        process.kill()
    fill(tmp_path)
    check(tmp_path)


FULL = """
import resource
from pathlib import Path
from showtell.errors import StoreError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    test_store.fill(Path(sys.argv[1]))
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [100, 300, 700])
def test_a_full_disk_is_one_line_and_what_was_saved_stays(limit: int, tmp_path: Path) -> None:
    """The system's limit on a file's size stands in for the disk's end."""
    fill(tmp_path / "whole")
    path = tmp_path / "store"
    path.mkdir()
    (path / "store.json").write_bytes((tmp_path / "whole" / "store.json").read_bytes())
    command = [sys.executable, "-c", f"{IMPORT_THIS}\n{FULL}", str(path), str(limit)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True)
    assert not shown.stderr
    assert shown.stdout.count("\n") == 1
    assert f"cannot write the feature store {path}: File too large" in shown.stdout
    saved = len(FeatureStore.open(path))
    assert (saved > 0) == ("pictures so far are kept" in shown.stdout)
    fill(path)
    assert contents(path) == contents(tmp_path / "whole")


@pytest.mark.parametrize("name", ["pooled.f16", "grid.f16", "rows.jsonl"])
def test_no_space_left(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(store_writer.FileIO):
        def write(self, data: object) -> int:
            raise OSError(28, os.strerror(28))

    def open_file(path: Path, mode: str) -> store_writer.FileIO:
        return (Full if path.name == name else real)(path, mode)

    real = store_writer.FileIO
    monkeypatch.setattr(store_writer, "FileIO", open_file)
    with pytest.raises(StoreError, match=r"No space left on device; solve that, then run"):
        fill(tmp_path)
    assert len(FeatureStore.open(tmp_path)) == 0
    monkeypatch.setattr(store_writer, "FileIO", real)
    fill(tmp_path)
    check(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="Permission denied"):
        StoreWriter(tmp_path / "store", SPEC)


def test_123_000_pictures_open_at_once(tmp_path: Path) -> None:
    num, spec = 123_000, replace(SPEC, grid_size=None, views=1)
    with StoreWriter(tmp_path, spec) as writer:
        for n in range(num):
            writer.add(f"COCO_train2014_{n:012d}", 163_000 + n, 1_700_000_000_000_000_000 + n, 2)
        writer.append(np.zeros((2 * num, D), np.float16), None)
    start = time.perf_counter()
    store = FeatureStore.open(tmp_path, fingerprint="tiny-1")
    assert len(store) == num
    rows = store.rows([f"COCO_train2014_{n:012d}" for n in range(0, num, 7)])
    assert store.pooled(rows, 1).shape == (len(rows), D)
    assert time.perf_counter() - start < 5  # a busy machine; it takes about half a second
