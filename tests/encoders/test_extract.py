"""Many pictures into a store: the same store however the work was cut up."""

import json
import os
import signal
import time
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import prepared
import pytest
import torch
from PIL import Image
from tiny_encoder import tiny_encoder
from tiny_run import Notes

from showtell.core.device import Runtime
from showtell.core.prefetch import num_workers
from showtell.data.records import Dataset, Record
from showtell.encoders import extract
from showtell.encoders.encoder import Encoder, build_encoder
from showtell.encoders.extract import (
    ExtractionReport,
    Progress,
    WantedFeatures,
    encode_pixels,
    extract_features,
    features_for,
)
from showtell.encoders.store import FeatureStore, read_spec
from showtell.encoders.store_writer import StoreWriter
from showtell.errors import ImageError, MissingFormatError, StoreError, UnavailableError
from showtell.images import views
from showtell.images.open import open_image
from showtell.images.views import view_generator

FP32 = Runtime("cpu", "fp32", 1, "", "")
FILES = ("pooled.f16", "grid.f16", "rows.jsonl", "store.json")


def make_records(folder: Path, num: int = 30) -> list[Record]:
    """Pictures of several sizes; the eighth is cut short, the ninth is not there."""
    folder.mkdir(exist_ok=True)
    for n in range(num):
        rng = np.random.default_rng(n)
        small = rng.integers(0, 256, (6, 5 + n % 4, 3), dtype=np.uint8)
        path = folder / f"{n}.png"
        Image.fromarray(small).resize((50 + n, 60), Image.Resampling.BICUBIC).save(path)
        if n == 7:
            path.write_bytes(path.read_bytes()[:500])
        if n == 8:
            path.unlink()
    return listed(folder, num)


def listed(folder: Path, num: int = 30) -> list[Record]:
    return [
        Record(f"p{n}", folder / f"{n}.png", ("a thing",), "train" if n % 3 else "val")
        for n in range(num)
    ]


def run(records: list[Record], path: Path, **changes: object) -> ExtractionReport:
    """Extract with the changes, which are fields of ``WantedFeatures`` or arguments."""
    settings = {"encoder": tiny_encoder(), "runtime": FP32, "batch_size": 8} | changes
    own = {field.name for field in fields(WantedFeatures)} & settings.keys()
    wanted = replace(
        WantedFeatures(views=2, grid=True, seed=1),
        **{name: settings.pop(name) for name in own},  # type: ignore[arg-type]
    )
    return extract_features(records, path=path, wanted=wanted, **settings)  # type: ignore[arg-type]


def contents(path: Path) -> dict[str, bytes]:
    return {name: (path / name).read_bytes() for name in FILES if (path / name).exists()}


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    return make_records(tmp_path / "pictures")


def test_the_store_has_what_the_encoder_sees(records: list[Record], tmp_path: Path) -> None:
    encoder = tiny_encoder()
    seen: list[Progress] = []
    report = run(records, tmp_path / "store", encoder=encoder, progress=seen.append)
    assert (report.num_encoded, report.num_kept) == (28, 0)
    assert report.num_views == sum(1 if r.split == "val" else 3 for r in records) - 2 * 3
    assert set(report.failures) == {"p7", "p8"}
    assert "truncated" in report.failures["p7"]
    assert report.failures["p8"].endswith("8.png: no such file")
    assert (seen[-1].done, seen[-1].total, seen[-1].num_failed) == (30, 30, 2)
    assert seen[-1].images_per_second > 0
    assert [p.done for p in seen] == sorted(p.done for p in seen)

    store = FeatureStore.open(
        tmp_path / "store", fingerprint=encoder.fingerprint, views=2, grid=True
    )
    assert store.failures == report.failures
    good = [record for record in records if record.image_id not in store.failures]
    rows = store.rows([record.image_id for record in good])
    assert store.num_views(rows).tolist() == [1 if r.split == "val" else 3 for r in good]
    images = [open_image(record.path) for record in good]
    views = np.stack([encoder.preprocessing.eval_view(image) for image in images])
    exact = encode_pixels(views, encoder, FP32, grid=True)
    assert exact.regions is not None
    assert np.allclose(store.pooled(rows), exact.pooled.numpy(), atol=2e-3)
    assert np.allclose(store.grid(rows), exact.regions.numpy(), atol=2e-3)
    n = [record.image_id for record in good].index("p10")
    view = encoder.preprocessing.random_view(images[n], view_generator(1, "p10", 2))
    looked = encoder(torch.from_numpy(view.copy())[None])
    assert np.allclose(store.pooled(rows[n : n + 1], 2), looked.pooled.numpy(), atol=2e-3)


def test_without_flips_no_view_is_mirrored(records: list[Record], tmp_path: Path) -> None:
    encoder = tiny_encoder()
    run(records, tmp_path / "store", encoder=encoder, flips=False)
    store = FeatureStore.open(tmp_path / "store")
    assert not store.spec.flips
    good = [r for r in records if r.split == "train" and r.image_id not in store.failures]
    rows = store.rows([record.image_id for record in good])
    cuts = [
        encoder.preprocessing.random_view(
            open_image(record.path), view_generator(1, record.image_id, 1), flip=False
        )
        for record in good
    ]
    looked = encoder(torch.from_numpy(np.stack(cuts)))
    assert np.allclose(store.pooled(rows, 1), looked.pooled.numpy(), atol=2e-3)


def test_the_same_again_does_nothing(records: list[Record], tmp_path: Path) -> None:
    run(records, tmp_path / "store")
    before = contents(tmp_path / "store")
    report = run(records, tmp_path / "store")
    assert (report.num_encoded, report.num_views, report.num_kept) == (0, 0, 30)
    assert set(report.failures) == {"p7", "p8"}
    assert contents(tmp_path / "store") == before


def test_a_whole_store_is_used_while_another_process_writes_it(
    records: list[Record], tmp_path: Path
) -> None:
    first = run(records, tmp_path / "store")
    spec = read_spec(tmp_path / "store")
    assert spec is not None
    with StoreWriter(tmp_path / "store", spec):
        report = run(records, tmp_path / "store")
        assert (report.num_encoded, report.num_kept) == (0, 30)
        assert report.failures == first.failures
        with pytest.raises(StoreError, match="another process is writing"):
            run([*records, replace(records[0], image_id="new")], tmp_path / "store")


def test_only_new_and_changed_pictures_are_encoded(records: list[Record], tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert run(records[:20], store).num_encoded == 18
    report = run(records, store)
    assert (report.num_encoded, report.num_kept) == (10, 20)
    before = FeatureStore.open(store)
    old = before.pooled(before.rows(["p3", "p4"]))
    Image.new("RGB", (40, 40), "red").save(records[3].path)
    Image.new("RGB", (40, 40), "blue").save(records[8].path)  # it was missing
    assert run(records, store).num_encoded == 2
    after = FeatureStore.open(store)
    new = after.pooled(after.rows(["p3", "p4"]))
    assert not np.array_equal(old[0], new[0])
    assert np.array_equal(old[1], new[1])
    assert set(after.failures) == {"p7"}


@pytest.mark.parametrize(
    "error",
    [
        UnavailableError("1.png: input/output error"),
        MissingFormatError("heif", "1.png: is HEIC, and reading it"),
    ],
)
def test_a_picture_whose_failure_may_pass_is_tried_again(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: ImageError
) -> None:
    records, store = records[1:3], tmp_path / "store"
    run(records, store)
    pixels, whole = records[0].path.read_bytes(), FeatureStore.open(store)
    before = whole.pooled(whole.rows(["p1", "p2"]))
    Image.new("RGB", (40, 40), "red").save(records[0].path)

    def fails(path: Path, **settings: int) -> Image.Image:
        if path == records[0].path:
            raise error
        return open_image(path, **settings)

    with monkeypatch.context() as failing:
        failing.setattr(views, "open_image", fails)
        for _ in range(2):
            assert run(records, store).failures == {"p1": str(error)}
        journal = (store / "rows.jsonl").read_text().splitlines()
        assert len(journal) == 3  # a failure that is known is not noted again
        # What the store has of it is of another picture.
        assert FeatureStore.open(store).failures == {"p1": str(error)}
        with StoreWriter(store, whole.spec):  # and the store is used where it cannot be written
            assert run(records, store).failures == {"p1": str(error)}
    # Earlier versions did not say whether it may pass.
    old = [{k: v for k, v in json.loads(line).items() if k != "may_pass"} for line in journal]
    (store / "rows.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in old))
    records[0].path.write_bytes(pixels)
    os.utime(records[0].path, ns=(0, old[-1]["mtime_ns"]))
    old[-1]["size"] = len(pixels)
    (store / "rows.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in old))
    report = run(records, store)
    assert (report.num_encoded, report.failures) == (1, {})
    after = FeatureStore.open(store)
    assert np.array_equal(after.pooled(after.rows(["p1", "p2"])), before)


def test_features_of_another_precision_are_not_taken_for_these(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOWTELL_CACHE", str(tmp_path / "cache"))
    dataset = Dataset(records=tuple(records[:3]), name=str(tmp_path / "pictures"), format="folder")
    bf16, report = replace(FP32, precision="bf16"), Notes()

    def opened(runtime: Runtime, folder: Path | None = None) -> FeatureStore:
        return features_for(
            dataset,
            tiny_encoder(),
            WantedFeatures(),
            runtime=runtime,
            report=report,
            folder=folder,
        )

    rounded, exact = opened(bf16), opened(FP32)
    assert rounded.path != exact.path and opened(FP32).path == exact.path
    assert (rounded.spec.precision, exact.spec.precision) == ("bf16", "fp32")
    rows = exact.rows(["p0", "p1"])
    assert not np.array_equal(rounded.pooled(rows), exact.pooled(rows))
    # A store that is named may have any precision, which is said; an old one does not know its own.
    report.notes.clear()
    assert opened(FP32, rounded.path).spec.precision == "bf16"
    assert report.notes[-1].endswith("were computed in bf16, and this run computes in fp32")
    spec = json.loads((rounded.path / "store.json").read_text())
    del spec["precision"]
    (rounded.path / "store.json").write_text(json.dumps(spec))
    assert opened(FP32, rounded.path).spec.precision is None
    assert report.notes[-1] == f"features: {rounded.path}"
    # Nor do the names in the cache of old ones say it.
    earlier = rounded.path.with_name(rounded.path.name.replace("-bf16-", "-"))
    rounded.path.rename(earlier)
    assert opened(bf16).path == earlier
    assert opened(FP32).path == exact.path


def test_a_copy_of_a_picture_keeps_its_features(records: list[Record], tmp_path: Path) -> None:
    store = tmp_path / "store"
    run(records, store)
    rows = (store / "pooled.f16").read_bytes()
    for record in records:
        if record.path.exists():
            os.utime(record.path, ns=(5, 5))
    changed = bytearray(records[3].path.read_bytes())
    changed[-1] ^= 1  # in the last chunk, which holds no pixels
    records[3].path.write_bytes(changed)
    seen: list[Progress] = []
    report = run(records, store, progress=seen.append)
    assert (report.num_encoded, report.num_kept, set(report.failures)) == (1, 28, {"p7", "p8"})
    assert (seen[-1].done, seen[-1].total) == (29, 29)
    after = (store / "pooled.f16").read_bytes()
    assert after.startswith(rows) and len(after) == len(rows) // 64 * 65  # 64 views, and p3
    assert run(records, store).num_kept == 30  # their dates are known now


def test_views_depend_on_seed_picture_and_number_alone(
    records: list[Record], tmp_path: Path
) -> None:
    run(records, tmp_path / "a")
    run(records[::-1], tmp_path / "b", batch_size=5)
    run(records, tmp_path / "c", seed=2)
    a, b, c = (FeatureStore.open(tmp_path / name) for name in "abc")
    ids = ["p1", "p10", "p29"]
    for view in range(3):
        one, two, three = (store.pooled(store.rows(ids), view) for store in (a, b, c))
        assert np.allclose(one, two, atol=2e-3)
        assert np.allclose(one, three, atol=1e-3) == (view == 0)
    assert not np.allclose(a.pooled(a.rows(ids), 1), a.pooled(a.rows(ids), 2), atol=1e-3)


def test_another_encoder_is_refused(records: list[Record], tmp_path: Path) -> None:
    run(records[:3], tmp_path / "store")
    for encoder in (tiny_encoder(seed=9), tiny_encoder(size=40)):
        with pytest.raises(StoreError, match=r"was made by \[tiny, .*\], not by \[tiny, "):
            run(records[:3], tmp_path / "store", encoder=encoder)


def test_pooled_alone_writes_no_grid(records: list[Record], tmp_path: Path) -> None:
    run(records, tmp_path / "store", grid=False)
    assert not (tmp_path / "store" / "grid.f16").exists()


def test_too_little_room_is_said_before_work_begins(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract.shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(StoreError, match=r"needs .* GB and its disk has 0\.0 GB free"):
        run(records, tmp_path / "store")


def test_ctrl_c_keeps_what_is_done(records: list[Record], tmp_path: Path) -> None:
    run(records, tmp_path / "whole")

    def interrupt(progress: Progress) -> None:
        if progress.done > 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(records, tmp_path / "store", progress=interrupt)
    kept = len(FeatureStore.open(tmp_path / "store"))
    assert 8 <= kept <= 14
    report = run(records, tmp_path / "store")
    assert report.num_kept >= kept
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")


KILLED = """
import sys, time
sys.path[:0] = [here]
import test_extract as t
t.extract.SECONDS_BETWEEN_FLUSHES = 0
def slowly(progress):
    print(progress.done, flush=True)
    time.sleep(0.05)
t.run(t.listed(folder / "pictures"), folder / "store", progress=slowly)
"""


def test_killed_it_goes_on_to_the_same_bytes(records: list[Record], tmp_path: Path) -> None:
    run(records, tmp_path / "whole")
    output = tmp_path / "output.txt"
    output.touch()
    names = {"here": str(Path(__file__).parent), "folder": tmp_path}
    process = prepared.start(exec, KILLED, names, output=output)
    while output.read_bytes().count(b"\n") < 4:
        assert process.is_alive(), output.read_text()
        time.sleep(0.002)
    time.sleep(0.03)
    process.kill()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    kept = len(FeatureStore.open(tmp_path / "store"))
    assert 0 < kept < 28
    report = run(records, tmp_path / "store")
    assert report.num_encoded == 28 - kept
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")


def test_real_photos_with_the_default_encoder(test_data: Path, tmp_path: Path) -> None:
    encoder: Encoder = build_encoder("lite0")
    paths = sorted((test_data / "flickr8k" / "images").glob("*.jpg"))[:12]
    assert len(paths) == 12
    records = [Record(path.stem, path, ("x",), "val") for path in paths]
    runtime = Runtime("cpu", "fp32", torch.get_num_threads(), "", "")
    report = run(records, tmp_path / "store", encoder=encoder, runtime=runtime, grid=False)
    assert report.num_encoded == 12
    store = FeatureStore.open(tmp_path / "store", fingerprint=encoder.fingerprint)
    kept = store.pooled(store.rows([path.stem for path in paths]))
    views = np.stack([encoder.preprocessing.eval_view(open_image(path)) for path in paths])
    exact = encode_pixels(views, encoder, runtime)
    likeness = torch.cosine_similarity(torch.from_numpy(kept).float(), exact.pooled)
    assert likeness.min() > 0.9999


def test_threads_are_those_that_the_process_may_use() -> None:
    assert 1 <= num_workers() <= (os.cpu_count() or 1)
